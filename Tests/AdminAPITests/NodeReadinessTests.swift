import AdminAPI
import MeshModel
import Testing

@Suite struct NodeReadinessTests {
    static func snapshot(_ nodes: [NodeResource]) throws -> Snapshot {
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "test.example")
        return try builder.build(ResourceSet(nodes: nodes), instances: [])
    }

    static func reason(_ snapshot: Snapshot?, isProxyConnected: Bool = true, version: UInt64 = 1) -> String {
        NodeReadiness(
            node: "a", snapshot: snapshot, problem: nil, isProxyConnected: isProxyConnected,
            proxySnapshotVersion: version
        ).reason
    }

    @Test func nodeIsReadyOnlyWithEverythingThatConnectionsNeed() throws {
        let address = IPAddress(ipv4: 0x0a4d_0001)
        let whole = try Self.snapshot([NodeResource(name: "a", tunnelAddresses: [address])])
        #expect(Self.reason(whole) == "ready")
        #expect(Self.reason(nil) == "no snapshot: nothing read yet")
        #expect(Self.reason(whole, isProxyConnected: false, version: 0) == "the proxy is not connected")
        #expect(Self.reason(whole, version: 0) == "the proxy has no snapshot yet")
        for nodes in [
            [], [NodeResource(name: "b", tunnelAddresses: [address])], [NodeResource(name: "a", tunnelAddresses: [])],
        ] {
            let reason = Self.reason(try Self.snapshot(nodes))
            #expect(reason.hasPrefix("there is no Node resource named a with a tunnel address"), "\(reason)")
        }
    }
}
