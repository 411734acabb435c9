import CMeshABI
import Glibc
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// Every wait and every bound has an end, a name, and a counter that says how often.
@Suite(.serialized) struct LimitTests {
    let mesh: TestMesh
    let server = TestSocket()

    init() throws {
        mesh = try TestMesh()
        try server.listen(SocketAddress(mesh.address("server"), 0))
    }

    private func counted(_ reason: Reason, at node: TestNode) -> UInt64 {
        node.report().counters.reasons[UInt16(reason.rawValue), default: 0]
    }

    /// A client of `workload` whose bytes have arrived at `listener`.
    private func pair(
        _ node: TestNode, as workload: String = "client", _ listener: TestSocket
    ) throws -> (client: TestSocket, server: TestSocket) {
        let client = try node.connect(as: workload, to: listener.local)
        let accepted = try listener.accept()
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
        return (client, accepted)
    }

    // MARK: waits

    @Test func anUnansweredRequestTimesOut() throws {
        defer { mesh.stop() }
        let peer = try RawServer(mesh)
        let a = try mesh.start("a") {
            $0.headersTimeoutMilliseconds = 300
            $0.connectTimeoutMilliseconds = 300
        }
        let client = try a.connect(to: server.local)
        let tunnel = try peer.accept()
        _ = try tunnel.awaitConnect()
        #expect(client.errorAtEnd() == ECONNRESET)
        try a.wait("record") { $0.opened.first?.reason == .MESH_REASON_HEADERS_TIMEOUT }
        #expect(a.seenNow.opened.first?.allowed == false)
        #expect(counted(.MESH_REASON_HEADERS_TIMEOUT, at: a) == 1)
        // It is the stream's fault alone.
        let second = try a.connect(to: server.local)
        try tunnel.accept(tunnel.awaitConnect())
        try second.send("y")
        try a.wait("another") { $0.opened.last?.allowed == true }
    }

    @Test func aPeerThatFallsSilentLosesItsTunnel() throws {
        defer { mesh.stop() }
        let peer = try RawServer(mesh)
        let a = try mesh.start("a") {
            $0.pingIntervalMilliseconds = 300
            $0.pingTimeoutMilliseconds = 600
        }
        let client = try a.connect(to: server.local)
        let tunnel = try peer.accept()
        try tunnel.accept(tunnel.awaitConnect())
        // From here on it says nothing, not even to a PING.
        #expect(client.errorAtEnd() == ECONNRESET)
        try a.wait("record") { $0.closed.first?.reason == .MESH_REASON_PING_TIMEOUT }
        #expect(counted(.MESH_REASON_PING_TIMEOUT, at: a) >= 1)
        #expect(a.report().tunnels.isEmpty)
    }

    @Test func anApplicationThatDoesNotAnswerTimesOut() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a")
        let b = try mesh.start("b") { $0.connectTimeoutMilliseconds = 500 }
        // A listener with a full queue: the kernel drops further SYNs.
        let full = TestSocket()
        try full.listen(SocketAddress(mesh.address("server"), 0), backlog: 0)
        var waiting: [TestSocket] = []
        for _ in 0..<3 {
            let socket = TestSocket()
            Socket.setNonBlocking(socket.descriptor)
            try? socket.connect(full.local)
            waiting.append(socket)
        }
        usleep(100_000)
        #expect(try a.connect(to: full.local).errorAtEnd() == ECONNRESET)
        try b.wait("record") { $0.opened.first?.reason == .MESH_REASON_CONNECT_TIMEOUT }
        #expect(counted(.MESH_REASON_CONNECT_TIMEOUT, at: b) == 1)
        _ = try pair(a, server)
    }

    // MARK: places to go

    @Test func aServiceWithoutEndpointsIsRefusedByName() throws {
        defer { mesh.stop() }
        mesh.hasEmptyService = true
        let a = try mesh.start("a")
        let address = SocketAddress(TestMesh.emptyServiceAddress, 80)
        #expect(try a.connect(to: address).errorAtEnd() == ECONNRESET)
        try a.wait("record") { $0.opened.first?.reason == .MESH_REASON_NO_ENDPOINTS }
        #expect(counted(.MESH_REASON_NO_ENDPOINTS, at: a) == 1)
    }

    // MARK: tunnels

    @Test func tunnelsInUseAreNeverClosedForANewOne() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a") { $0.tunnelsMax = 1 }
        let b = try mesh.start("b")
        let other = TestSocket()
        try other.listen(SocketAddress(mesh.address("other"), 0))
        let (client, accepted) = try pair(a, server)
        #expect(try a.connect(to: other.local).errorAtEnd() == ECONNRESET)
        // The two connections' records come in either order.
        try a.wait("refusal") { $0.opened.contains { $0.reason == .MESH_REASON_TUNNEL_LIMIT } }
        #expect(counted(.MESH_REASON_TUNNEL_LIMIT, at: a) == 1)
        try accepted.send("still")
        #expect(try client.receiveText(5) == "still")
        // Once it is idle, it makes room.
        client.close()
        #expect(accepted.errorAtEnd() == 0)
        accepted.close()
        try a.wait("end") { $0.closed.count == 1 }
        try b.wait("end") { $0.closed.count == 1 }
        _ = try pair(a, other)
        #expect(a.report().tunnels.map(\.peerPrincipal) == [mesh.principal("other")])
    }

    @Test func theIdleTunnelThatWasUsedLongestAgoMakesRoom() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a") { $0.tunnelsMax = 2 }
        _ = try mesh.start("b")
        let other = TestSocket()
        try other.listen(SocketAddress(mesh.address("other"), 0))
        for listener in [server, other] {
            let (client, accepted) = try pair(a, listener)
            client.close()
            #expect(accepted.errorAtEnd() == 0)
            accepted.close()
            let count = listener === server ? 1 : 2
            try a.wait("end") { $0.closed.count == count }
            usleep(50_000)
        }
        _ = try pair(a, as: "near", other)
        let tunnels = a.report().tunnels.map { [$0.localPrincipal, $0.peerPrincipal] }
        #expect(tunnels.count == 2)
        #expect(tunnels.contains([mesh.principal("client"), mesh.principal("other")]), "the younger one is gone")
        #expect(tunnels.contains([mesh.principal("near"), mesh.principal("other")]))
        #expect(counted(.MESH_REASON_TUNNEL_LIMIT, at: a) == 0)
    }

    @Test func aTunnelAboveTheLimitIsRefusedAtTheDoor() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a")
        let b = try mesh.start("b") { $0.tunnelsMax = 1 }
        let other = TestSocket()
        try other.listen(SocketAddress(mesh.address("other"), 0))
        let (client, accepted) = try pair(a, server)
        #expect(try a.connect(to: other.local).errorAtEnd() == ECONNRESET)
        try b.wait("refusal") { $0.refused.contains { $0.reason == .MESH_REASON_TUNNEL_LIMIT } }
        #expect(counted(.MESH_REASON_TUNNEL_LIMIT, at: b) >= 1)
        try accepted.send("still")
        #expect(try client.receiveText(5) == "still")
    }

    @Test func anOverloadedProxySaysGoodbyeToIdleTunnelsAndRecovers() throws {
        defer { mesh.stop() }
        let peer = try RawServer(mesh)
        let a = try mesh.start("a") {
            $0.descriptorsMax = 100
            $0.beatIntervalMilliseconds = 50
        }
        let idle = try a.connect(to: SocketAddress(mesh.address("other"), 80))
        let idleTunnel = try peer.accept()
        try idleTunnel.accept(idleTunnel.awaitConnect())
        try a.wait("open") { $0.opened.count == 1 }
        idle.reset()
        try a.wait("end") { $0.closed.count == 1 }
        // Then so many connections that nine tenths of the descriptors are in use.
        var clients: [TestSocket] = []
        for _ in 0..<110 { clients.append(try a.connect(to: server.local)) }
        #expect(try idleTunnel.awaitGoAway() == 0)
        for _ in 0..<200 where counted(.MESH_REASON_PROXY_OVERLOADED, at: a) == 0 { usleep(10_000) }
        #expect(counted(.MESH_REASON_PROXY_OVERLOADED, at: a) > 0)
        #expect(a.beats.last == mesh_listener_state.MESH_LISTENER_OVERLOADED.rawValue)
        for client in clients { client.reset() }
        for _ in 0..<300 where a.beats.last != mesh_listener_state.MESH_LISTENER_SERVING.rawValue { usleep(10_000) }
        #expect(a.beats.last == mesh_listener_state.MESH_LISTENER_SERVING.rawValue)
        #expect(try a.connect(to: SocketAddress(mesh.address("other"), 80)).trySend([1]) == 1)
        _ = try peer.accept()
    }

    // MARK: memory

    /// Connections whose servers read nothing, until node b has no more memory for them.
    private func fill(_ a: TestNode) throws -> [(client: TestSocket, server: TestSocket, sent: Int)] {
        let chunk = [UInt8](repeating: 1, count: 1 << 20)
        let impatient = TestSocket(timeoutSeconds: 1)
        try impatient.listen(SocketAddress(mesh.address("server"), 0))
        var stopped: [(client: TestSocket, server: TestSocket, sent: Int)] = []
        for _ in 0..<40 {
            let client = try a.connect(to: impatient.local)
            guard let accepted = try? impatient.accept() else { break }
            var sent = 0
            for _ in 0..<30 {
                sent += max(client.trySend(chunk), 0)
                usleep(1_000)
            }
            stopped.append((client, accepted, sent))
        }
        #expect(!stopped.isEmpty && stopped.count < 40, "the memory never got tight")
        return stopped
    }

    @Test func streamsAreRefusedByNameWhileMemoryIsShort() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a")
        let b = try mesh.start("b") { $0.memoryBudget = 4 << 20 }
        let stopped = try fill(a)
        #expect(counted(.MESH_REASON_MEMORY_BUDGET, at: b) >= 1)
        #expect(b.seenNow.opened.contains { !$0.allowed && $0.reason == .MESH_REASON_MEMORY_BUDGET })
        #expect(b.report().counters.memoryHeld <= 5 << 20)
        #expect(counted(.MESH_REASON_SLOW_PEER, at: b) == 0, "a minute is not over")
        // Who held most may have been reset; what the others were sent is whole, once they begin to read.
        var whole = 0
        for (client, server, sent) in stopped {
            client.finish()
            var received = 0
            do {
                while case let bytes = try server.receive(262_144), !bytes.isEmpty {
                    #expect(bytes.allSatisfy { $0 == 1 })
                    received += bytes.count
                }
                #expect(received == sent, "an end before the end")
                whole += 1
            } catch let failure as TestSocket.Failure {
                #expect(failure.code == ECONNRESET && received <= sent)
            }
        }
        #expect(whole > 0)
        for _ in 0..<500 where b.report().counters.memoryHeld > 0 { usleep(20_000) }
        #expect(b.report().counters.memoryHeld == 0)
        _ = try pair(a, server)
    }

    @Test func whoHoldsMemoryTooLongIsEndedByName() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a")
        let b = try mesh.start("b") {
            $0.memoryBudget = 4 << 20
            $0.slowPeerTimeoutMilliseconds = 3_000
        }
        let stopped = try fill(a)
        try b.wait("slow peers", seconds: 20) { $0.closed.contains { $0.reason == .MESH_REASON_SLOW_PEER } }
        #expect(counted(.MESH_REASON_SLOW_PEER, at: b) >= 1)
        // Their clients learn it, the others wait on, and there is room again.
        for client in stopped.map(\.client) { client.setTimeout(1) }
        let ended = stopped.filter { $0.client.errorAtEnd() == ECONNRESET }
        #expect(!ended.isEmpty)
        _ = try pair(a, server)
    }
}
