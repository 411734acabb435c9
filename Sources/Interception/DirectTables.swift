package import CMeshABI

/// The kernel side of the direct path as meshd uses it.
package struct DirectTables {
    package var verdicts: KernelTable<mesh_verdict_key, mesh_verdict>
    /// Of which meshd itself writes probes alone.
    package var vouches: KernelTable<mesh_tuple, mesh_vouch>

    package init(
        verdicts: KernelTable<mesh_verdict_key, mesh_verdict>, vouches: KernelTable<mesh_tuple, mesh_vouch>
    ) {
        self.verdicts = verdicts
        self.vouches = vouches
    }
}
