// The fields of the policy kinds, and keys of Istio's that are refused with a reason instead of being unknown.

extension ResourceField {
    static let authorizationPolicy: [ResourceField] =
        [.init("apiVersion", "`security.istio.io/v1`", "nothing", "As Istio's files have it.")] + policyMetadata + [
            .init(
                "metadata.annotations", "mapping of texts", "none",
                "`istio.io/dry-run: \"true\"`: the policy is judged and reported, never enforced."),
            selectorField,
            .init(
                "spec.action", "`ALLOW` or `DENY`", "`ALLOW`",
                "A matching DENY rule denies. Else, where ALLOW policies select the workload, one of their rules has "
                    + "to match."),
            .init(
                "spec.rules[].from[].source.principals", "list of patterns", "anyone",
                "`<trust domain>/ns/<namespace>/sa/<service account>`. One `*` at the beginning or the end stands for "
                    + "anything; `*` alone for everyone who is authenticated. A policy without rules matches nothing; "
                    + "a rule matches where one of `from`, one of `to` and all of `when` do; the fields of one source "
                    + "must all match, one value of each is enough."),
        ] + sourceFields + [
            .init(
                "spec.rules[].to[].operation.ports", "list of ports", "any",
                "Ports of the workload, not of a service."),
            .init("spec.rules[].to[].operation.notPorts", "list of ports", "none", "None of them."),
            .init(
                "spec.rules[].when[].key", conditionKeys.map { "`\($0)`" }.joined(separator: ", "), nil,
                "What `values` and `notValues` are compared with."),
            .init("spec.rules[].when[].values", "list", "anything", "One must match."),
            .init("spec.rules[].when[].notValues", "list", "none", "None may match."),
        ]

    static let peerAuthentication: [ResourceField] =
        [.init("apiVersion", "`security.istio.io/v1`", "nothing", "As Istio's files have it.")] + policyMetadata + [
            selectorField,
            .init(
                "spec.mtls.mode", "`STRICT`, `PERMISSIVE` or `UNSET`", "`UNSET`",
                "STRICT refuses what does not come through the mesh, PERMISSIVE lets it in as nobody; UNSET is what "
                    + "the wider scope says, and STRICT where none says anything. The most specific policy holds."),
            .init(
                "spec.portLevelMtls.PORT.mode", "as `spec.mtls.mode`", "`UNSET`",
                "Of one port of the workload, which is the key. Needs a selector."),
            .init(
                "spec.exempt[].source", "address or CIDR", nil,
                "Plaintext from it passes to `port` as nobody, although the port is strict: for probes. Holds together "
                    + "with the exemptions of every other scope."),
            .init("spec.exempt[].port", "port", nil, "Port of the workload."),
        ]

    static let egressPolicy: [ResourceField] =
        policyMetadata + [
            selectorField,
            .init(
                "spec.mode", "`ALLOW`, `DENY` or `LISTED`", nil,
                "Whether the workloads may call destinations outside the mesh; LISTED: only those in `allow`. The "
                    + "most specific policy holds."),
            .init("spec.allow[].cidr", "address or CIDR", "one of the two", "Addresses that may be called."),
            .init(
                "spec.allow[].name", "name", "one of the two",
                "A DNS name that may be called; `*.` in front stands for any number of labels."),
            .init("spec.allow[].ports", "list of ports", "any", "Their ports."),
            .init(
                "spec.rawSockets", "`ALLOW` or `DENY`", "`DENY`",
                "Whether the workloads may have raw sockets although the mode restricts them, and, with any mode, "
                    + "sockets of protocols that the mesh can't judge (SCTP, DCCP, L2TP, UDP-Lite)."),
        ]

    /// Of a file of expectations, which is no resource: `docs/policy.md` has an example.
    static let policyTest: [ResourceField] = [
        .init("expectations[].from", "text", nil, "A workload, a principal, an address or `nobody`."),
        .init("expectations[].to", "text", nil, "A service or a workload; an address or a DNS name outside the mesh."),
        .init("expectations[].port", "port", nil, "Of the service, of the workload, or of the destination."),
        .init("expectations[].expect", "`allowed` or `denied`", nil, "What is to come out."),
        .init("expectations[].by", "text", "anything", "The policy that is to decide."),
    ]

    static let conditionKeys = [
        "source.ip", "source.namespace", "source.principal", "source.serviceAccount", "destination.ip",
        "destination.port",
    ]

    /// Why a key that Istio knows is refused here; nil for one that nobody knows.
    static func refusal(ofKind kind: String, under tablePath: String, key: String) -> String? {
        switch (kind, tablePath, key) {
        case ("AuthorizationPolicy", "spec.rules[].from[].source", _) where httpSources.contains(key),
            ("AuthorizationPolicy", "spec.rules[].to[].operation", _) where httpOperations.contains(key):
            httpRefusal
        case ("AuthorizationPolicy", "spec", "targetRef"), ("AuthorizationPolicy", "spec", "targetRefs"):
            "there are no waypoints to attach to; select workloads by `spec.selector`"
        case ("AuthorizationPolicy", "spec", "provider"):
            "no external authorizer is asked; write ALLOW and DENY rules"
        default: nil
        }
    }

    static let httpRefusal =
        "it can't be enforced on connections, only on HTTP requests, which are not looked into; without it the rule "
        + "would mean something else"

    // MARK: private

    private static let httpSources = [
        "requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks",
    ]
    private static let httpOperations = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"]

    private static let policyMetadata: [ResourceField] = [
        .init("metadata.name", "name", nil, "Unique among the kind in its namespace."),
        .init(
            "metadata.namespace", "name", "`default`",
            "Workloads of this namespace are selected; of every namespace where it is the `rootNamespace`."),
    ]

    private static let selectorField = ResourceField(
        "spec.selector.matchLabels", "mapping of texts", "every workload",
        "Labels: only workloads that carry all of them are selected.")

    private static let sourceFields: [ResourceField] = [
        .init("spec.rules[].from[].source.notPrincipals", "list of patterns", "none", "None of them; nobody is none."),
        .init("spec.rules[].from[].source.namespaces", "list of patterns", "any", "Namespace of the principal."),
        .init("spec.rules[].from[].source.notNamespaces", "list of patterns", "none", "None of them."),
        .init(
            "spec.rules[].from[].source.serviceAccounts", "list of names", "any",
            "`<namespace>/<name>`, or `<name>` in the policy's namespace; never a pattern."),
        .init("spec.rules[].from[].source.notServiceAccounts", "list of names", "none", "None of them."),
        .init(
            "spec.rules[].from[].source.ipBlocks", "list of addresses and CIDRs", "any",
            "Address of the client; of a tunnel's client that does not show one of its own, the peer node's."),
        .init("spec.rules[].from[].source.notIpBlocks", "list of addresses and CIDRs", "none", "None of them."),
    ]
}
