import MeshConfig
import MeshDiscovery
import MeshModel
import Testing

@Suite struct PolicyChecksTests {
    private static let world =
        Sample.node("a", "10.0.0.1") + Sample.workload("web", address: "10.1.0.1", ports: "80", labels: "app: web")
        + Sample.workload("curl", address: "10.1.0.2")

    private func check(_ documents: String) throws -> (messages: [String], errors: Int, resources: ResourceSet?) {
        let directory = try TemporaryDirectory()
        directory.write("r.yaml", Self.world + documents)
        let files = ResourceFiles.check(
            directory: directory.path, localNode: "a", names: MeshNames(trustDomain: "mesh.test"))
        return (files.diagnostics.list.map(\.message), files.diagnostics.errorCount, files.resources)
    }

    private static func policy(_ spec: String, name: String = "p", namespace: String = "default") -> String {
        "kind: AuthorizationPolicy\nmetadata: {name: \(name), namespace: \(namespace)}\nspec: {\(spec)}\n---\n"
    }

    private static func web(_ rule: String) -> String {
        policy("selector: {matchLabels: {app: web}}, rules: [{\(rule)}]")
    }

    @Test func policiesThatCanMatchHaveNoProblem() throws {
        let files = try check(
            Self.web(
                "from: [{source: {principals: [mesh.test/ns/default/sa/curl, '*'], namespaces: ['def*']}}], "
                    + "to: [{operation: {ports: [80], notPorts: [81]}}]")
                + Self.policy("", name: "mesh", namespace: "culvert-system"))
        #expect(files.messages.isEmpty, "\(files.messages)")
        #expect(files.resources?.authorizationPolicies.count == 2)
    }

    private static let unreachable: [(documents: String, message: String)] = [
        (
            policy("selector: {matchLabels: {app: wbe}}"),
            "AuthorizationPolicy `default/p` selects no workload, expected labels that one of namespace `default` has"
        ),
        (policy("", namespace: "defualt"), "expected a namespace that has one; did you mean `default`?"),
        (policy("action: DENY"), "has no rules and denies nothing"),
        (
            web("from: [{source: {principals: [mesh.tset/ns/default/sa/curl]}}]"),
            "is of another trust domain than `mesh.test`"
        ),
        (
            web("from: [{source: {principals: [mesh.test/ns/default/sa/crul]}}]"),
            "no workload has the principal `mesh.test/ns/default/sa/crul`: it never matches; did you mean "
                + "`mesh.test/ns/default/sa/curl`?"
        ),
        (web("from: [{source: {namespaces: [shop]}}]"), "no workload is in a namespace `shop`"),
        (web("from: [{source: {serviceAccounts: [crul]}}]"), "did you mean `default/curl`?"),
        (web("to: [{operation: {ports: [8080]}}]"), "has port 8080 in `spec.ports`: it never matches; they have 80"),
        (web("when: [{key: destination.port, values: ['8080']}]"), "has port 8080"),
        (web("when: [{key: destination.ip, values: ['10.9.0.0/16']}]"), "has an address in 10.9.0.0/16"),
        (
            web("from: [{source: {principals: ['*'], notPrincipals: ['*']}}]"),
            "every value of `spec.rules[0].from[0].source.principals` is excluded by its negation"
        ),
        (
            web("from: [{source: {ipBlocks: [10.1.0.0/16], notIpBlocks: [10.0.0.0/8]}}]"),
            "excluded by its negation"
        ),
        (web("to: [{operation: {ports: [80], notPorts: [80]}}]"), "excluded by its negation"),
        (
            "kind: PeerAuthentication\nmetadata: {name: p}\nspec: {selector: {matchLabels: {app: web}}, "
                + "exempt: [{source: 10.0.0.9, port: 9}]}\n---\n", "has port 9"
        ),
        (
            "kind: EgressPolicy\nmetadata: {name: p, namespace: shop}\nspec: {mode: DENY}\n---\n",
            "EgressPolicy `shop/p` selects no workload"
        ),
    ]

    @Test(arguments: unreachable)
    func policiesThatNeverMatchAreWarnings(documents: String, message: String) throws {
        let files = try check(documents)
        #expect(files.errors == 0 && files.resources != nil)
        #expect(files.messages.count == 1, "\(files.messages)")
        #expect(files.messages.first?.contains(message) == true, "\(files.messages)")
    }

    private static let contradictions: [(documents: String, message: String)] = [
        (policy("") + policy("action: DENY, rules: [{}]"), "a second AuthorizationPolicy `default/p`"),
        (
            "kind: PeerAuthentication\nmetadata: {name: p}\nspec: {}\n---\n"
                + "kind: PeerAuthentication\nmetadata: {name: q}\nspec: {mtls: {mode: STRICT}}\n---\n",
            "PeerAuthentication `default/q` selects the same workloads in the same scope as `default/p`"
        ),
        (
            "kind: EgressPolicy\nmetadata: {name: p}\nspec: {mode: DENY, selector: {matchLabels: {app: web}}}\n---\n"
                + "kind: Workload\nmetadata: {name: x, labels: {app: web, tier: y}}\n"
                + "spec: {node: a, selector: {cgroup: x}}\n---\n"
                + "kind: EgressPolicy\nmetadata: {name: q}\nspec: {mode: ALLOW, selector: {matchLabels: {tier: y}}}\n",
            "EgressPolicy `default/q` selects workload `default/x` in the same scope as `default/p`"
        ),
    ]

    @Test(arguments: contradictions)
    func contradictionsAreErrors(documents: String, message: String) throws {
        let files = try check(documents)
        #expect(files.errors == 1 && files.resources == nil, "\(files.messages)")
        #expect(files.messages.contains { $0.contains(message) }, "\(files.messages)")
    }
}
