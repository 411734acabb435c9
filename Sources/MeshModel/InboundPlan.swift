/// What the PeerAuthentications that select a workload come to.
struct InboundPlan: Hashable {
    var mode = InboundMode.strict
    var ports: [UInt16: InboundMode] = [:]
    var exemptions: [PeerAuthenticationResource.Exemption] = []

    /// From the widest scope to the most specific, each over what the one before left. Where two of one scope differ,
    /// which MeshDiscovery rejects, the strict one wins.
    init(_ selecting: [PeerAuthenticationResource], rootNamespace: String) {
        let byScope = Dictionary(grouping: selecting) { $0.scope(rootNamespace: rootNamespace) }
        var seen: Set<PeerAuthenticationResource.Exemption> = []
        for scope in byScope.keys.sorted() {
            let resources = byScope[scope] ?? []
            let modes = resources.compactMap(\.mode.mode)
            if !modes.isEmpty {
                mode = modes.contains(.strict) ? .strict : .permissive
                ports = [:]
            }
            var own: [UInt16: InboundMode] = [:]
            for (port, setting) in resources.flatMap(\.portModes) where own[port] != .strict {
                own[port] = setting.mode ?? mode
            }
            ports.merge(own) { _, own in own }
            exemptions += resources.flatMap(\.exemptions).filter { seen.insert($0).inserted }
        }
    }
}
