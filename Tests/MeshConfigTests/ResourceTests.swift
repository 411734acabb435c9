@testable import MeshConfig
import MeshModel
import Testing

@Suite struct ResourceTests {
    private func read(_ text: String) -> (declared: DeclaredResources, problems: [String]) {
        var diagnostics = Diagnostics()
        let declared = DeclaredResources(yaml: Array(text.utf8), file: "r.yaml", diagnostics: &diagnostics)
        return (declared, diagnostics.list.map(\.description))
    }

    private func problems(workload spec: String) -> [String] {
        read("kind: Workload\nmetadata: {name: w}\nspec: {\(spec)}\n").problems
    }

    @Test func readsTheDocumentedExample() throws {
        let (declared, problems) = read(ConfigurationReference.exampleResources)
        #expect(problems.isEmpty)
        let v6 = try #require(IPAddress(parsing: "fd77::2"))
        let v4 = try #require(IPAddress(parsing: "10.77.0.2"))
        #expect(declared.resources.nodes.map(\.name) == ["a", "b"])
        #expect(
            declared.workloads.last?.resource
                == WorkloadResource(
                    name: "web", namespace: "shop", serviceAccount: "web", node: "b",
                    selector: WorkloadSelector(.systemdUnit("nginx.service")), addresses: [v4, v6], ports: [8080],
                    labels: ["app": "web"]))
        #expect(
            declared.services.first?.resource.ports == [ServiceResource.Port(80, targetPort: 8080)])
        let web = try #require(declared.workloads.last)
        #expect(web.position(of: "spec.addresses[1]").line == 23)
        #expect(web.position(of: "spec.network") == web.position)
    }

    @Test func namespaceAccountAndTargetPortHaveDefaults() throws {
        let (declared, problems) = read(
            """
            kind: Workload
            metadata: {name: w}
            spec: {node: a, selector: {cgroup: /x/*, networkNamespace: lab-w3}}
            ---
            kind: Service
            metadata: {name: s}
            spec: {ports: [{port: 80}], selector: {app: x}}
            ---
            """)
        #expect(problems.isEmpty)
        let workload = try #require(declared.workloads.first?.resource)
        #expect(workload.namespace == "default" && workload.serviceAccount == "default" && workload.network.isEmpty)
        #expect(workload.selector == WorkloadSelector(.cgroup(pattern: "/x/*"), networkNamespace: "lab-w3"))
        #expect(declared.services.first?.resource.ports == [ServiceResource.Port(80, targetPort: 80)])
    }

    @Test func brokenResourcesAreReportedTogetherAndLeftOut() {
        let (declared, problems) = read(
            """
            kind: Workloda
            ---
            metadata: {name: x}
            ---
            kind: Node
            metadata: {name: a, label: {}}
            spec: {tunnelAddresses: []}
            ---
            kind: Service
            metadata: {name: s}
            spec:
              ports: [{port: 0}, {prot: 80}, {port: 80}, {port: 80}]
              selector: {}
            ---
            kind: Node
            metadata: {name: good}
            spec: {tunnelAddresses: [10.0.0.1]}
            """)
        #expect(declared.nodes.map(\.resource.name) == ["good"])
        #expect(declared.services.isEmpty)
        let expected = [
            "r.yaml:1:7: error: `kind` is the text \"Workloda\", expected one of Node, Workload, Service, "
                + "AuthorizationPolicy, PeerAuthentication, EgressPolicy; did you mean `Workload`?",
            "r.yaml:3:1: error: `kind` is missing, expected one of Node, Workload, Service, AuthorizationPolicy, "
                + "PeerAuthentication, EgressPolicy",
            "r.yaml:6:21: error: unknown key `label` in `metadata` of a Node, expected one of name",
            "r.yaml:7:25: error: `spec.tunnelAddresses` is empty, expected at least one of addresses",
            "r.yaml:12:18: error: `spec.ports[0].port` is the number 0, expected a port from 1 to 65535",
            "r.yaml:12:23: error: unknown key `prot` in `spec.ports[1]` of a Service, expected one of port, targetPort; "
                + "did you mean `port`?",
            "r.yaml:12:22: error: `spec.ports[1].port` is missing, expected a port from 1 to 65535",
            "r.yaml:12:53: error: `spec.ports[3].port` is 80 again, expected each port once",
            "r.yaml:13:13: error: `spec.selector` is empty, expected at least one label",
        ]
        #expect(problems == expected)
    }

    @Test(arguments: [
        ("node: a, selector: {cgroup: x}, addresses: [10.0.0.256]", "expected an IPv4 or IPv6 address of a host"),
        ("node: a, selector: {cgroup: x}, addresses: [127.0.0.1]", "is the loopback address"),
        ("node: a, selector: {cgroup: x}, addresses: ['fe80::1']", "is the link-local address"),
        ("node: a, selector: {cgroup: x}, addresses: ['::']", "is the unspecified address"),
        ("node: a, selector: {cgroup: x}, addresses: [224.0.0.1]", "is the multicast address"),
        ("node: a, selector: {cgroup: x}, addresses: [10.0.0.1, 10.0.0.1]", "expected each address once"),
        ("node: a, selector: {cgroup: x}, addresses: [10.0.0.1, 10.0.0.2]", "several IPv4 addresses"),
        ("node: a, selector: {cgroup: x}, addresses: 10.0.0.1", "expected a list of addresses"),
        ("node: a, selector: {cgroup: x}, ports: [80, 80]", "expected each port once"),
        ("node: a, selector: {cgroup: x}, ports: ['80']", "expected a port from 1 to 65535"),
        ("node: a, selector: {cgroup: x}, ports: [65536]", "expected a port from 1 to 65535"),
        ("node: a, selector: {}", "expected exactly one"),
        ("node: a, selector: {cgroup: x, systemdUnit: y.service}", "expected exactly one"),
        ("node: a, selector: {cgroup: x/../y}", "expected a path without"),
        ("node: a, selector: {cgroup: /}", "expected a path without"),
        ("node: a, selector: {cgroup: x/}", "expected a path without"),
        ("node: a, selector: {systemdUnit: nginx}", "expected a unit's name"),
        ("node: a, selector: {systemdUnit: a/b.service}", "expected a unit's name"),
        ("node: a", "`spec.selector` is missing"),
        ("selector: {cgroup: x}", "`spec.node` is missing"),
        ("node: [a], selector: {cgroup: x}", "`spec.node` is a list"),
        ("node: 1, selector: {cgroup: x}", "(write \"1\" if it is meant as a text)"),
        ("node: null, selector: {cgroup: x}", "`spec.node` is nothing"),
        ("node: true, selector: {cgroup: x}", "is the truth value true"),
        ("node: a, node: b, selector: {cgroup: x}", "duplicate key `node`"),
        ("node: a/b, selector: {cgroup: x}", "expected a name of letters"),
    ])
    func refusesABadWorkload(spec: String, message: String) throws {
        let found = problems(workload: spec)
        #expect(found.count == 1, "\(found)")
        let first = try #require(found.first)
        #expect(first.contains(message) && first.hasPrefix("r.yaml:3:"), "\(first)")
    }

    @Test func labelsAreTexts() {
        let (declared, problems) = read(
            "kind: Workload\nmetadata: {name: w, labels: {version: 1, app: 'ü'}}\n"
                + "spec: {node: a, selector: {cgroup: x}}\n")
        #expect(declared.workloads.isEmpty)
        #expect(problems.count == 2 && problems[0].contains("`metadata.labels.version` is the number 1"))
    }
}
