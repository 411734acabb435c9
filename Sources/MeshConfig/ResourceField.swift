import MeshModel

/// One field of a resource kind. The reader takes its known keys, and `docs/CONFIGURATION.md` its tables, from here.
struct ResourceField: Sendable {
    /// From the document's root; `[]` behind a list.
    let path: String
    let type: String
    /// Nil: required. Else what holds without it.
    let standard: String?
    let meaning: String

    init(_ path: String, _ type: String, _ standard: String?, _ meaning: String) {
        self.path = path
        self.type = type
        self.standard = standard
        self.meaning = meaning
    }

    static let kinds = [
        "Node", "Workload", "Service", "AuthorizationPolicy", "PeerAuthentication", "EgressPolicy",
    ]

    static func fields(ofKind kind: String) -> [ResourceField] {
        switch kind {
        case "Node": node
        case "Workload": workload
        case "Service": service
        case "AuthorizationPolicy": authorizationPolicy
        case "PeerAuthentication": peerAuthentication
        case "EgressPolicy": egressPolicy
        case PolicyExpectations.kind: policyTest
        default: []
        }
    }

    /// Keys that may stand under `prefix` ("" or "spec." or "spec.ports[]."), in the order of the table.
    static func keys(ofKind kind: String, under prefix: String) -> [String] {
        var keys: [String] = prefix.isEmpty ? ["kind"] : []
        for field in fields(ofKind: kind) where field.path.hasPrefix(prefix) {
            let key = String(field.path.dropFirst(prefix.count).prefix { $0 != "." && $0 != "[" })
            if !keys.contains(key) { keys.append(key) }
        }
        return keys
    }

    private static let namespaced: [ResourceField] = [
        .init("metadata.name", "name", nil, "Unique among the kind in its namespace."),
        .init("metadata.namespace", "name", "`default`", "Part of a workload's principal."),
    ]

    private static let node: [ResourceField] = [
        .init("metadata.name", "name", nil, "Unique; `node` in the node's configuration."),
        .init(
            "spec.tunnelAddresses", "list of addresses", nil,
            "Where its tunnel port answers. The first IPv4 and the first IPv6 one are dialled; tunnels are accepted "
                + "from all of them."),
    ]

    private static let workload: [ResourceField] =
        namespaced + [
            .init("metadata.labels", "mapping of texts", "none", "What services select by."),
            .init(
                "spec.serviceAccount", "name", "`default`",
                "The principal is `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`."),
            .init("spec.node", "name", nil, "The Node that it runs on."),
            .init(
                "spec.selector.cgroup", "path pattern", "one of the two",
                "Cgroups that are this workload: relative to the node's `cgroupRoot` unless it begins with `/`; `*` "
                    + "matches within one component. Each cgroup that matches is a workload of its own."),
            .init("spec.selector.systemdUnit", "unit name", "one of the two", "The unit's cgroup, wherever it lies."),
            .init(
                "spec.selector.networkNamespace", "name", "that of the processes",
                "Network namespace under `/run/netns` that the workload's processes live in."),
            .init("spec.addresses", "list of addresses", "none", "At most one IPv4 and one IPv6 address."),
            .init(
                "spec.ports[]", "port", "any port",
                "TCP ports that it serves. Required where another workload of its network has one of its addresses."),
            .init("spec.network", "name", "the default network", "Scope of its addresses."),
        ]

    private static let service: [ResourceField] =
        namespaced + [
            .init(
                "spec.virtualAddresses", "list of addresses", "none", "Addresses that stand for it in every network."),
            .init("spec.ports[].port", "port", nil, "Port of the virtual addresses."),
            .init("spec.ports[].targetPort", "port", "`port`", "Port of the workloads."),
            .init(
                "spec.selector", "mapping of texts", nil,
                "Labels: workloads of its namespace that carry all of them are its endpoints."),
        ]
}
