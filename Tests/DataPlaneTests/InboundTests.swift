import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// What a peer may ask of a node, and what it is told when it may not.
@Suite(.serialized) struct InboundTests {
    let mesh: TestMesh
    let server = TestSocket()

    init() throws {
        mesh = try TestMesh()
        try server.listen(SocketAddress(mesh.address("server"), 0))
    }

    private func peer(
        as workload: String = "client", from source: IPAddress? = nil, expecting server: String = "server"
    ) throws -> RawPeer {
        try RawPeer(
            from: source ?? mesh.tunnelAddress("a"), to: SocketAddress(mesh.tunnelAddress("b"), mesh.tunnelPort),
            as: mesh.authority.certificate(mesh.principal(workload)), expecting: mesh.principal(server),
            trust: mesh.trustBundle)
    }

    @Test func streamIsConnectedAndRelayed() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b")
        let peer = try peer()
        let claimed = SocketAddress(mesh.address("client"), 4_242)
        try peer.sendConnect(1, .address(server.local), client: claimed)
        #expect(try peer.status(of: 1) == 200)
        let accepted = try server.accept()
        try peer.sendFrame(.data, .endStream, 1, Array("hello".utf8))
        #expect(try accepted.receiveToEnd() == Array("hello".utf8))
        #expect(SocketAddress(b.presented[0].client) == claimed)
        try accepted.send("bye")
        accepted.close()
        let data = try peer.next(.data)
        #expect(data?.payload == Array("bye".utf8))
        #expect(try peer.next(.data)?.flags.contains(.endStream) == true)
    }

    @Test func addressThatIsNotTheClientsIsNotPresented() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b")
        let peer = try peer()
        try peer.sendConnect(
            1, .address(server.local), client: SocketAddress(IPAddress(ipv4: 0x0a0b_0009), 4_242))
        #expect(try peer.status(of: 1) == 200)
        #expect(SocketAddress(b.presented[0].client).address == mesh.tunnelAddress("a"))
    }

    @Test func refusalsHaveStatusAndName() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b")
        let peer = try peer()
        let cases: [(Authority, Int, Reason)] = [
            (.address(SocketAddress(mesh.address("other"), 80)), 400, .MESH_REASON_AUTHORITY_PRINCIPAL_MISMATCH),
            (.address(SocketAddress(IPAddress(ipv4: 0x0a63_0001), 80)), 400, .MESH_REASON_AUTHORITY_UNKNOWN),
            (.address(SocketAddress(mesh.address("server"), 15_001)), 503, .MESH_REASON_AUTHORITY_MESH_PORT),
            (.address(SocketAddress(mesh.address("server"), mesh.tunnelPort)), 503, .MESH_REASON_AUTHORITY_MESH_PORT),
        ]
        var streamID: UInt32 = 1
        for (authority, status, reason) in cases {
            try peer.sendConnect(streamID, authority)
            #expect(try peer.status(of: streamID) == status)
            try b.wait("refusal") { $0.opened.count == streamID / 2 + 1 && $0.opened.last?.reason == reason }
            streamID += 2
        }
        let denied = b.seenNow.opened
        #expect(denied.count == cases.count && denied.allSatisfy { !$0.allowed && $0.direction == .inbound })
        #expect(denied.allSatisfy { $0.sourcePrincipal == mesh.principal("client") && $0.tunnel != 0 })
        #expect(denied.allSatisfy { $0.destinationPrincipal == mesh.principal("server") })
        #expect(denied[0].originalDestination == SocketAddress(mesh.address("other"), 80))
        #expect(b.seenNow.refused.isEmpty)
        var get = HeaderFields()
        get.append(":method", "GET")
        get.append(":scheme", "https")
        get.append(":path", "/")
        get.append(":authority", "server:80")
        try peer.sendHeaders(streamID, get, endsStream: true)
        #expect(try peer.status(of: streamID) == 400)
        try b.wait("refusal") { $0.refused.last?.reason == .MESH_REASON_NOT_CONNECT }
        var malformed = HeaderFields()
        malformed.append(":method", "CONNECT")
        malformed.append(":authority", "10.0.0.1:080")
        try peer.sendHeaders(streamID + 2, malformed)
        #expect(try peer.status(of: streamID + 2) == 400)
        // The tunnel itself is unharmed.
        try peer.sendConnect(streamID + 4, .address(server.local))
        #expect(try peer.status(of: streamID + 4) == 200)
    }

    @Test func serviceNamesLeadToItsEndpointOfThisTunnel() throws {
        defer { mesh.stop() }
        mesh.targetPort = server.local.port
        let b = try mesh.start("b")
        let peer = try peer()
        var streamID: UInt32 = 1
        for host in ["web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "Web.shop.svc.mesh.internal"] {
            try peer.sendConnect(streamID, .name(host, port: 80))
            #expect(try peer.status(of: streamID) == 200, "\(host)")
            streamID += 2
        }
        #expect(b.seenNow.opened.allSatisfy { $0.upstream == server.local && $0.service != .none })
        for (host, port): (String, UInt16) in [
            ("web.shop", 81), ("other.shop", 80), ("web.other", 80), ("shop", 80), ("web.shop.example.org", 80),
        ] {
            try peer.sendConnect(streamID, .name(host, port: port))
            #expect(try peer.status(of: streamID) == 503, "\(host):\(port)")
            try b.wait("refusal") { $0.refused.last?.reason == .MESH_REASON_NO_ENDPOINTS }
            streamID += 2
        }
    }

    @Test func aTunnelOfAnotherPrincipalDoesNotReachTheServicesEndpoint() throws {
        defer { mesh.stop() }
        mesh.targetPort = server.local.port
        let b = try mesh.start("b")
        let peer = try peer(expecting: "other")
        try peer.sendConnect(1, .name("web.shop", port: 80))
        #expect(try peer.status(of: 1) == 503)
        try b.wait("refusal") { $0.refused.last?.reason == .MESH_REASON_NO_ENDPOINTS }
    }

    @Test func theServiceThatThePeerNamesIsRecordedOnlyIfTheEndpointIsIts() throws {
        defer { mesh.stop() }
        mesh.targetPort = server.local.port
        let b = try mesh.start("b")
        let peer = try peer()
        for (streamID, host) in [(UInt32(1), "web.shop"), (3, "other.shop")] {
            var fields = HeaderFields()
            ConnectRequest.write(
                authority: .address(server.local), forwarded: Forwarded(client: nil, host: host), traceParent: nil,
                baggage: nil, to: &fields)
            try peer.sendHeaders(streamID, fields)
            #expect(try peer.status(of: streamID) == 200)
        }
        try b.wait("records") { $0.opened.count == 2 }
        #expect(b.seenNow.opened[0].service != .none)
        #expect(b.seenNow.opened[1].service == .none, "a peer's word alone makes a service")
    }

    @Test func strangersAreTurnedAwayBeforeTheHandshake() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b")
        #expect(throws: (any Error).self) { try peer(from: IPAddress(ipv4: 0x7f00_0001)) }
        try b.wait("refusal") { $0.refused.first?.reason == .MESH_REASON_PEER_NODE_UNKNOWN }
    }

    @Test func principalMustBeOfThatNode() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b")
        let moved = try peer(as: "other")
        #expect(try moved.next(.goAway) != nil)
        #expect(try moved.nextFrame() == nil)
        try b.wait("refusal") { $0.refused.first?.reason == .MESH_REASON_PRINCIPAL_NOT_ON_NODE }
        let unknown = try peer(as: "nobody")
        #expect(try unknown.next(.goAway) != nil)
        try b.wait("refusal") { $0.refused.last?.reason == .MESH_REASON_PRINCIPAL_UNKNOWN }
    }

    @Test func serverNameMustBeOurs() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b")
        #expect(throws: (any Error).self) { try peer(expecting: "near") }
        try b.wait("refusal") { $0.refused.first?.reason == .MESH_REASON_SNI_UNKNOWN }
    }

    @Test func silentPeerIsPingedAndEnded() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b") {
            $0.pingIntervalMilliseconds = 300
            $0.pingTimeoutMilliseconds = 300
        }
        let peer = try peer()
        #expect(try peer.next(.ping) != nil)
        #expect(try peer.next(.goAway) == nil)
        #expect(b.report().counters.reasons[UInt16(Reason.MESH_REASON_PING_TIMEOUT.rawValue)] == 1)
        #expect(b.report().tunnels.isEmpty)
    }

    @Test func lostTunnelResetsTheApplication() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b")
        let peer = try peer()
        try peer.sendConnect(1, .address(server.local))
        #expect(try peer.status(of: 1) == 200)
        let accepted = try server.accept()
        try peer.sendFrame(.data, [], 1, Array("part".utf8))
        #expect(try accepted.receiveText(4) == "part")
        peer.reset()
        #expect(accepted.errorAtEnd() == ECONNRESET)
        try b.wait("record") { $0.closed.first?.reason == .MESH_REASON_TUNNEL_LOST }
    }

    @Test func floodEndsTheTunnelByName() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b")
        let peer = try peer()
        for _ in 0..<1_200 { try? peer.sendFrame(.ping, [], 0, [UInt8](repeating: 0, count: 8)) }
        try b.wait("refusal") { $0.refused.first?.reason == .MESH_REASON_CONTROL_FLOOD }
    }

    @Test func silenceInTheHandshakeIsBounded() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b") { $0.handshakeTimeoutMilliseconds = 300 }
        let socket = TestSocket()
        try socket.bind(SocketAddress(mesh.tunnelAddress("a"), 0))
        try socket.connect(SocketAddress(mesh.tunnelAddress("b"), mesh.tunnelPort))
        #expect(socket.errorAtEnd() == 0)
        try b.wait("refusal") { $0.refused.first?.reason == .MESH_REASON_HANDSHAKE_TIMEOUT }
    }

    @Test func plainTextOnTheTunnelPortIsNamed() throws {
        defer { mesh.stop() }
        let b = try mesh.start("b")
        let socket = TestSocket()
        try socket.bind(SocketAddress(mesh.tunnelAddress("a"), 0))
        try socket.connect(SocketAddress(mesh.tunnelAddress("b"), mesh.tunnelPort))
        try socket.send("GET / HTTP/1.1\r\n\r\n")
        try b.wait("refusal") { $0.refused.first?.reason == .MESH_REASON_PLAINTEXT_ON_TUNNEL_PORT }
    }
}
