import Glibc
import LinuxIO
import MeshDiscovery
import MeshModel
import Testing

@Suite struct LastGoodSnapshotTests {
    private func snapshot(node: String = "a") throws -> Snapshot {
        var builder = SnapshotBuilder(localNode: node, trustDomain: "mesh.test")
        let workload = WorkloadResource(
            name: "w", namespace: "shop", serviceAccount: "w", node: node,
            selector: WorkloadSelector(.systemdUnit("nginx.service"), networkNamespace: "x"),
            addresses: [IPAddress(ipv4: 0x0a00_0001)], labels: ["app": "x"])
        return try builder.build(
            ResourceSet(nodes: [NodeResource(name: node, tunnelAddresses: [IPAddress(ipv4: 1)])], workloads: [workload])
        )
    }

    @Test func comesBackAsItWasSaved() throws {
        let directory = try TemporaryDirectory()
        var lastGood = LastGoodSnapshot(stateDirectory: directory.path)
        #expect(try lastGood.load(localNode: "a", trustDomain: "mesh.test") == nil)
        let saved = try snapshot()
        try lastGood.save(saved)
        let loaded = try #require(try lastGood.load(localNode: "a", trustDomain: "mesh.test"))
        #expect(loaded.version == saved.version)
        #expect(ResourceSet(of: loaded) == ResourceSet(of: saved))
        #expect(try TextFile.list(directory.path).map(\.name) == ["snapshot"])
    }

    @Test func otherNodesAndDamagedFilesAreLeftAside() throws {
        let directory = try TemporaryDirectory()
        var lastGood = LastGoodSnapshot(stateDirectory: directory.path)
        try lastGood.save(try snapshot(node: "b"))
        #expect(throws: LastGoodError.foreign(path: lastGood.path, node: "b", trustDomain: "mesh.test")) {
            try lastGood.load(localNode: "a", trustDomain: "mesh.test")
        }
        #expect(throws: LastGoodError.self) { try lastGood.load(localNode: "b", trustDomain: "other") }
        var bytes = try TextFile.readBytes(lastGood.path, limitBytes: 1 << 20)
        bytes[bytes.count - 9] ^= 4
        for damaged in [bytes, Array(bytes.prefix(100)), [], Array("{}".utf8)] {
            try TextFile.replace(lastGood.path, with: damaged)
            #expect(throws: LastGoodError.self) { try lastGood.load(localNode: "b", trustDomain: "mesh.test") }
        }
    }
}
