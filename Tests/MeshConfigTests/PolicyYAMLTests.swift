@testable import MeshConfig
import MeshModel
import Testing

@Suite struct PolicyYAMLTests {
    private func read(_ text: String) -> (declared: DeclaredResources, problems: [String]) {
        var diagnostics = Diagnostics()
        let declared = DeclaredResources(yaml: Array(text.utf8), file: "p.yaml", diagnostics: &diagnostics)
        return (declared, diagnostics.list.map(\.description))
    }

    @Test func policiesComeBackFromTheirText() throws {
        let text = """
            kind: AuthorizationPolicy
            metadata: {name: all, namespace: shop, annotations: {istio.io/dry-run: "true"}}
            spec:
              selector: {matchLabels: {app: web, "a b": "1"}}
              action: DENY
              rules:
                - from:
                    - source: {principals: ["t/ns/a/sa/b", "*/sa/x"], notPrincipals: ["*"], namespaces: [a]}
                    - source: {serviceAccounts: [x], ipBlocks: ["10.0.0.0/8", "fd00::1"]}
                  to: [{operation: {ports: [80], notPorts: [443]}}]
                  when: [{key: source.ip, notValues: [10.0.0.1]}, {key: destination.port, values: [80]}]
                - {}
            ---
            kind: PeerAuthentication
            metadata: {name: p, namespace: shop}
            spec:
              selector: {matchLabels: {app: web}}
              portLevelMtls: {80: {mode: PERMISSIVE}}
              exempt: [{source: 10.0.0.0/24, port: 80}]
            """
        let (first, problems) = read(text)
        #expect(problems.isEmpty, "\(problems)")
        let policy = try #require(first.authorizationPolicies.first?.resource)
        let mode = try #require(first.peerAuthentications.first?.resource)
        let (again, problemsAgain) = read(PolicyYAML.text(policy) + "---\n" + PolicyYAML.text(mode))
        #expect(problemsAgain.isEmpty, "\(problemsAgain)")
        #expect(again.authorizationPolicies.first?.resource == policy)
        #expect(again.peerAuthentications.first?.resource == mode)
        let nothing = AuthorizationPolicyResource(name: "n", namespace: "shop")
        #expect(read(PolicyYAML.text(nothing)).declared.authorizationPolicies.first?.resource == nothing)
    }

    @Test func egressPoliciesComeBackFromTheirText() throws {
        let text = """
            kind: EgressPolicy
            metadata: {name: e, namespace: shop}
            spec:
              selector: {matchLabels: {app: web}}
              mode: LISTED
              allow: [{cidr: 192.0.2.0/24}, {name: "*.example.org", ports: [443, 80]}, {cidr: "fd00::/8", ports: [1]}]
              rawSockets: ALLOW
            ---
            kind: EgressPolicy
            metadata: {name: n, namespace: shop}
            spec: {mode: DENY}
            """
        let policies = read(text).declared.egressPolicies.map(\.resource)
        let again = read(policies.map { PolicyYAML.text($0) }.joined(separator: "---\n"))
        #expect(policies.count == 2 && again.problems.isEmpty, "\(again.problems)")
        #expect(again.declared.egressPolicies.map(\.resource) == policies)
    }

    @Test func tablesOfExpectationsAreReadStrictly() throws {
        func expectations(_ text: String) -> ([PolicyExpectation], [String]) {
            var diagnostics = Diagnostics()
            let list = PolicyExpectations.read(yaml: Array(text.utf8), file: "t.yaml", diagnostics: &diagnostics)
            return (list, diagnostics.list.map(\.description))
        }
        let (list, problems) = expectations(
            """
            kind: PolicyTest
            expectations:
              - {from: shop/curl, to: shop/web, port: 80, expect: allowed}
              - {from: nobody, to: web, port: "80", expect: denied, by: shop/no}
            """)
        #expect(problems.isEmpty && list.count == 2)
        #expect(list[0].isAllowed && list[0].policy == nil && list[1].policy == "shop/no" && !list[1].isAllowed)
        #expect(list[1].position.line == 4)
        let (_, broken) = expectations(
            "kind: PolicyTest\nexpectations: [{form: a, to: b, port: 0, expect: alowed}]\n")
        #expect(broken.contains { $0.contains("unknown key `form`") && $0.contains("did you mean `from`?") })
        #expect(broken.contains { $0.contains("expected a port") })
        #expect(broken.contains { $0.contains("did you mean `allowed`?") })
        #expect(expectations("kind: Service\n").1.first?.contains("expected `PolicyTest`") == true)
        #expect(!expectations("").1.isEmpty)
    }
}
