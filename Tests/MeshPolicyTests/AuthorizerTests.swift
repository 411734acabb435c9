import CMeshABI
import MeshModel
import MeshPolicy
import Testing

/// Node b is this one and runs `web` and `db` behind one address, and `solo` behind its own; `curl` is on a, `cron` on
/// both.
@Suite struct AuthorizerTests {
    private let snapshot: Snapshot
    private static let nodeA = IPAddress(ipv4: 0x0a4d_0001)
    private static let shared = IPAddress(ipv4: 0x0a00_0001)
    private static let solo = IPAddress(ipv4: 0x0a00_0002)
    private static let curl = IPAddress(ipv4: 0x0a00_0003)

    init() throws {
        func workload(_ name: String, _ node: String, _ address: IPAddress, _ ports: [UInt16] = []) -> WorkloadResource
        {
            WorkloadResource(
                name: "\(name)-\(node)", namespace: "shop", serviceAccount: name, node: node,
                selector: WorkloadSelector(.cgroup(pattern: name)), addresses: [address], ports: ports)
        }
        let resources = ResourceSet(
            nodes: [
                NodeResource(name: "a", tunnelAddresses: [Self.nodeA]),
                NodeResource(name: "b", tunnelAddresses: [IPAddress(ipv4: 0x0a4d_0002)]),
            ],
            workloads: [
                workload("web", "b", Self.shared, [8080]), workload("db", "b", Self.shared, [5432]),
                workload("solo", "b", Self.solo), workload("curl", "a", Self.curl),
                workload("cron", "a", IPAddress(ipv4: 0x0a00_0004)),
                workload("cron", "b", IPAddress(ipv4: 0x0a00_0005)),
            ])
        var builder = SnapshotBuilder(localNode: "b", trustDomain: "mesh.test")
        let instances = ["web", "db", "solo"].enumerated().map { index, name in
            LocalInstance(
                resource: ResourceName(namespace: "shop", name: "\(name)-b"),
                workload: WorkloadID(rawValue: UInt32(index + 1)), networkNamespace: .node, cgroupID: UInt64(index))
        }
        snapshot = try builder.build(resources, instances: instances)
    }

    private func uri(_ account: String) -> String { "spiffe://mesh.test/ns/shop/sa/\(account)" }
    private func principal(_ account: String) -> PrincipalID { snapshot.principalID(of: uri(account)) ?? .none }
    private func node(_ name: String) -> NodeID { snapshot.allNodes.first { $0.name == name }?.id ?? .none }

    private func judge(
        _ client: String, from node: String = "a", to address: IPAddress, _ port: UInt16, server: String
    ) -> Decision {
        authorize(
            ConnectionFacts(
                clientPrincipal: principal(client), clientNode: self.node(node),
                source: SocketAddress(Self.curl, 40_000), destination: SocketAddress(address, port),
                channel: .tunnel(serverPrincipal: principal(server))),
            snapshot)
    }

    private func reason(_ decision: Decision) -> Reason? {
        if case .denied(let denial) = decision { return denial.reason }
        return nil
    }

    @Test func allowsAMemberToReachAnEndpointUnderItsPrincipal() throws {
        guard case .allowed(let permit) = judge("curl", to: Self.shared, 8080, server: "web") else {
            Issue.record("denied")
            return
        }
        #expect(permit.destinationWorkload == WorkloadID(rawValue: 1))
        #expect(permit.policyGeneration == snapshot.policyGeneration && permit.rule == .builtIn(.noPolicy))
        #expect(reason(judge("curl", to: Self.solo, 9, server: "solo")) == nil)
        #expect(reason(judge("cron", from: "b", to: Self.solo, 9, server: "solo")) == nil)
    }

    @Test func deniesWithTheReasonThatDecides() {
        #expect(reason(judge("nobody", to: Self.solo, 80, server: "solo")) == .MESH_REASON_PRINCIPAL_UNKNOWN)
        #expect(reason(judge("web", to: Self.solo, 80, server: "solo")) == .MESH_REASON_PRINCIPAL_NOT_ON_NODE)
        #expect(
            reason(judge("curl", from: "x", to: Self.solo, 80, server: "solo")) == .MESH_REASON_PRINCIPAL_NOT_ON_NODE)
        let mismatch = Reason.MESH_REASON_AUTHORITY_PRINCIPAL_MISMATCH
        #expect(reason(judge("curl", to: Self.shared, 5432, server: "web")) == mismatch)
        #expect(reason(judge("curl", to: Self.solo, 80, server: "web")) == mismatch)
        #expect(reason(judge("curl", to: Self.shared, 8081, server: "web")) == .MESH_REASON_AUTHORITY_UNKNOWN)
        #expect(reason(judge("curl", to: Self.curl, 80, server: "web")) == .MESH_REASON_AUTHORITY_UNKNOWN)
        for port: UInt16 in [15001, 15006, 15008, 15053] {
            #expect(reason(judge("curl", to: Self.solo, port, server: "solo")) == .MESH_REASON_AUTHORITY_MESH_PORT)
        }
    }

    @Test func judgesConnectionsWithinTheNode() {
        func judge(_ workload: UInt32, _ address: IPAddress) -> Decision {
            authorize(
                ConnectionFacts(
                    clientPrincipal: principal("web"), clientNode: node("b"),
                    source: SocketAddress(Self.shared, 40_000),
                    destination: SocketAddress(address, 80),
                    channel: .sameNode(destinationWorkload: WorkloadID(rawValue: workload))),
                snapshot)
        }
        #expect(reason(judge(3, Self.solo)) == nil)
        #expect(reason(judge(3, Self.shared)) == .MESH_REASON_NO_ROUTE)
        #expect(reason(judge(9, Self.solo)) == .MESH_REASON_NO_ROUTE)
    }

    @Test func admitsTunnelPeersFromWhereTheSnapshotPlacesThem() throws {
        func admission(_ account: String, _ address: IPAddress) -> Result<TunnelPeer, Denial> {
            admit(clientPrincipal: uri(account), from: PeerAddress(SocketAddress(address, 40_000)), snapshot)
        }
        func reason(_ result: Result<TunnelPeer, Denial>) -> Reason? {
            if case .failure(let denial) = result { return denial.reason }
            return nil
        }
        let peer = try admission("curl", Self.nodeA).get()
        #expect(peer.principal == principal("curl") && peer.node == node("a"))
        #expect(reason(admission("nobody", Self.nodeA)) == .MESH_REASON_PRINCIPAL_UNKNOWN)
        #expect(reason(admission("curl", Self.curl)) == .MESH_REASON_PEER_NODE_UNKNOWN)
        #expect(reason(admission("web", Self.nodeA)) == .MESH_REASON_PRINCIPAL_NOT_ON_NODE)
    }

    @Test func presentsOnlyAddressesOfTheClientsPrincipal() throws {
        let peer = SocketAddress(Self.nodeA, 40_000)
        func presented(_ claimed: SocketAddress?) -> SocketAddress {
            presentedClient(
                claimed: claimed, peer: PeerAddress(peer),
                client: TunnelPeer(principal: principal("curl"), node: node("a")),
                destination: SocketAddress(Self.solo, 80), snapshot)
        }
        #expect(presented(SocketAddress(Self.curl, 1234)) == SocketAddress(Self.curl, 1234))
        let refused = [
            nil, SocketAddress(Self.curl, 0), SocketAddress(Self.shared, 1), SocketAddress(Self.solo, 1),
            SocketAddress(IPAddress(ipv4: 0x7f00_0001), 1), SocketAddress(IPAddress(high: 0, low: 1), 1),
            SocketAddress(IPAddress(ipv4: 0x0a00_0004), 1), SocketAddress(.unspecified, 1),
        ]
        for claimed in refused { #expect(presented(claimed) == peer) }
    }
}
