import CMeshABI
import MeshModel
import Testing

@testable import Telemetry

@Suite struct FlowTableTests {
    let client = SocketAddress(IPAddress(ipv4: 0x0a4d_0001), 40_000)
    let server = SocketAddress(IPAddress(ipv4: 0x0a60_000a), 80)

    func kernel(
        _ kind: KernelFlowEvent.Kind, _ role: KernelFlowEvent.Role = .captured, cookie: UInt64 = 7,
        peerCookie: UInt64 = 0, at: UInt64 = 10, sent: UInt64 = 0, received: UInt64 = 0
    ) -> KernelFlowEvent {
        var event = KernelFlowEvent(kind: kind, role: role, source: client, destination: server)
        (event.cookie, event.peerCookie, event.atNanoseconds, event.openedNanoseconds) = (cookie, peerCookie, at, 1)
        (event.bytesSent, event.bytesReceived, event.pid) = (sent, received, role == .served ? 22 : 11)
        event.command = role == .served ? "nginx" : "curl"
        return event
    }

    func opened(_ direction: FlowDirection, id: UInt64 = 1, cookie: UInt64 = 7) -> ProxyFlowOpened {
        var opened = ProxyFlowOpened(
            id: id, direction: direction, cookie: cookie, source: client, originalDestination: server)
        opened.sourcePrincipal = "spiffe://t/ns/n/sa/c"
        opened.destinationPrincipal = "spiffe://t/ns/n/sa/s"
        opened.tunnel = direction == .local ? 0 : 5
        opened.openedNanoseconds = 2
        return opened
    }

    func closed(id: UInt64 = 1, reason: Reason = .MESH_REASON_NONE, sent: UInt64 = 0) -> ProxyFlowClosed {
        var closed = ProxyFlowClosed(id: id)
        (closed.reason, closed.bytesSent, closed.connectMicroseconds, closed.closedNanoseconds) = (
            reason, sent, 300, 20
        )
        return closed
    }

    func rows(_ table: FlowTable) -> [FlowRow] { table.page(changedAfter: 0, limit: 100, now: 100).flows }

    func series(_ table: FlowTable) -> [Substring] {
        String(decoding: MetricsPage.bytes(NodeMetrics(), table), as: UTF8.self).split(separator: "\n").filter {
            $0.hasPrefix("istio_tcp")
        }
    }

    @Test func kernelAndProxyRecordsOfOneConnectionAreOneFlowInAnyOrder() throws {
        let live = kernel(.live, sent: 10, received: 20)
        let final = kernel(.closed, at: 30, sent: 100, received: 200)
        for order in 0..<3 {
            var table = FlowTable()
            switch order {
            case 0:
                table.record(kernel(.opened))
                table.record(opened(.outbound))
                table.record(live)
                #expect(rows(table).first?.bytesSent == 10 && rows(table).first?.state == .open)
                table.record(closed(sent: 99))
                table.record(final)
            case 1:
                table.record(opened(.outbound))
                table.record(kernel(.opened))
                table.record(final)
                table.record(closed())
            default:
                table.record(kernel(.opened))
                table.record(final)
                #expect(rows(table).first?.state == .open)
                table.record(opened(.outbound))
                table.record(closed())
            }
            let row = try #require(rows(table).first)
            #expect(rows(table).count == 1 && row.state == .closed && row.verdict == .allowed)
            #expect(row.bytesSent == 100 && row.bytesReceived == 200 && row.command == "curl" && row.pid == 11)
            #expect(row.sourcePrincipal == "spiffe://t/ns/n/sa/c" && row.rttShared)
            let lines = series(table)
            #expect(lines.count == 6)
            #expect(lines.contains { $0.hasPrefix("istio_tcp_sent_bytes_total") && $0.hasSuffix(" 200") })
            #expect(lines.contains { $0.hasPrefix("istio_tcp_received_bytes_total") && $0.hasSuffix(" 100") })
            #expect(lines.contains { $0.hasPrefix("istio_tcp_connections_closed_total") && $0.hasSuffix(" 1") })
            #expect(lines.allSatisfy { $0.contains("connection_security_policy=\"mutual_tls\"") })
        }
    }

    @Test func bytesAreNamedFromTheClientsSideWhereOnlyTheServerIs() throws {
        var table = FlowTable()
        table.record(kernel(.opened, .served, cookie: 8, peerCookie: 7))
        table.record(opened(.inbound))
        table.record(kernel(.closed, .served, cookie: 8, peerCookie: 7, sent: 200, received: 100))
        table.record(closed())
        let row = try #require(rows(table).first)
        #expect(rows(table).count == 1 && row.bytesSent == 100 && row.bytesReceived == 200)
        #expect(row.destinationCommand == "nginx" && row.direction == "inbound" && row.state == .closed)
        #expect(series(table).allSatisfy { $0.contains("reporter=\"destination\"") })
    }

    @Test func localFlowHasBothProcessesAndBothReporters() throws {
        var table = FlowTable()
        table.record(kernel(.opened))
        table.record(kernel(.opened, .served, cookie: 9, peerCookie: 8))
        var decision = opened(.local)
        decision.dialCookie = 8
        table.record(decision)
        table.record(kernel(.closed, .served, cookie: 9, peerCookie: 8, sent: 6, received: 5))
        table.record(kernel(.closed, sent: 5, received: 6))
        table.record(closed())
        let row = try #require(rows(table).first)
        #expect(rows(table).count == 1 && row.command == "curl" && row.destinationCommand == "nginx")
        #expect(row.bytesSent == 5 && row.state == .closed && table.count == 1)
        #expect(series(table).count == 12)
    }

    @Test func deniedConnectionIsRefusedWithItsReason() throws {
        var table = FlowTable()
        var decision = opened(.inbound)
        (decision.allowed, decision.reason, decision.tunnel) = (false, .MESH_REASON_AUTHORITY_PRINCIPAL_MISMATCH, 0)
        table.record(decision)
        var refused = kernel(.refused, .refused)
        refused.reason = .MESH_REASON_ENDPOINT_UNREACHABLE
        table.record(refused)
        #expect(rows(table).map(\.state) == [.refused, .refused] && rows(table).allSatisfy { $0.verdict == .denied })
        #expect(rows(table).map(\.reason) == ["authority_principal_mismatch", "endpoint_unreachable"])
        #expect(series(table).contains { $0.contains("response_flags=\"DENY\"") && $0.hasSuffix(" 1") })
        #expect(series(table).contains { $0.contains("response_flags=\"CONNECT\"") && $0.hasSuffix(" 1") })
    }

    @Test(arguments: Reason.all) func deniedVerdictNeverLooksLikeASuccess(_ reason: Reason) {
        var table = FlowTable()
        var decision = opened(.outbound)
        (decision.allowed, decision.reason) = (false, reason)
        table.record(decision)
        let flagged = series(table).filter { !$0.contains("response_flags=\"-\"") }
        for family in ["closed", "failed"] {
            let lines = flagged.filter { $0.hasPrefix("istio_tcp_connections_\(family)_total") }
            #expect(lines.count == 1 && lines.allSatisfy { $0.hasSuffix(" 1") }, "\(reason.name)")
        }
        #expect(!series(table).contains { $0.hasPrefix("istio_tcp_sockets_open") && !$0.hasSuffix(" 0") })
    }

    @Test func connectionThatTheMeshCutShortCountsAsFailed() {
        let failed: [(Reason, Bool)] = [
            (.MESH_REASON_NONE, false), (.MESH_REASON_APPLICATION_RESET, false), (.MESH_REASON_PEER_RESET, false),
            (.MESH_REASON_WORKLOAD_GONE, false), (.MESH_REASON_PING_TIMEOUT, true), (.MESH_REASON_TUNNEL_LOST, true),
            (.MESH_REASON_MEMORY_BUDGET, true), (.MESH_REASON_SLOW_PEER, true), (.MESH_REASON_DRAIN_DEADLINE, true),
            (.MESH_REASON_STREAM_LIMIT, true), (.MESH_REASON_PROXY_STALE, true),
        ]
        for (reason, isFailed) in failed {
            var table = FlowTable()
            table.record(opened(.outbound))
            table.record(closed(reason: reason))
            let flagged = series(table).contains { $0.contains("response_flags=\"CONNECT\"") && $0.hasSuffix(" 1") }
            #expect(flagged == isFailed, "\(reason.name)")
        }
    }

    /// The event waited in the kernel's ring while one meshd became the next.
    @Test func kernelsLastWordOnWhatAnEarlierMeshdHasToldIsNoSecondRecord() {
        var earlier = FlowTable()
        earlier.record(kernel(.opened))
        earlier.record(opened(.outbound))
        earlier.record(closed())
        #expect(earlier.takeSettled(now: 100, limit: 9, isLast: true).count == 1)
        #expect(earlier.toldSockets() == [7])
        var table = FlowTable(began: 100)
        table.inherit(told: earlier.toldSockets())
        table.record(kernel(.closed, at: 101))
        // Nobody has told of this one, though it is as old.
        table.record(kernel(.closed, cookie: 8, at: 102))
        table.expire(now: 8_000_000_000)
        #expect(table.takeSettled(now: 19_000_000_000, limit: 9).count == 1)
        #expect(rows(table).count == 1)
    }

    @Test func whatTheKernelHasClosedTooIsNotLeftToTheNextMeshd() {
        var table = FlowTable()
        table.record(kernel(.opened))
        table.record(opened(.outbound))
        table.record(kernel(.closed, at: 20))
        table.record(closed())
        #expect(table.toldSockets().isEmpty)
    }

    @Test(arguments: [(FlowDirection.outbound, "tunnel"), (.local, "relayed")])
    func flowSaysWhichWayItGoesOnceThatIsKnown(_ way: (FlowDirection, String)) {
        var table = FlowTable()
        table.record(kernel(.opened))
        #expect(rows(table).first?.path == "")
        table.record(opened(way.0))
        #expect(rows(table).first?.path == way.1)
        table.record(kernel(.opened, .direct, cookie: 8))
        #expect(rows(table).first { $0.path == "direct" }?.direction == "local")
        table.record(kernel(.opened, .passthrough, cookie: 9))
        #expect(rows(table).contains { $0.path == "plain" })
    }

    @Test func refusedStreamIsInTheSeriesOfItsDestination() throws {
        var table = FlowTable()
        var denied = opened(.inbound, cookie: 0)
        (denied.allowed, denied.reason) = (false, .MESH_REASON_POLICY_DENIED)
        for _ in 0..<FlowTable.peerRefusalsMax + 7 { table.record(denied) }
        // Rows are bounded, what they count is not.
        #expect(table.count == FlowTable.peerRefusalsMax && table.lost == 7)
        let row = try #require(rows(table).first)
        #expect(row.verdict == .denied && row.reason == "policy_denied" && row.direction == "inbound")
        #expect(row.originalDestination == "\(server)" && row.destinationPrincipal == "spiffe://t/ns/n/sa/s")
        let flagged = series(table).filter { $0.contains("response_flags=\"DENY\"") }
        #expect(flagged.allSatisfy { $0.contains("reporter=\"destination\"") && $0.contains("policy=\"mutual_tls\"") })
        #expect(flagged.contains { $0.hasPrefix("istio_tcp_connections_failed_total") && $0.hasSuffix(" 1031") })
        #expect(flagged.contains { $0.contains("source_principal=\"spiffe://t/ns/n/sa/c\"") })
        table.expire(now: 100_000_000_000)
        #expect(table.count == 0)
    }

    @Test func connectionsOfAnEarlierMeshdGetTheirNamesBack() throws {
        let before = kernel(.live, at: 60, sent: 1_000, received: 2_000)
        for isKernelFirst in [true, false] {
            var table = FlowTable(began: 50)
            if isKernelFirst { table.record(before, addsUnknown: true) }
            table.record(opened(.outbound))
            if !isKernelFirst { table.record(before, addsUnknown: true) }
            table.record(opened(.outbound))
            let row = try #require(rows(table).first)
            #expect(rows(table).count == 1 && row.sourcePrincipal == "spiffe://t/ns/n/sa/c" && row.tunnel == 5)
            #expect(row.bytesSent == 1_000 && row.command == "curl" && row.state == .open)
            table.record(kernel(.closed, at: 70, sent: 1_003, received: 2_007))
            table.record(closed())
            #expect(rows(table).map(\.state) == [.closed])
            let lines = series(table)
            // The earlier meshd has counted its opening, and what it had carried.
            for (name, value) in [
                ("connections_opened_total", 0), ("connections_closed_total", 1), ("sockets_open", 0),
                ("sent_bytes_total", 7), ("received_bytes_total", 3),
            ] {
                #expect(lines.contains { $0.hasPrefix("istio_tcp_\(name)") && $0.hasSuffix(" \(value)") }, "\(name)")
            }
        }
    }

    @Test func openSocketsAreShownWhileTheyAreOpen() {
        var table = FlowTable()
        table.record(opened(.outbound))
        #expect(series(table).contains { $0.hasPrefix("istio_tcp_sockets_open{") && $0.hasSuffix(" 1") })
        table.record(closed())
        #expect(series(table).contains { $0.hasPrefix("istio_tcp_sockets_open{") && $0.hasSuffix(" 0") })
    }

    @Test func socketThatTheProxyNeverMentionedEndsAfterTheWait() {
        var table = FlowTable()
        table.record(kernel(.opened))
        table.record(kernel(.closed, at: 30))
        table.expire(now: 31)
        #expect(rows(table).first?.state == .open)
        table.expire(now: 30 + FlowTable.decisionWaitNanoseconds)
        #expect(rows(table).first?.state == .closed)
    }

    @Test func endedFlowsAreKeptForTheirTimeAndForgotten() {
        var settings = FlowTable.Settings()
        settings.keepNanoseconds = 100
        var table = FlowTable(settings)
        table.record(opened(.outbound))
        table.record(closed())
        table.expire(now: 119)
        #expect(table.count == 1)
        table.expire(now: 120)
        #expect(table.count == 0)
        table.record(opened(.outbound, id: 2, cookie: 7))
        #expect(table.count == 1 && rows(table).first?.state == .open)
    }

    @Test func fullTableDropsWhatEndedFirstAndCountsWhatIsLost() {
        var settings = FlowTable.Settings()
        settings.flowsMax = 3
        var table = FlowTable(settings)
        for id in 1...3 { table.record(opened(.outbound, id: UInt64(id), cookie: UInt64(id))) }
        table.record(closed(id: 2))
        table.record(opened(.outbound, id: 4, cookie: 4))
        #expect(table.count == 3 && table.lost == 0)
        table.record(opened(.outbound, id: 5, cookie: 5))
        #expect(table.count == 3 && table.lost == 1)
    }

    @Test func recordsBeyondTheLimitAreCounted() {
        var table = FlowTable()
        for _ in 0..<5 { table.record(kernel(.refused, .refused)) }
        #expect(table.takeSettled(now: 11, limit: 3, isLast: true).count == 3 && table.unsettled == 2)
    }

    @Test func strangersNeverPushTheNodesOwnFlowsOut() {
        var table = FlowTable()
        table.record(kernel(.refused, .refused))
        for _ in 0...FlowTable.peerRefusalsMax {
            table.recordPeerRefusal(.MESH_REASON_NO_CLIENT_CERTIFICATE, peer: client, principal: "", now: 11)
        }
        #expect(table.count == 1 + FlowTable.peerRefusalsMax && table.lost == 1)
        table.expire(now: 11 + 60_000_000_000)
        #expect(table.count == 0)
        table.recordPeerRefusal(.MESH_REASON_NO_CLIENT_CERTIFICATE, peer: client, principal: "", now: 12)
        #expect(table.count == 1)
    }

    @Test func pagesFollowChanges() {
        var table = FlowTable()
        for id in 1...5 { table.record(opened(.outbound, id: UInt64(id), cookie: UInt64(id))) }
        let first = table.page(changedAfter: 0, limit: 3, now: 0)
        #expect(first.more && first.flows.count == 3)
        let second = table.page(changedAfter: first.next, limit: 3, now: 0)
        #expect(!second.more && second.flows.count == 2)
        #expect(table.page(changedAfter: second.next, limit: 3, now: 0).flows.isEmpty)
        table.record(closed(id: 2))
        let third = table.page(changedAfter: second.next, limit: 3, now: 0)
        #expect(third.flows.map(\.state) == [.closed])
    }

    @Test func flowWhoseCloseEventWasLostEndsWithTheNextReading() {
        var table = FlowTable()
        table.record(kernel(.opened))
        table.record(opened(.outbound))
        table.beginSweep(now: 50)
        table.record(kernel(.live, at: 51, sent: 3))
        table.endSweep(now: 52)
        #expect(rows(table).first?.state == .open)
        table.beginSweep(now: 60)
        table.endSweep(now: 61)
        #expect(rows(table).first?.state == .closed && rows(table).first?.bytesSent == 3)
    }

    @Test func endedFlowIsRecordedOnceWithItsFinalFigures() throws {
        var table = FlowTable()
        table.record(kernel(.opened))
        table.record(opened(.outbound))
        table.record(closed())
        #expect(table.takeSettled(now: 30, limit: 9).isEmpty)
        table.record(kernel(.closed, at: 25, sent: 77))
        let rows = table.takeSettled(now: 20 + FlowTable.decisionWaitNanoseconds, limit: 9)
        #expect(rows.map(\.bytesSent) == [77])
        #expect(table.takeSettled(now: .max / 2, limit: 9).isEmpty)
        let record = ConnectionRecord(try #require(rows.first), endedWallMilliseconds: 0)
        #expect(record.jsonText.hasPrefix("{\"time\":\"1970-01-01T00:00:00.000Z\",\"id\":1,"))
    }

    @Test func liveEventsMakeFlowsOnlyWhenAsked() {
        var table = FlowTable()
        table.record(kernel(.live))
        #expect(table.count == 0)
        table.record(kernel(.live), addsUnknown: true)
        #expect(table.count == 1)
    }

    @Test func seriesAreBoundedAndExpire() {
        var settings = FlowTable.Settings()
        (settings.seriesMax, settings.seriesIdleNanoseconds, settings.keepNanoseconds) = (1, 100, 1)
        var table = FlowTable(settings)
        table.record(opened(.outbound))
        var other = opened(.outbound, id: 2, cookie: 2)
        other.sourcePrincipal = "other"
        table.record(other)
        #expect(table.seriesCount == 1 && table.seriesDropped == 1)
        table.expire(now: 10_000)
        #expect(table.seriesCount == 1)
        table.record(closed())
        table.expire(now: 10_000)
        #expect(table.seriesCount == 0)
    }

    @Test func flowIsSmall() { #expect(MemoryLayout<Flow>.stride <= 288) }

    @Test func rowsAndPagesSurviveTheirJSON() throws {
        var table = FlowTable()
        table.record(opened(.outbound))
        let text = table.page(changedAfter: 0, limit: 9, now: 5).jsonText
        #expect(text.hasPrefix("{\"next\":") && text.contains("\"source_principal\":\"spiffe://t/ns/n/sa/c\""))
    }

    @Test func sumsGoOnOverANewProcess() {
        var sums = ContinuedSums()
        sums.report([1: 5])
        sums.report([1: 7, 2: 1])
        sums.end()
        sums.report([1: 2])
        #expect(sums.totals == [1: 9, 2: 1])
    }

    @Test func sumsOfTwoProcessesAtOnceAreNotMixedUp() {
        var sums = ContinuedSums()
        for (process, count) in [(1, 5), (2, 3), (1, 6), (2, 3), (1, 6)] as [(Int32, UInt64)] {
            sums.report([1: count], of: process)
        }
        #expect(sums.totals == [1: 9])
    }

    @Test func twoProxiesWithTheSameNumbersHaveTheirOwnFlows() throws {
        var table = FlowTable()
        for (proxy, cookie) in [(11, 7), (22, 8)] as [(Int32, UInt64)] {
            var first = opened(.outbound, cookie: cookie)
            first.proxy = proxy
            table.record(first)
            table.recordTunnel(5, ofProxy: proxy, rttMicroseconds: UInt32(proxy), retransmits: 0)
        }
        #expect(rows(table).map(\.rttMicroseconds) == [11, 22])
        var end = closed(sent: 4)
        end.proxy = 22
        table.record(end)
        #expect(rows(table).map(\.state) == [.open, .closed])
        // What the ended one had is over; the other's goes on.
        table.proxyEnded(22, now: 50)
        #expect(rows(table).map(\.state) == [.open, .closed] && rows(table).first?.rttMicroseconds == 11)
        table.proxyEnded(11, now: 60)
        #expect(rows(table).allSatisfy { $0.state == .closed })
    }
}

/// Connections within the node that no proxy carries: the kernel alone tells of them.
extension FlowTableTests {
    private func direct(_ kind: KernelFlowEvent.Kind, at: UInt64 = 10) -> KernelFlowEvent {
        kernel(kind, .direct, at: at, sent: 100, received: 200)
    }

    private func directServed(_ kind: KernelFlowEvent.Kind, at: UInt64 = 11) -> KernelFlowEvent {
        var event = kernel(kind, .directServed, cookie: 8, peerCookie: 7, at: at, sent: 200, received: 100)
        event.decidedBy = RuleName(rule: "no-policy")
        return event
    }

    @Test func directConnectionIsOneFlowForBothReportersCountedOnce() throws {
        var table = FlowTable()
        // Of one whose beginning is not known, the far end alone says nothing.
        table.record(directServed(.opened))
        #expect(rows(table).isEmpty)
        for event in [
            direct(.opened), directServed(.opened), direct(.live, at: 20), directServed(.live, at: 20),
            directServed(.closed, at: 30),
        ] { table.record(event) }
        let open = try #require(rows(table).first)
        #expect(rows(table).count == 1 && open.state == .open, "the server's end alone ends it")
        #expect(open.direction == "local" && open.verdict == .allowed && open.rule == "no-policy")
        table.record(direct(.closed, at: 31))
        let row = try #require(rows(table).first)
        #expect(row.state == .closed && row.bytesSent == 100 && row.bytesReceived == 200)
        let opened = series(table).filter { $0.hasPrefix("istio_tcp_connections_opened_total") }
        #expect(opened.count == 2 && opened.allSatisfy { $0.hasSuffix(" 1") })
        let sent = series(table).filter { $0.hasPrefix("istio_tcp_received_bytes_total") }
        #expect(sent.count == 2 && sent.allSatisfy { $0.hasSuffix(" 100") })
    }

    @Test func egressThatIsRefusedOrEndedNamesItsPolicy() throws {
        var table = FlowTable()
        let rule = RuleName(policy: "shop/few", rule: "no-match")
        table.record(kernel(.opened, .passthrough))
        for _ in 0..<2 { table.recordDenial(cookie: 7, reason: .MESH_REASON_EGRESS_DENIED, decidedBy: rule) }
        table.record(kernel(.closed, .passthrough, at: 20))
        var refused = kernel(.refused, .refused)
        (refused.reason, refused.decidedBy) = (.MESH_REASON_EGRESS_DENIED, rule)
        table.record(refused)
        let rows = rows(table)
        #expect(Set(rows.map(\.state)) == [.closed, .refused])
        #expect(rows.allSatisfy { $0.verdict == .denied && $0.reason == "egress_denied" })
        #expect(rows.allSatisfy { $0.policy == "shop/few" && $0.rule == "no-match" })
        let page = String(decoding: MetricsPage.bytes(NodeMetrics(), table), as: UTF8.self)
        #expect(page.contains("meshd_policy_denials_total{policy=\"shop/few\",rule=\"no-match\"} 2"), "each once")
    }

    @Test func directConnectionThatIsEndedByAPolicyNamesIt() throws {
        var table = FlowTable()
        table.record(direct(.opened))
        table.record(directServed(.opened))
        let rule = RuleName(policy: "shop/no", rule: "rules[0]")
        table.recordDenial(cookie: 7, reason: .MESH_REASON_POLICY_DENIED, decidedBy: rule)
        table.record(directServed(.live, at: 15))
        table.record(direct(.closed, at: 20))
        let row = try #require(rows(table).first)
        #expect(row.state == .closed && row.verdict == .denied && row.reason == "policy_denied")
        #expect(row.policy == "shop/no" && row.rule == "rules[0]")
        let page = String(decoding: MetricsPage.bytes(NodeMetrics(), table), as: UTF8.self)
        #expect(page.contains("meshd_policy_denials_total{policy=\"shop/no\",rule=\"rules[0]\"} 1"))
    }
}
