@testable import MeshConfig
import MeshModel
import Testing

@Suite struct PolicyResourceTests {
    private func read(_ text: String) -> (declared: DeclaredResources, problems: [String]) {
        var diagnostics = Diagnostics()
        let declared = DeclaredResources(yaml: Array(text.utf8), file: "p.yaml", diagnostics: &diagnostics)
        return (declared, diagnostics.list.map(\.description))
    }

    @Test func readsWhatIstioWrites() throws {
        let (declared, problems) = read(
            """
            apiVersion: security.istio.io/v1
            kind: AuthorizationPolicy
            metadata: {name: web, namespace: shop, annotations: {istio.io/dry-run: "true"}}
            spec:
              selector: {matchLabels: {app: web}}
              action: DENY
              rules:
                - from:
                    - source: {principals: ["spiffe://t/ns/shop/sa/x", "*/sa/y", "t/ns/*", "*"], notNamespaces: ["o*"]}
                    - source: {serviceAccounts: [x, ops/y], notIpBlocks: [10.0.0.0/8, "fd00::1"]}
                  to: [{operation: {ports: ["80", 443], notPorts: ["81"]}}]
                  when:
                    - {key: source.ip, notValues: ["192.0.2.0/24"]}
                    - {key: destination.port, values: ["80"]}
                - {}
            """)
        #expect(problems.isEmpty, "\(problems)")
        let policy = try #require(declared.authorizationPolicies.first?.resource)
        #expect(policy.action == .deny && policy.isDryRun && policy.selector == ["app": "web"])
        #expect(policy.rules.count == 2 && policy.rules[1] == AuthorizationPolicyResource.Rule())
        let rule = policy.rules[0]
        #expect(
            rule.from[0].principals.values == [
                .exact("t/ns/shop/sa/x"), .suffix("/sa/y"), .prefix("t/ns/"), .any,
            ])
        #expect(rule.from[0].namespaces.notValues == [.prefix("o")])
        #expect(
            rule.from[1].serviceAccounts.values == [
                ServiceAccountName(namespace: "shop", name: "x"), ServiceAccountName(namespace: "ops", name: "y"),
            ])
        #expect(rule.from[1].addresses.notValues.map(\.description) == ["10.0.0.0/8", "fd00::1"])
        #expect(rule.to == [.init(ports: PolicyMatch([80, 443], not: [81]))])
        #expect(rule.when.last == .destinationPort(PolicyMatch([80])))
        let declaredPolicy = try #require(declared.authorizationPolicies.first)
        #expect(declaredPolicy.position(of: "spec.rules[0].from[0].source.principals[1]").line == 9)
    }

    @Test func aPolicyMayAllowNothing() throws {
        let (declared, problems) = read("kind: AuthorizationPolicy\nmetadata: {name: x}\nspec: {}\n")
        #expect(problems.isEmpty)
        let policy = try #require(declared.authorizationPolicies.first?.resource)
        #expect(policy.action == .allow && policy.rules.isEmpty && !policy.isDryRun && policy.namespace == "default")
    }

    private static let refused: [(spec: String, message: String)] = [
        (
            "rules: [{from: [{source: {requestPrincipals: [a]}}]}]",
            "`requestPrincipals` in `spec.rules[0].from[0].source` of an AuthorizationPolicy is refused: it can't be"
        ),
        ("rules: [{from: [{source: {remoteIpBlocks: [10.0.0.1]}}]}]", "`remoteIpBlocks` in"),
        ("rules: [{to: [{operation: {methods: [GET]}}]}]", "`methods` in `spec.rules[0].to[0].operation`"),
        ("rules: [{to: [{operation: {hosts: [a]}}]}]", "only on HTTP requests, which are not looked into"),
        ("rules: [{to: [{operation: {paths: [a], ports: [80]}}]}]", "`paths` in"),
        ("rules: [{when: [{key: 'request.headers[x]', values: [a]}]}]", "condition `request.headers[x]` is refused"),
        ("rules: [{when: [{key: connection.sni, values: [a]}]}]", "condition `connection.sni` is refused"),
        ("rules: [{when: [{key: source.ipp, values: [a]}]}]", "`spec.rules[0].when[0].key` is the text"),
        ("rules: [{when: [{key: source.ip}]}]", "has neither `values` nor `notValues`"),
        ("rules: [{from: [{}]}]", "`spec.rules[0].from[0].source` is missing"),
        ("rules: [{from: [{source: {}}]}]", "is empty and would never match"),
        ("rules: [{from: []}]", "`spec.rules[0].from` is empty, expected at least one"),
        ("rules: [{to: [{operation: {}}]}]", "is empty and would never match"),
        ("rules: [{to: [{operation: {ports: []}}]}]", "is empty, expected at least one of values"),
        ("rules: [{from: [{source: {principal: [a]}}]}]", "did you mean `principals`?"),
        ("rules: [{from: [{source: {principals: [shop/web]}}]}]", "expected `<trust domain>/ns/<namespace>/sa/"),
        ("rules: [{from: [{source: {principals: ['t/ns/*/sa/x']}}]}]", "one `*` at its beginning or end"),
        ("rules: [{from: [{source: {principals: ['t/ns/a/sa/x ']}}]}]", "principals[0]"),
        ("rules: [{from: [{source: {namespaces: ['a*b']}}]}]", "namespaces[0]"),
        ("rules: [{from: [{source: {namespaces: [a, a]}}]}]", "again, expected each value once"),
        ("rules: [{from: [{source: {serviceAccounts: ['a/*']}}]}]", "without a `*`"),
        ("rules: [{from: [{source: {ipBlocks: [10.0.0.1/8]}}]}]", "a CIDR without bits behind its prefix"),
        ("rules: [{to: [{operation: {ports: ['http']}}]}]", "expected a port from 1 to 65535"),
        ("rules: [{to: [{operation: {ports: [0]}}]}]", "expected a port from 1 to 65535"),
        ("rules: [5]", "the number 5 in place of `spec.rules[0]`, expected a mapping"),
        ("action: AUDIT", "expected one of ALLOW, DENY: nothing is only audited"),
        ("action: Deny", "did you mean `DENY`?"),
        ("targetRefs: []", "there are no waypoints"),
        ("selector: {matchLabels: {}}", "expected at least one label"),
        ("selector: {matchLabels: {a: b}, app: web}", "unknown key `app` in `spec.selector` of an Auth"),
    ]

    @Test(arguments: refused)
    func whatCanNotBeEnforcedOrNeverMatchesIsRefusedWithItsPlace(spec: String, message: String) throws {
        let (declared, problems) = read("kind: AuthorizationPolicy\nmetadata: {name: x}\nspec: {\(spec)}\n")
        #expect(declared.authorizationPolicies.isEmpty)
        #expect(problems.count == 1, "\(problems)")
        #expect(problems.first?.contains(message) == true, "\(problems)")
        #expect(problems.first?.hasPrefix("p.yaml:3:") == true)
    }

    @Test func annotationsThatMeanNothingHereAreRefused() {
        let typo = read(
            "kind: AuthorizationPolicy\nmetadata: {name: x, annotations: {istio.io/dryrun: 'true'}}\nspec: {}\n")
        #expect(typo.problems.first?.contains("did you mean `istio.io/dry-run`?") == true)
        let value = read(
            "kind: AuthorizationPolicy\nmetadata: {name: x, annotations: {istio.io/dry-run: 'yes'}}\nspec: {}\n")
        #expect(value.problems.first?.contains("expected \"true\" or \"false\"") == true)
        #expect(value.declared.authorizationPolicies.isEmpty)
        let version = read("apiVersion: v2\nkind: AuthorizationPolicy\nmetadata: {name: x}\nspec: {}\n")
        #expect(version.problems.first?.contains("`security.istio.io/v1`") == true)
    }

    @Test func readsPeerAuthentications() throws {
        let (declared, problems) = read(
            """
            kind: PeerAuthentication
            metadata: {name: web}
            spec:
              selector: {matchLabels: {app: web}}
              mtls: {mode: UNSET}
              portLevelMtls: {80: {mode: PERMISSIVE}, "81": {mode: STRICT}, 82: {mode: UNSET}}
              exempt: [{source: 10.0.0.0/24, port: 8080}, {source: "fd00::1", port: "81"}]
            """)
        #expect(problems.isEmpty, "\(problems)")
        let resource = try #require(declared.peerAuthentications.first?.resource)
        #expect(resource.mode == .unset && resource.portModes == [80: .permissive, 81: .strict, 82: .unset])
        #expect(resource.exemptions.map(\.port) == [8080, 81])
    }

    @Test(arguments: [
        ("mtls: {mode: DISABLE}", "expected one of STRICT, PERMISSIVE, UNSET: nothing inside the mesh goes"),
        ("mtls: {mod: STRICT}", "did you mean `mode`?"),
        ("portLevelMtls: {80: {mode: STRICT}}", "without `spec.selector`"),
        ("selector: {matchLabels: {a: b}}, portLevelMtls: {http: {mode: STRICT}}", "key `http` in"),
        ("selector: {matchLabels: {a: b}}, portLevelMtls: {80: STRICT}", "expected a mapping"),
        ("exempt: [{port: 80}]", "`spec.exempt[0].source` is missing"),
        ("exempt: [{source: 10.0.0.1}]", "`spec.exempt[0].port` is missing"),
        ("exempt: [{source: kubelet, port: 80}]", "`spec.exempt[0].source` is the text \"kubelet\""),
    ])
    func brokenPeerAuthenticationsAreRefused(spec: String, message: String) {
        let (declared, problems) = read("kind: PeerAuthentication\nmetadata: {name: x}\nspec: {\(spec)}\n")
        #expect(declared.peerAuthentications.isEmpty)
        #expect(problems.count == 1 && problems.first?.contains(message) == true, "\(problems)")
    }

    @Test func readsEgressPolicies() throws {
        let (declared, problems) = read(
            """
            kind: EgressPolicy
            metadata: {name: x, namespace: shop}
            spec:
              mode: LISTED
              allow: [{cidr: 192.0.2.0/24}, {name: "*.Example.org", ports: [443]}, {name: example.org}]
            """)
        #expect(problems.isEmpty, "\(problems)")
        let resource = try #require(declared.egressPolicies.first?.resource)
        #expect(resource.mode == .listed && resource.allowed.count == 3)
        #expect(!resource.allowsRawSockets)
        #expect(resource.allowed[1] == .init(.name("*.example.org"), ports: [443]))
    }

    @Test func rawSocketsAreAllowedByTheirOwnField() throws {
        let (declared, problems) = read(
            "kind: EgressPolicy\nmetadata: {name: x, namespace: shop}\nspec: {mode: DENY, rawSockets: ALLOW}\n")
        #expect(problems.isEmpty, "\(problems)")
        #expect(declared.egressPolicies.first?.resource.allowsRawSockets == true)
    }

    @Test(arguments: [
        ("mode: LISTED", "to allow none, write mode DENY"),
        ("mode: DENY, allow: [{name: example.org}]", "expected it with mode LISTED only"),
        ("mode: DENY, rawSockets: SOME", "expected one of ALLOW, DENY"),
        ("mode: SOME", "expected one of ALLOW, DENY, LISTED"),
        ("allow: [{name: example.org}]", "`spec.mode` is missing"),
        ("mode: LISTED, allow: [{ports: [80]}]", "needs one of `cidr` and `name`"),
        ("mode: LISTED, allow: [{name: '*'}]", "expected a DNS name"),
        ("mode: LISTED, allow: [{name: 10.0.0.1}]", "expected a DNS name"),
        ("mode: LISTED, allow: [{name: a..b}]", "expected a DNS name"),
        ("mode: LISTED, allow: [{cidr: example.org}]", "expected an address or a CIDR"),
    ])
    func brokenEgressPoliciesAreRefused(spec: String, message: String) {
        let (declared, problems) = read("kind: EgressPolicy\nmetadata: {name: x}\nspec: {\(spec)}\n")
        #expect(declared.egressPolicies.isEmpty)
        #expect(problems.first?.contains(message) == true, "\(problems)")
    }
}
