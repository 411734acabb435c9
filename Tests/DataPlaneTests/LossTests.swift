import CLinux
import CMeshABI
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// How a tunnel learns that lost packets bound it.
@Suite struct PathEstimateTests {
    /// A path of `roundTrip` seconds over which `rate` bytes a second go for `seconds`, looked at four times in each.
    private func estimate(
        rate: Double, loss: Double, roundTrip: Double, isReceiver: Bool = false, overtaken: Double = 0,
        seconds: Int = 4
    ) -> PathEstimate {
        var estimate = PathEstimate()
        var statistics = clinux_tcp_statistics()
        (statistics.segment_size, statistics.rtt_us) = (1_448, UInt32(roundTrip * 1e6))
        estimate.add(statistics, moved: 0, now: 1)
        for sample in 1...seconds * 4 {
            let packets = rate / 1_448 * Double(sample) / 4
            if isReceiver {
                statistics.segments_received = UInt32(packets)
                // A round trip's worth of packets behind each that is missing.
                let behind = max(1, rate / 1_448 * roundTrip)
                statistics.out_of_order = UInt32(packets * (loss * behind + overtaken))
            } else {
                statistics.segments_sent = UInt32(packets)
                statistics.retransmits = UInt32(packets * loss)
            }
            estimate.add(statistics, moved: UInt64(rate / 4), now: 1 + UInt64(sample) * 250_000_000)
        }
        return estimate
    }

    @Test(arguments: [false, true]) func bulkThatGoesAsFastAsItsLossesLetItIsBound(isReceiver: Bool) {
        #expect(estimate(rate: 800_000, loss: 0.01, roundTrip: 0.02, isReceiver: isReceiver).isBoundByLoss)
        #expect(estimate(rate: 8_000_000, loss: 0.001, roundTrip: 0.005, isReceiver: isReceiver).isBoundByLoss)
    }

    @Test(arguments: [false, true]) func whatNeedsFarLessThanItCouldHaveIsNot(isReceiver: Bool) {
        #expect(!estimate(rate: 200_000, loss: 0.01, roundTrip: 0.02, isReceiver: isReceiver).isBoundByLoss)
    }

    @Test func aBoundBeyondWhatALoopCarriesIsNone() {
        #expect(!estimate(rate: 60_000_000, loss: 0.01, roundTrip: 0.000_1).isBoundByLoss)
    }

    @Test func withoutLossesThereIsNoBound() {
        #expect(!estimate(rate: 800_000, loss: 0, roundTrip: 0.02).isBoundByLoss)
        #expect(!PathEstimate().isBoundByLoss)
        // Two of them prove nothing.
        #expect(!estimate(rate: 800_000, loss: 0.001, roundTrip: 0.1).isBoundByLoss)
    }

    @Test func packetsThatOvertakeEachOtherAreNotLost() {
        let estimate = estimate(rate: 20_000_000, loss: 0, roundTrip: 0.02, isReceiver: true, overtaken: 0.9)
        #expect(!estimate.isBoundByLoss)
    }

    @Test func silenceDoesNotLowerTheRate() {
        var estimate = estimate(rate: 800_000, loss: 0.01, roundTrip: 0.02)
        for second in 5...600 { estimate.pause(UInt64(second) * 1_000_000_000) }
        var statistics = clinux_tcp_statistics()
        (statistics.segment_size, statistics.rtt_us) = (1_448, 20_000)
        (statistics.segments_sent, statistics.retransmits) = (2_350, 23)
        estimate.add(statistics, moved: 200_000, now: 600_250_000_000)
        #expect(estimate.isBoundByLoss)
    }

    @Test func noCountersMakeItTrap() {
        var random = SplitMix(state: 7)
        var estimate = PathEstimate()
        for step in 0..<10_000 as Range<UInt64> {
            var statistics = clinux_tcp_statistics()
            statistics.rtt_us = UInt32(truncatingIfNeeded: random.next()) >> (random.next() % 33)
            statistics.segment_size = UInt32(truncatingIfNeeded: random.next()) >> (random.next() % 33)
            statistics.segments_sent = UInt32(truncatingIfNeeded: random.next())
            statistics.segments_received = UInt32(truncatingIfNeeded: random.next())
            statistics.out_of_order = UInt32(truncatingIfNeeded: random.next())
            statistics.retransmits = UInt32(truncatingIfNeeded: random.next())
            estimate.add(statistics, moved: random.next(), now: random.next() % (step + 1))
            _ = estimate.isBoundByLoss
        }
    }
}

/// What it does then.
@Suite final class LossTests {
    let mesh: TestMesh
    let server = TestSocket()

    init() throws {
        mesh = try TestMesh()
        try server.listen(SocketAddress(mesh.address("server"), 0))
    }

    private func pair(_ node: TestNode) throws -> (client: TestSocket, server: TestSocket) {
        let client = try node.connect(to: server.local)
        return (client, try server.accept())
    }

    /// Some 2 MB/s for two seconds, where 630 KB/s is what twenty losses of a thousand would leave.
    private func transfer(_ pair: (client: TestSocket, server: TestSocket)) throws {
        let chunk = [UInt8](repeating: 1, count: 20_000)
        for _ in 0..<200 {
            try pair.client.send(chunk)
            #expect(try pair.server.receive(exactly: chunk.count) == chunk)
            usleep(10_000)
        }
    }

    private func expectWorks(_ pair: (client: TestSocket, server: TestSocket)) throws {
        try pair.client.send("to")
        #expect(try pair.server.receiveText(2) == "to")
        try pair.server.send("fro")
        #expect(try pair.client.receiveText(3) == "fro")
    }

    private func streams(_ node: TestNode) -> [UInt32] {
        node.report().tunnels.filter(\.isOutbound).map(\.streams).sorted()
    }

    @Test func underLossStreamsGetTunnelsOfTheirOwnUntilThereAreEnough() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a") { $0.tunnelsUnderLossMax = 3 }
        _ = try mesh.start("b")
        a.setLosses(20)
        var pairs = [try pair(a), try pair(a)]
        #expect(streams(a) == [2], "nothing is known yet")
        try transfer(pairs[0])
        for _ in 0..<2 { pairs.append(try pair(a)) }
        #expect(streams(a) == [1, 1, 2])
        for _ in 0..<5 { pairs.append(try pair(a)) }
        #expect(streams(a) == [3, 3, 3])
        #expect(a.report().counters.tunnelsUnderLossTotal == 2)
        for pair in pairs { try expectWorks(pair) }
        // A tunnel that has become empty is used before the others.
        let ended = pairs.removeLast()
        ended.client.close()
        #expect(ended.server.errorAtEnd() == 0)
        ended.server.close()
        for _ in 0..<200 where streams(a) != [2, 3, 3] { usleep(10_000) }
        pairs.append(try pair(a))
        #expect(streams(a) == [3, 3, 3])
    }

    @Test func withoutLossOneTunnelCarriesAll() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a")
        _ = try mesh.start("b")
        let pairs = [try pair(a), try pair(a)]
        try transfer(pairs[0])
        let last = try pair(a)
        #expect(streams(a) == [3])
        try expectWorks(last)
    }

    @Test func oneTunnelIsTheLimitWhereThatIsConfigured() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a") { $0.tunnelsUnderLossMax = 1 }
        _ = try mesh.start("b")
        a.setLosses(20)
        let first = try pair(a)
        try transfer(first)
        let second = try pair(a)
        #expect(streams(a) == [2])
        try expectWorks(second)
    }

    @Test func halfOfAllTunnelsAreKeptForOthers() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a") { $0.tunnelsMax = 4 }
        _ = try mesh.start("b")
        a.setLosses(20)
        var pairs = [try pair(a)]
        try transfer(pairs[0])
        for _ in 0..<3 { pairs.append(try pair(a)) }
        #expect(streams(a) == [2, 2])
        for pair in pairs { try expectWorks(pair) }
    }

    @Test func aTunnelMoreThatThePeerRefusesCostsNoConnection() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a")
        let b = try mesh.start("b") { $0.tunnelsMax = 1 }
        a.setLosses(20)
        var pairs = [try pair(a)]
        try transfer(pairs[0])
        for _ in 0..<3 { pairs.append(try pair(a)) }
        #expect(streams(a) == [4])
        try b.wait("refusal") { $0.refused.contains { $0.reason == .MESH_REASON_TUNNEL_LIMIT } }
        for pair in pairs { try expectWorks(pair) }
        #expect(a.seenNow.unreachable.isEmpty)
        #expect(a.seenNow.opened.allSatisfy { $0.allowed })
        // It was tried once: the next try has time.
        #expect(b.seenNow.refused.count == 1)
        #expect(a.report().counters.tunnelsUnderLossTotal == 0)
    }

    @Test func whatWaitsForATunnelThatNeverOpensGoesOnInAnother() throws {
        defer { mesh.stop() }
        let peer = try RawServer(mesh)
        let a = try mesh.start("a")
        a.setLosses(500)
        let address = SocketAddress(mesh.address("server"), 80)
        let first = try a.connect(to: address)
        let tunnel = try peer.accept()
        let streamID = try tunnel.awaitConnect()
        try tunnel.accept(streamID)
        // Half of the packets lost leave 125 KB/s; this is the most in a quarter of a second.
        usleep(600_000)
        try first.send([UInt8](repeating: 1, count: 40_000))
        usleep(600_000)
        let second = try a.connect(to: address)
        // The kernel takes its tunnel, and nobody shakes hands.
        let moved = try tunnel.awaitConnect()
        try tunnel.accept(moved)
        try tunnel.send(HostileFrame.data(moved, Array("here".utf8), ends: false))
        #expect(try second.receiveText(4) == "here")
        #expect(a.report().tunnels.count == 1)
        let timeout = UInt16(Reason.MESH_REASON_HANDSHAKE_TIMEOUT.rawValue)
        #expect(a.report().counters.reasons[timeout] == 1, "no tunnel was tried beside the first")
        #expect(a.seenNow.unreachable.isEmpty && a.seenNow.opened.allSatisfy { $0.allowed })
        withExtendedLifetime(peer) {}
    }

    @Test func afterTheTunnelsEndStreamsOfOneMomentAreSpreadAgain() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a") {
            $0.tunnelsUnderLossMax = 3
            $0.idleTunnelTimeoutMilliseconds = 300
        }
        _ = try mesh.start("b")
        a.setLosses(20)
        let first = try pair(a)
        try transfer(first)
        first.client.close()
        #expect(first.server.errorAtEnd() == 0)
        first.server.close()
        for _ in 0..<300 where !streams(a).isEmpty { usleep(10_000) }
        let clients = try (0..<6).map { _ in try a.connect(to: server.local) }
        let pairs = try clients.map { (client: $0, server: try server.accept()) }
        #expect(streams(a).count == 3 && streams(a).reduce(0, +) == 6)
        for client in pairs.map(\.client) { try client.send("x") }
        for server in pairs.map(\.server) { #expect(try server.receiveText(1) == "x") }
    }

    @Test func aNodeThatIsGoneIsUsedAgainWithinSeconds() throws {
        defer { mesh.stop() }
        let a = try mesh.start("a")
        _ = try mesh.start("b")
        a.setLosses(20)
        let first = try pair(a)
        try transfer(first)
        var pairs = [first]
        for _ in 0..<4 { pairs.append(try pair(a)) }
        mesh.stop("b")
        for pair in pairs { #expect(pair.client.errorAtEnd() == ECONNRESET) }
        for _ in 0..<8 { _ = try a.connect(to: server.local).errorAtEnd() }
        try a.wait("unreachable") { !$0.unreachable.isEmpty }
        _ = try mesh.start("b")
        try a.wait("reachable", seconds: 3) { !$0.reachable.isEmpty }
        try expectWorks(try pair(a))
    }
}
