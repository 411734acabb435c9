import MeshModel

/// One of everything that a policy can say, over the names of `RandomResources`.
enum SamplePolicies {
    static func block(_ text: String) -> AddressBlock { AddressBlock(parsing: text) ?? AddressBlock(.unspecified) }
    static func pattern(_ text: String) -> TextPattern { TextPattern(parsing: text) ?? .any }

    static var authorization: [AuthorizationPolicyResource] {
        var source = AuthorizationPolicyResource.Source()
        source.principals = PolicyMatch(
            [pattern("mesh.test/ns/shop/sa/sa1"), pattern("*/sa/sa2"), pattern("mesh.test/ns/ops*")],
            not: [pattern("*")])
        source.namespaces = PolicyMatch([pattern("shop")], not: [pattern("o*"), pattern("*s")])
        source.serviceAccounts = PolicyMatch(
            [ServiceAccountName(namespace: "shop", name: "sa1")], not: [ServiceAccountName(namespace: "ops", name: "x")]
        )
        source.addresses = PolicyMatch([block("10.0.0.0/8"), block("fd00::/8")], not: [block("10.0.0.1")])
        let operation = AuthorizationPolicyResource.Operation(ports: PolicyMatch([80, 443], not: [81]))
        let rule = AuthorizationPolicyResource.Rule(
            from: [source, AuthorizationPolicyResource.Source()], to: [operation],
            when: [
                .sourceAddress(PolicyMatch([], not: [block("192.0.2.0/24")])),
                .sourceNamespace(PolicyMatch([pattern("*")])), .sourcePrincipal(PolicyMatch([pattern("*sa1")])),
                .sourceServiceAccount(PolicyMatch([ServiceAccountName(namespace: "shop", name: "sa0")])),
                .destinationAddress(PolicyMatch([block("::/0")], not: [block("::1")])),
                .destinationPort(PolicyMatch([80], not: [443])),
            ])
        return [
            AuthorizationPolicyResource(
                name: "all", namespace: "shop", selector: ["app": "v0", "tier": "v1"], action: .deny,
                rules: [rule, AuthorizationPolicyResource.Rule()]),
            AuthorizationPolicyResource(name: "nothing", namespace: "culvert-system"),
            AuthorizationPolicyResource(name: "trial", namespace: "ops", isDryRun: true, rules: [rule]),
        ]
    }

    static var peerAuthentication: [PeerAuthenticationResource] {
        [
            PeerAuthenticationResource(
                name: "default", namespace: "culvert-system", mode: .permissive,
                exemptions: [.init(source: block("10.9.0.0/16"), port: 8080)]),
            PeerAuthenticationResource(
                name: "web", namespace: "shop", selector: ["app": "v0"],
                portModes: [80: .strict, 81: .unset, 82: .permissive]),
        ]
    }

    static var egress: [EgressPolicyResource] {
        [
            EgressPolicyResource(name: "none", namespace: "ops", mode: .deny, allowsRawSockets: true),
            EgressPolicyResource(
                name: "some", namespace: "shop", mode: .listed,
                allowed: [
                    .init(.addresses(block("192.0.2.0/24")), ports: [443, 80]), .init(.name("*.example.org")),
                ]),
        ]
    }

    static func add(to resources: inout ResourceSet) {
        resources.authorizationPolicies = authorization
        resources.peerAuthentications = peerAuthentication
        resources.egressPolicies = egress
    }
}
