import CMeshABI
import Glibc
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// What happens when something is missing, slow, full or gone.
@Suite(.serialized) struct TroubleTests {
    let mesh: TestMesh
    let server = TestSocket()

    init() throws {
        mesh = try TestMesh()
        try server.listen(SocketAddress(mesh.address("server"), 0))
    }

    private func both(_ change: (inout ProxySettings) -> Void = { _ in }) throws -> (TestNode, TestNode) {
        (try mesh.start("a", change), try mesh.start("b", change))
    }

    private func pair(_ a: TestNode) throws -> (client: TestSocket, server: TestSocket) {
        let client = try a.connect(to: server.local)
        return (client, try server.accept())
    }

    @Test func unreachableNodeResetsAtOnceAndIsFoundAgain() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a")
        #expect(try a.connect(to: server.local).errorAtEnd() == ECONNRESET)
        try a.wait("unreachable") { $0.unreachable.count == 1 }
        #expect(a.seenNow.opened.first?.reason == .MESH_REASON_TUNNEL_CONNECT_FAILED)
        #expect(try a.connect(to: server.local).errorAtEnd() == ECONNRESET)
        try a.wait("second refusal") { $0.opened.last?.reason == .MESH_REASON_ENDPOINT_UNREACHABLE }
        _ = try mesh.start("b")
        try a.wait("reachable") { $0.reachable.count == 1 }
        let (client, accepted) = try pair(a)
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
    }

    @Test func lostNodeNeverLooksLikeAnEnd() throws {
        defer { mesh.stop() }
        let (a, _) = try both()
        let (client, accepted) = try pair(a)
        try accepted.send("partial")
        #expect(try client.receiveText(7) == "partial")
        mesh.stop("b")
        #expect(client.errorAtEnd() == ECONNRESET)
        #expect(accepted.errorAtEnd() == ECONNRESET)
    }

    @Test func missingDialSocketEndsTheWaitWithItsName() throws {
        defer { mesh.stop() }
        let (a, b) = try both { $0.connectTimeoutMilliseconds = 300 }
        b.setGivesDialSockets(false)
        #expect(try a.connect(to: server.local).errorAtEnd() == ECONNRESET)
        try b.wait("record") { $0.opened.first?.reason == .MESH_REASON_NO_DIAL_SOCKET }
        b.setGivesDialSockets(true)
        // What was asked for and did not come is asked for again after a second.
        usleep(1_700_000)
        let (client, accepted) = try pair(a)
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
    }

    @Test func applicationSeesTheRealClient() throws {
        defer { mesh.stop() }
        let (a, b) = try both()
        let (client, accepted) = try pair(a)
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
        #expect(SocketAddress(b.presented[0].client) == SocketAddress(mesh.address("client"), client.local.port))
    }

    @Test func unknownDestinationIsRefusedByName() throws {
        defer { mesh.stop() }
        let (a, _) = try both()
        #expect(try a.connect(to: SocketAddress(IPAddress(ipv4: 0x0a63_0001), 80)).errorAtEnd() == ECONNRESET)
        try a.wait("record") { $0.opened.first?.reason == .MESH_REASON_NO_ROUTE }
        #expect(try a.connect(to: SocketAddress(mesh.address("server"), 15_020)).errorAtEnd() == ECONNRESET)
        try a.wait("refusal") { $0.opened.last?.reason == .MESH_REASON_PEER_REFUSED }
    }

    @Test func workloadThatIsGoneTakesItsConnectionsAlong() throws {
        defer { mesh.stop() }
        let (a, b) = try both()
        let (client, accepted) = try pair(a)
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
        b.order(.workloadGone(mesh.instance("server")))
        #expect(client.errorAtEnd() == ECONNRESET)
        try b.wait("record") { $0.closed.first?.reason == .MESH_REASON_WORKLOAD_GONE }
    }

    @Test func drainFinishesWhatIsOpen() throws {
        defer { mesh.stop() }
        let (a, b) = try both { $0.beatIntervalMilliseconds = 50 }
        let (client, accepted) = try pair(a)
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
        a.order(.drain(deadlineMilliseconds: 5_000, listenersStay: false))
        b.order(.drain(deadlineMilliseconds: 5_000, listenersStay: false))
        usleep(400_000)
        #expect(a.beats.last == mesh_listener_state.MESH_LISTENER_DRAINING.rawValue)
        try accepted.send("still")
        #expect(try client.receiveText(5) == "still")
        #expect(!a.seenNow.isDrained)
        client.close()
        #expect(accepted.errorAtEnd() == 0)
        accepted.close()
        try a.wait("drained") { $0.isDrained }
        try b.wait("drained") { $0.isDrained }
    }

    /// On node a the tunnel waits for its socket, on node b the stream for the application's.
    @Test(arguments: ["a", "b"]) func aConnectionThatIsBeingSetUpWhenADrainBeginsIsCarried(_ waiting: String) throws {
        defer { mesh.stop() }
        let (a, b) = try both { $0.beatIntervalMilliseconds = 50 }
        let node = waiting == "a" ? a : b
        node.setGivesDialSockets(false)
        let client = try a.connect(to: server.local)
        usleep(300_000)
        // Node b's listeners are nobody else's: while node a still has to dial it, it can't drain.
        for node in waiting == "a" ? [a] : [a, b] {
            node.order(.drain(deadlineMilliseconds: 0, listenersStay: node === a))
        }
        usleep(100_000)
        node.setGivesDialSockets(true)
        let accepted = try server.accept()
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
        #expect(!a.seenNow.isDrained && !b.seenNow.isDrained)
        client.close()
        accepted.close()
        try a.wait("drained") { $0.isDrained }
        if waiting == "b" { try b.wait("drained") { $0.isDrained } }
    }

    @Test func listenersAreGivenBackOnce() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a")
        a.order(.giveListeners)
        try a.wait("listeners") { $0.given.count >= 1 + a.outbound.count }
        #expect(Set(a.seenNow.given.map(\.id)).count == a.seenNow.given.count)
    }

    @Test func drainEndsAtItsDeadline() throws {
        defer { mesh.stop() }
        let (a, _) = try both { $0.beatIntervalMilliseconds = 50 }
        let (client, accepted) = try pair(a)
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
        a.order(.drain(deadlineMilliseconds: 500, listenersStay: false))
        #expect(client.errorAtEnd() == ECONNRESET)
        try a.wait("drained") { $0.isDrained }
        #expect(a.seenNow.closed.first?.reason == .MESH_REASON_DRAIN_DEADLINE)
    }

    @Test func connectionsOutliveMeshd() throws {
        defer { mesh.stop() }
        let (a, _) = try both()
        let (client, accepted) = try pair(a)
        usleep(400_000)
        a.dropConnection()
        try a.wait("second hello") { $0.hellos.count == 2 }
        let hello = a.seenNow.hellos[1]
        #expect(hello.listeners.map(\.id) == [1, 2, 99])
        #expect(hello.principals.contains(mesh.principal("client")))
        #expect(hello.connections == 1)
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
        let (second, acceptedSecond) = try pair(a)
        try second.send("y")
        #expect(try acceptedSecond.receiveText(1) == "y")
    }

    @Test func openConnectionsAreToldToANewMeshd() throws {
        defer { mesh.stop() }
        let (a, b) = try both()
        let near = TestSocket()
        try near.listen(SocketAddress(mesh.address("near"), 0))
        let (client, _) = try pair(a)
        let local = try a.connect(to: near.local)
        let acceptedLocal = try near.accept()
        try a.wait("both opened") { $0.opened.count == 2 }
        try b.wait("opened") { $0.opened.count == 1 }
        // One that is over is told to nobody.
        let (past, acceptedPast) = try pair(a)
        past.close()
        acceptedPast.close()
        try a.wait("third closed") { $0.closed.count == 1 }
        try b.wait("second closed") { $0.closed.count == 1 }
        let first = (a.seenNow.opened.filter { $0.id != a.seenNow.closed[0].id }, b.seenNow.opened[0])
        for node in [a, b] { node.dropConnection() }
        try a.wait("told again") { $0.opened.count == 5 }
        try b.wait("told again") { $0.opened.count == 3 }
        func told(_ record: ConnectionOpened) -> ConnectionOpened {
            var record = record
            // What the endpoint's address was is not kept.
            record.upstream = record.originalDestination
            // Nor is the rule that decided.
            record.decidedBy = .none
            return record
        }
        let again = a.seenNow.opened.dropFirst(3).sorted { $0.id < $1.id }
        #expect(again == first.0.map(told).sorted { $0.id < $1.id })
        #expect(again.map(\.direction) == [.outbound, .local] && again[1].dialCookie != 0)
        #expect(b.seenNow.opened[2] == told(first.1))
        _ = (client, local, acceptedLocal)
    }

    @Test func refusalOfThePeerCountsOnce() throws {
        defer { mesh.stop() }
        let (a, b) = try both()
        let unused = TestSocket()
        try unused.bind(SocketAddress(mesh.address("server"), 0))
        for count in 1...3 {
            let client = try a.connect(to: unused.local)
            #expect(client.errorAtEnd() == ECONNRESET)
            try a.wait("refused") { $0.opened.count == count }
        }
        func count(_ node: TestNode, _ reason: Reason) -> UInt64? {
            node.report().counters.reasons[UInt16(truncatingIfNeeded: reason.rawValue)]
        }
        #expect(count(a, .MESH_REASON_PEER_REFUSED) == 3)
        #expect(count(b, .MESH_REASON_CONNECT_REFUSED) == 3)
    }

    /// It accepts, and resets before the handshake: 200 ms after the first failure, then twice as long each time.
    @Test func aNodeThatDoesNotAnswerIsProbedMoreAndMoreRarely() throws {
        defer { mesh.stop() }
        let peer = TestSocket(timeoutSeconds: 1)
        try peer.listen(SocketAddress(mesh.tunnelAddress("b"), mesh.tunnelPort))
        let a = try mesh.start("a")
        let client = try a.connect(to: SocketAddress(mesh.address("other"), 80))
        var dials = 0
        let end = time(nil) + 5
        while time(nil) < end {
            guard let dialled = try? peer.accept() else { continue }
            dialled.reset()
            dials += 1
        }
        #expect(client.errorAtEnd() == ECONNRESET)
        #expect((3...8).contains(dials), "\(dials) in five seconds")
        #expect(a.seenNow.unreachable.count == 1)
    }

    @Test func tunnelsAreJudgedAgainWhenNumbersChange() throws {
        defer { mesh.stop() }
        let (a, b) = try both()
        let (client, accepted) = try pair(a)
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
        mesh.isRenumbered = true
        try a.giveSnapshot()
        try b.giveSnapshot()
        usleep(300_000)
        // A tunnel's key is in numbers: the old one serves what it has, and new connections get a new one.
        let (second, acceptedSecond) = try pair(a)
        try second.send("y")
        #expect(try acceptedSecond.receiveText(1) == "y")
        try accepted.send("z")
        #expect(try client.receiveText(1) == "z")
        #expect(a.report().tunnels.count == 2)
    }

    /// The numbers in its key may be another principal's by now.
    @Test func whatAPeerRefusesAfterNumbersChangedIsNotSentAgain() throws {
        defer { mesh.stop() }
        let peer = try RawServer(mesh)
        let a = try mesh.start("a")
        let client = try a.connect(to: SocketAddress(mesh.address("other"), 80))
        let tunnel = try peer.accept()
        _ = try tunnel.awaitConnect()
        mesh.isRenumbered = true
        try a.giveSnapshot()
        try a.wait("snapshot") { $0.snapshotsTaken == 2 }
        try tunnel.goAway(0)
        #expect(client.errorAtEnd() == ECONNRESET)
        try a.wait("record") { $0.opened.first?.reason == .MESH_REASON_TUNNEL_LOST }
        #expect(peer.acceptsNothing())
    }

    @Test func idleTunnelClosesAndComesBack() throws {
        defer { mesh.stop() }
        let (a, _) = try both { $0.idleTunnelTimeoutMilliseconds = 300 }
        let (client, accepted) = try pair(a)
        client.close()
        #expect(accepted.errorAtEnd() == 0)
        accepted.close()
        usleep(1_200_000)
        #expect(a.report().tunnels.isEmpty)
        let (second, acceptedSecond) = try pair(a)
        try second.send("y")
        #expect(try acceptedSecond.receiveText(1) == "y")
    }

    @Test func loopsShareATunnelByHandingSocketsOver() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a") { $0.loops = 2 }
        _ = try mesh.start("b")
        var pairs: [(TestSocket, TestSocket)] = []
        for index in 0..<40 {
            let client = try a.connect(to: server.local, loop: index % 2)
            pairs.append((client, try server.accept()))
        }
        #expect(a.report().tunnels.count == 1)
        for (client, accepted) in pairs {
            try client.send("x")
            #expect(try accepted.receiveText(1) == "x")
        }
    }

    @Test func fullTunnelGetsACompanion() throws {
        defer { mesh.stop() }
        let (a, _) = try both { $0.streamsPerTunnelMax = 10 }
        var pairs: [(TestSocket, TestSocket)] = []
        for _ in 0..<30 { pairs.append(try pair(a)) }
        #expect(a.report().tunnels.filter { $0.isOutbound }.count == 3)
        for pair in pairs {
            try pair.0.send("x")
        }
        for pair in pairs { #expect(try pair.1.receiveText(1) == "x") }
    }

    @Test func memoryStaysWithinTheBudget() throws {
        defer { mesh.stop() }
        let (a, b) = try both { $0.memoryBudget = 4 << 20 }
        var stopped: [(TestSocket, TestSocket)] = []
        let chunk = [UInt8](repeating: 1, count: 1 << 20)
        let impatient = TestSocket(timeoutSeconds: 1)
        try impatient.listen(SocketAddress(mesh.address("server"), 0))
        for _ in 0..<40 {
            let client = try a.connect(to: impatient.local)
            // Past 90 % new ones are refused.
            guard let accepted = try? impatient.accept() else { break }
            let pair = (client, accepted)
            stopped.append(pair)
            for _ in 0..<30 where pair.0.trySend(chunk) > 0 { usleep(1_000) }
            #expect(b.report().counters.memoryHeld <= 5 << 20)
        }
        for pair in stopped {
            pair.0.reset()
            pair.1.reset()
        }
        for _ in 0..<100 where b.report().counters.memoryHeld > 0 { usleep(20_000) }
        #expect(b.report().counters.memoryHeld == 0)
        let (client, accepted) = try pair(a)
        try client.send("x")
        #expect(try accepted.receiveText(1) == "x")
    }

    @Test func descriptorLimitStopsAcceptingAndRecovers() throws {
        defer { mesh.stop() }
        let (a, _) = try both {
            $0.descriptorsMax = 100
            $0.beatIntervalMilliseconds = 50
        }
        var pairs: [TestSocket] = []
        for _ in 0..<110 { pairs.append(try a.connect(to: server.local)) }
        for _ in 0..<200 where a.beats.last != mesh_listener_state.MESH_LISTENER_OVERLOADED.rawValue { usleep(10_000) }
        #expect(a.beats.last == mesh_listener_state.MESH_LISTENER_OVERLOADED.rawValue)
        #expect(a.report().counters.descriptors <= 100)
        // Those that the connect hook let pass before it knew: none may wait for the overload to end.
        for pair in pairs.suffix(5) { #expect(pair.errorAtEnd() == ECONNRESET) }
        #expect(a.report().counters.reasons[UInt16(Reason.MESH_REASON_PROXY_OVERLOADED.rawValue)] ?? 0 > 0)
        for pair in pairs { pair.reset() }
        pairs = []
        for _ in 0..<300 where a.beats.last != mesh_listener_state.MESH_LISTENER_SERVING.rawValue { usleep(10_000) }
        #expect(a.beats.last == mesh_listener_state.MESH_LISTENER_SERVING.rawValue)
    }
}
