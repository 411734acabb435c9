import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// What an application says before its CONNECT is answered: it saves a round trip, and is never lost or said twice.
@Suite(.serialized) struct EarlyDataTests {
    let mesh: TestMesh
    let peer: RawServer
    let node: TestNode
    let destination: SocketAddress

    init() throws {
        mesh = try TestMesh()
        peer = try RawServer(mesh)
        node = try mesh.start("a")
        destination = SocketAddress(mesh.address("server"), 80)
    }

    /// A tunnel with one stream open in it, so that its peer's SETTINGS are known.
    private func openTunnel() throws -> (RawServerTunnel, TestSocket) {
        let first = try node.connect(to: destination)
        let tunnel = try peer.accept()
        let streamID = try tunnel.awaitConnect()
        try tunnel.accept(streamID)
        try first.send("first")
        #expect(try tunnel.awaitData(streamID, count: 5).bytes == Array("first".utf8))
        return (tunnel, first)
    }

    private func payload(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 * 31 + $0 >> 8) } }

    @Test func theRequestSaysWhoCallsAsIstiosDoes() throws {
        defer { mesh.stop() }
        let (tunnel, client) = try openTunnel()
        #expect(tunnel.fields[":method"] == "CONNECT")
        #expect(tunnel.fields[":authority"] == destination.description)
        #expect(tunnel.fields["forwarded"] == "for=\"\(SocketAddress(mesh.address("client"), client.local.port))\"")
        #expect(
            tunnel.fields["baggage"]
                == "k8s.cluster.name=culvert,k8s.namespace.name=shop,k8s.deployment.name=client,service.name=client,"
                + "service.version=latest")
        #expect(tunnel.fields["traceparent"]?.count == 55)
    }

    @Test func goesOutBeforeTheAnswer() throws {
        defer { mesh.stop() }
        let (tunnel, _) = try openTunnel()
        let client = try node.connect(to: destination)
        try client.send("early")
        let streamID = try tunnel.awaitConnect()
        #expect(try tunnel.awaitData(streamID, count: 5).bytes == Array("early".utf8))
        try tunnel.accept(streamID)
        try tunnel.send(HostileFrame.data(streamID, Array("answer".utf8)))
        #expect(try client.receiveText(6) == "answer")
    }

    @Test func refusedStreamSaysAllOfItAgainElsewhere() throws {
        defer { mesh.stop() }
        let (tunnel, first) = try openTunnel()
        let client = try node.connect(to: destination)
        let said = payload(40_000)
        try client.send(said)
        client.finish()
        let refused = try tunnel.awaitConnect()
        let early = try tunnel.awaitData(refused)
        #expect(early.bytes == said && early.isEnded)
        try tunnel.send(HostileFrame.reset(refused, .refusedStream))
        let second = try peer.accept()
        let streamID = try second.awaitConnect()
        // The new peer's SETTINGS may come after its CONNECT: what was said may wait for the answer.
        try second.accept(streamID)
        let again = try second.awaitData(streamID)
        #expect(again.bytes == said)
        #expect(again.isEnded, "the end that was said early is lost")
        try second.send(HostileFrame.data(streamID, Array("done".utf8), ends: true))
        #expect(try client.receiveToEnd() == Array("done".utf8))
        try node.wait("record") { $0.closed.count == 1 }
        #expect(node.seenNow.closed.first?.bytesSent == 40_000, "bytes that were said twice are counted twice")
        first.close()
    }

    @Test func drainingPeerTakesNothingWithIt() throws {
        defer { mesh.stop() }
        let (tunnel, _) = try openTunnel()
        let client = try node.connect(to: destination)
        try client.send("before")
        let refused = try tunnel.awaitConnect()
        #expect(try tunnel.awaitData(refused, count: 6).bytes == Array("before".utf8))
        try tunnel.goAway(refused - 2)
        let second = try peer.accept()
        let streamID = try second.awaitConnect()
        try client.send(" and after")
        try second.accept(streamID)
        #expect(try second.awaitData(streamID, count: 16).bytes == Array("before and after".utf8))
    }

    @Test func streamThatThePeerLookedAtIsNotSaidAgain() throws {
        defer { mesh.stop() }
        let (tunnel, _) = try openTunnel()
        let client = try node.connect(to: destination)
        try client.send("once")
        let streamID = try tunnel.awaitConnect()
        #expect(try tunnel.awaitData(streamID, count: 4).bytes == Array("once".utf8))
        try tunnel.send(HostileFrame.reset(streamID, .cancel))
        #expect(client.errorAtEnd() == ECONNRESET)
        try node.wait("record") { $0.opened.contains { $0.reason == .MESH_REASON_PEER_RESET } }
    }

    @Test func afterThreeRefusalsTheApplicationIsTold() throws {
        defer { mesh.stop() }
        let (tunnel, _) = try openTunnel()
        let client = try node.connect(to: destination)
        try client.send("never")
        var current = tunnel
        for attempt in 1...3 {
            let streamID = try current.awaitConnect()
            try current.send(HostileFrame.reset(streamID, .refusedStream))
            if attempt < 3 { current = try peer.accept() }
        }
        #expect(client.errorAtEnd() == ECONNRESET)
    }
}
