import CMeshABI
import Glibc
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// Two proxies, one tunnel, real sockets.
@Suite(.serialized) struct RelayTests {
    let mesh: TestMesh
    let a: TestNode
    let b: TestNode
    let server = TestSocket()

    init() throws {
        mesh = try TestMesh()
        a = try mesh.start("a")
        b = try mesh.start("b")
        try server.listen(SocketAddress(mesh.address("server"), 0))
    }

    private func pair() throws -> (client: TestSocket, server: TestSocket) {
        let client = try a.connect(to: server.local)
        return (client, try server.accept())
    }

    @Test func bytesPassBothWays() throws {
        defer { mesh.stop() }
        let (client, accepted) = try pair()
        try client.send("hello")
        #expect(try accepted.receiveText(5) == "hello")
        try accepted.send("world")
        #expect(try client.receiveText(5) == "world")
        client.finish()
        #expect(try accepted.receiveToEnd().isEmpty)
        accepted.close()
        #expect(client.errorAtEnd() == 0)
        try a.wait("record") { $0.closed.count == 1 }
        try b.wait("record") { $0.closed.count == 1 }
        let opened = a.seenNow.opened[0]
        #expect(opened.allowed && opened.direction == .outbound && opened.tunnel != 0)
        #expect(opened.sourcePrincipal == mesh.principal("client"))
        #expect(opened.destinationPrincipal == mesh.principal("server"))
        let closed = b.seenNow.closed[0]
        #expect(closed.bytesSent == 5 && closed.bytesReceived == 5 && closed.reason == .MESH_REASON_NONE)
    }

    @Test func acceptedSocketsHaveTheOptionsOfApplications() throws {
        defer { mesh.stop() }
        for _ in 0..<5 { _ = try pair() }
        #expect(a.acceptedOptions == Array(repeating: ApplicationOptions(), count: 5))
    }

    @Test func serverMaySpeakFirst() throws {
        defer { mesh.stop() }
        let (client, accepted) = try pair()
        try accepted.send("220 ready")
        #expect(try client.receiveText(9) == "220 ready")
    }

    @Test func clientThatFinishedStillReceives() throws {
        defer { mesh.stop() }
        let (client, accepted) = try pair()
        try client.send("question")
        client.finish()
        #expect(try accepted.receiveToEnd().count == 8)
        try accepted.send([UInt8](repeating: 7, count: 300_000))
        accepted.close()
        #expect(try client.receiveToEnd().count == 300_000)
    }

    @Test func serverThatFinishedStillReceives() throws {
        defer { mesh.stop() }
        let (client, accepted) = try pair()
        accepted.finish()
        #expect(try client.receiveToEnd().isEmpty)
        try client.send("late")
        #expect(try accepted.receiveText(4) == "late")
        client.close()
        #expect(accepted.errorAtEnd() == 0)
    }

    @Test func resetOfTheClientReachesTheServer() throws {
        defer { mesh.stop() }
        let (client, accepted) = try pair()
        // There and back: then both ends know that it is open.
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
        try accepted.send("y")
        #expect(try client.receiveText(1) == "y")
        client.reset()
        #expect(accepted.errorAtEnd() == ECONNRESET)
        try a.wait("record") { $0.closed.first?.reason == .MESH_REASON_APPLICATION_RESET }
        try b.wait("record") { $0.closed.first?.reason == .MESH_REASON_PEER_RESET }
    }

    @Test func resetOfTheServerReachesTheClient() throws {
        defer { mesh.stop() }
        let (client, accepted) = try pair()
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
        accepted.reset()
        #expect(client.errorAtEnd() == ECONNRESET)
    }

    @Test func refusedConnectionResetsTheClient() throws {
        defer { mesh.stop() }
        let closed = TestSocket()
        try closed.bind(SocketAddress(mesh.address("server"), 0))
        let client = try a.connect(to: closed.local)
        #expect(client.errorAtEnd() == ECONNRESET)
        try b.wait("record") { $0.opened.first?.reason == .MESH_REASON_CONNECT_REFUSED }
        try a.wait("record") { $0.opened.first?.reason == .MESH_REASON_PEER_REFUSED }
    }

    @Test func largeTransfersArriveWhole() throws {
        defer { mesh.stop() }
        let (client, accepted) = try pair()
        let payload = (0..<16_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 13) }
        let up = TestThread {
            try? client.send(payload)
            client.finish()
        }
        let down = TestThread { try? accepted.send(payload) }
        let echo = TestThread {
            if let got = try? client.receive(exactly: payload.count) {
                #expect(got == payload)
            } else {
                Issue.record("the download broke")
            }
        }
        #expect(try accepted.receiveToEnd() == payload)
        up.join()
        down.join()
        echo.join()
    }

    @Test func thousandConnectionsShareOneTunnel() throws {
        defer { mesh.stop() }
        var pairs: [(TestSocket, TestSocket)] = []
        for _ in 0..<1_000 { pairs.append(try pair()) }
        for (index, pair) in pairs.enumerated() { try pair.0.send("\(index % 10)") }
        // Accepts need not come in the order of connects: only one byte is expected of each.
        for pair in pairs { _ = try pair.1.receive(exactly: 1) }
        let report = a.report()
        #expect(report.tunnels.filter { $0.isOutbound }.count == 1)
        #expect(report.tunnels.first?.streams == 1_000)
        #expect(report.counters.connections == 1_000)
        // The TLS library keeps its buffers until the tunnel has been idle for a moment.
        for _ in 0..<100 where a.report().counters.memoryHeld > 0 { usleep(20_000) }
        #expect(a.report().counters.memoryHeld == 0)
    }

    @Test func stoppedReadersDoNotStallOthers() throws {
        defer { mesh.stop() }
        var stopped: [(TestSocket, TestSocket)] = []
        for _ in 0..<8 {
            let pair = try pair()
            stopped.append(pair)
            let chunk = [UInt8](repeating: 1, count: 1 << 20)
            for _ in 0..<50 where pair.0.trySend(chunk) > 0 { usleep(2_000) }
        }
        let (client, accepted) = try pair()
        for _ in 0..<20 {
            try client.send("ping")
            #expect(try accepted.receiveText(4) == "ping")
            try accepted.send("pong")
            #expect(try client.receiveText(4) == "pong")
        }
    }

    @Test func sameNodeIsRelayedWithoutTunnel() throws {
        defer { mesh.stop() }
        let near = TestSocket()
        try near.listen(SocketAddress(mesh.address("near"), 0))
        let client = try a.connect(to: near.local)
        let accepted = try near.accept()
        try accepted.send("banner")
        #expect(try client.receiveText(6) == "banner")
        let payload = [UInt8](repeating: 9, count: 3_000_000)
        let sender = TestThread {
            try? client.send(payload)
            client.finish()
        }
        #expect(try accepted.receiveToEnd().count == payload.count)
        sender.join()
        try accepted.send("bye")
        accepted.close()
        #expect(try client.receiveToEnd() == Array("bye".utf8))
        try a.wait("record") { $0.closed.count == 1 }
        #expect(a.seenNow.opened[0].direction == .local)
        #expect(a.report().tunnels.isEmpty)
    }

    @Test func resetPassesALocalRelay() throws {
        defer { mesh.stop() }
        let near = TestSocket()
        try near.listen(SocketAddress(mesh.address("near"), 0))
        let client = try a.connect(to: near.local)
        let accepted = try near.accept()
        try accepted.send("x")
        #expect(try client.receiveText(1) == "x")
        client.reset()
        #expect(accepted.errorAtEnd() == ECONNRESET)
    }
}
