package import CMeshABI
package import LinuxIO

/// The kernel side of capture_inbound as meshd uses it: its maps, and its programs in the network namespaces.
package struct InboundTables {
    /// Modes of ports that differ from their workload's.
    package var ports: KernelTable<mesh_inbound_port, UInt32>
    package var exemptions: KernelTable<mesh_source_key, UInt32>
    /// Who may send datagrams to workloads that did not ask for them.
    package var datagramSources: KernelTable<mesh_source_key, UInt32>
    /// Where plain text that a workload takes goes: a listener of the proxy. It leaves by itself when it closes.
    package var setListener: (mesh_inbound_key, borrowing FileDescriptor) throws(IOError) -> Void
    /// Of a network namespace that is gone, by its cookie.
    package var forgetBeat: (UInt64) throws(IOError) -> Void
    /// Puts the program to work in the namespace with this cookie; costs nothing where it is at work already.
    package var attach: (UInt64, borrowing NetworkNamespace) throws(IOError) -> Void
    package var detach: (UInt64) -> Void
    /// Where it is, put there by this meshd or an earlier one.
    package var attached: () -> Set<UInt64>

    package init(
        ports: KernelTable<mesh_inbound_port, UInt32>, exemptions: KernelTable<mesh_source_key, UInt32>,
        datagramSources: KernelTable<mesh_source_key, UInt32>,
        setListener: @escaping (mesh_inbound_key, borrowing FileDescriptor) throws(IOError) -> Void,
        forgetBeat: @escaping (UInt64) throws(IOError) -> Void,
        attach: @escaping (UInt64, borrowing NetworkNamespace) throws(IOError) -> Void,
        detach: @escaping (UInt64) -> Void, attached: @escaping () -> Set<UInt64>
    ) {
        self.ports = ports
        self.exemptions = exemptions
        self.datagramSources = datagramSources
        self.setListener = setListener
        self.forgetBeat = forgetBeat
        self.attach = attach
        self.detach = detach
        self.attached = attached
    }
}
