import MeshConfig
import MeshDiscovery
import MeshModel
import Testing

@Suite struct ResourceChecksTests {
    private static let nodes = Sample.node("a", "10.0.0.1") + Sample.node("b", "10.0.0.2")

    private func check(_ text: String) throws -> ResourceFiles {
        let directory = try TemporaryDirectory()
        directory.write("r.yaml", text)
        var files = ResourceFiles.check(directory: directory.path, localNode: "a")
        // Messages without the directory, which has another name each time.
        var short = Diagnostics()
        for diagnostic in files.diagnostics.list {
            var copy = diagnostic
            copy.position.file = diagnostic.position.file.hasSuffix("/r.yaml") ? "r.yaml" : "."
            short.add(copy)
        }
        files.diagnostics = short
        return files
    }

    @Test func theDocumentedExampleHasNoProblem() throws {
        let files = try check(ConfigurationReference.exampleResources)
        #expect(files.diagnostics.list.isEmpty)
        #expect(files.resources?.workloads.count == 2 && files.fileCount == 1)
    }

    struct Contradiction: Sendable {
        var documents: [String]
        var message: String

        init(_ documents: String..., message: String) {
            self.documents = documents
            self.message = message
        }
    }

    private static let contradictions: [Contradiction] = [
        Contradiction(Sample.node("a", "10.0.0.9"), message: "a second Node `a`, expected one; the first is at"),
        Contradiction(
            Sample.workload("w"), Sample.workload("w", cgroup: "x"), message: "a second Workload `default/w`"),
        Contradiction(Sample.node("c", "10.0.0.2"), message: "tunnel address 10.0.0.2 belongs to node `b` already"),
        Contradiction(
            Sample.workload("w", node: "bb"),
            message: "no Node is named `bb`, expected the name of a Node; did you mean `b`?"),
        Contradiction(Sample.workload("w", address: "10.0.0.2"), message: "is a tunnel address of node `b`"),
        Contradiction(
            Sample.workload("v", address: "10.1.0.1", ports: "80"), Sample.workload("w", address: "10.1.0.1"),
            message: "workload `default/w` shares the address 10.1.0.1, expected `spec.ports`"),
        Contradiction(
            Sample.workload("v", address: "10.1.0.1", ports: "80"),
            Sample.workload("w", address: "10.1.0.1", ports: "81, 80"),
            message: "port 80 of the shared address 10.1.0.1 belongs to `default/v` already"),
        Contradiction(
            Sample.workload("v", address: "10.1.0.1", ports: "80"),
            Sample.workload("w", node: "b", address: "10.1.0.1", ports: "81"),
            message: "belongs to `default/v` on node `a` already, expected one place in a network"),
        Contradiction(
            Sample.workload("v", address: "10.1.0.1", ports: "80", networkNamespace: "x"),
            Sample.workload("w", address: "10.1.0.1", ports: "81", networkNamespace: "y"),
            message: "in another network namespace already, expected one place"),
        Contradiction(
            Sample.workload("v", address: "10.1.0.1", account: "s"),
            Sample.workload("w", address: "10.1.0.1", network: "blue", account: "s"),
            message: "tunnels can't tell them apart, expected another service account"),
        Contradiction(
            Sample.workload("v", cgroup: "x/*"), Sample.workload("w", cgroup: "x/*"),
            message: "selects the same processes as"),
        Contradiction(Sample.workload("w", ports: "15006"), message: "port 15006 is one of the mesh's own"),
    ]

    @Test(arguments: contradictions)
    func contradictionsAreErrorsWithTheirPlace(contradiction: Contradiction) throws {
        let files = try check(Self.nodes + contradiction.documents.joined())
        #expect(files.resources == nil)
        let errors = files.diagnostics.list.filter { $0.severity == .error }
        #expect(errors.count == 1, "\(errors)")
        let error = try #require(errors.first)
        #expect(error.message.contains(contradiction.message), "\(error)")
        #expect(error.position.line > 8)
    }

    @Test(arguments: [
        ("10.9.0.1", "virtual address 10.9.0.1 belongs to service `default/s` already"),
        ("10.1.0.1", "virtual address 10.1.0.1 is the address of workload `default/w`"),
        ("10.0.0.2", "virtual address 10.0.0.2 is a tunnel address of node `b`"),
    ])
    func virtualAddressesBelongToOneServiceAlone(address: String, message: String) throws {
        let files = try check(
            Self.nodes + Sample.workload("w", address: "10.1.0.1", labels: "app: x")
                + Sample.service("s", address: "10.9.0.1", selector: "app: x")
                + Sample.service("t", address: address, selector: "app: x"))
        #expect(files.resources == nil)
        #expect(files.diagnostics.list.count == 1)
        #expect(files.diagnostics.list.first?.message.contains(message) == true)
    }

    @Test func servicesWithoutEndpointsAreWarnings() throws {
        let files = try check(
            Self.nodes + Sample.workload("w", address: "10.1.0.1", ports: "80", labels: "app: x")
                + Sample.workload("v", labels: "app: x")
                + Sample.service("s", address: "10.9.0.1", selector: "app: none")
                + Sample.service("t", address: "10.9.0.2", selector: "app: x"))
        #expect(files.resources != nil)
        let messages = files.diagnostics.list.map(\.message)
        #expect(messages.count == 3 && files.diagnostics.errorCount == 0)
        #expect(messages[0].contains("selects no workload"))
        #expect(messages.contains { $0.contains("which has no address") })
        #expect(messages.contains { $0.contains("does not list in `spec.ports`") })
    }

    @Test func sameAddressIsFineInOtherNetworksAndBehindOtherPorts() throws {
        let files = try check(
            Self.nodes + Sample.workload("v", address: "10.1.0.1", ports: "80")
                + Sample.workload("w", address: "10.1.0.1", ports: "81")
                + Sample.workload("x", node: "b", address: "10.1.0.1", network: "blue"))
        #expect(files.diagnostics.list.isEmpty)
    }

    @Test func aNodeWithoutItsResourceIsWarned() throws {
        let files = try check(Sample.node("b", "10.0.0.2"))
        #expect(files.resources != nil)
        #expect(files.diagnostics.list.first?.description.hasPrefix(".:1:1: warning: no Node is named `a`") == true)
    }

    @Test func missingDirectoryAndUnreadableFilesAreErrors() throws {
        let missing = ResourceFiles.check(directory: "/nonexistent/culvert", localNode: "a")
        #expect(missing.resources == nil && missing.diagnostics.errorCount == 1)
        let directory = try TemporaryDirectory()
        directory.write("a.yaml", "kind: [\n")
        directory.write("b.yml", "kind: Nodee\n")
        directory.write(".hidden.yaml", "kind: [\n")
        directory.write("#x.yaml", "kind: [\n")
        directory.write("old.yaml~", "kind: [\n")
        directory.write("notes.txt", "kind: [\n")
        let files = ResourceFiles.check(directory: directory.path, localNode: "a")
        #expect(files.fileCount == 2 && files.diagnostics.errorCount == 2)
    }

    @Test func tenThousandWorkloadsOfOneAddressAreJudgedQuickly() throws {
        var text = Self.nodes
        for number in 0..<5_000 { text += Sample.workload("w\(number)", address: "10.1.0.1", ports: "80") }
        let clock = ContinuousClock()
        var files: ResourceFiles?
        let time = try clock.measure { files = try check(text) }
        #expect(files?.resources == nil)
        // Generous: this is a debug build on a shared machine.
        #expect(time < .seconds(30))
        print("5,000 workloads read and checked in \(time)")
    }
}
