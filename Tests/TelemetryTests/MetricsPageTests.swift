import Glibc
import MeshModel
import Testing

@testable import Telemetry

@Suite struct MetricsPageTests {
    @Test func promtoolFindsNothingToSay() throws {
        var node = NodeMetrics()
        node.certificates = [.init(principal: "spiffe://t/ns/a/sa/\"b\\", notAfter: 5)]
        node.trustBundleNotAfter = 9
        var table = FlowTable()
        let somewhere = SocketAddress(IPAddress(ipv4: 0x0a00_0001), 80)
        var opened = ProxyFlowOpened(
            id: 1, direction: .local, cookie: 1, source: somewhere, originalDestination: somewhere)
        opened.sourcePrincipal = "spiffe://t/ns/a/sa/\"b\n"
        table.record(opened)
        var closed = ProxyFlowClosed(id: 1)
        (closed.connectMicroseconds, closed.firstByteMicroseconds, closed.bytesSent) = (300, 70_000_000, 5)
        table.record(closed)
        node.peers.take(
            [.init(id: 1, openedNanoseconds: 1, peer: "b", rttMicroseconds: 250, retransmits: 2)], now: 1)
        let page = MetricsPage.bytes(node, table)
        let promtool = try #require(popen("promtool check metrics", "w"))
        #expect(fwrite(page, 1, page.count, promtool) == page.count)
        #expect(pclose(promtool) == 0)
    }

    @Test func legsToPeersAreMeasuredOverAllTheirTunnels() {
        var node = NodeMetrics()
        func tunnel(
            _ id: UInt32, _ peer: String = "b", rtt: UInt32 = 0, retransmits: UInt32 = 0
        ) -> PeerLegs.Tunnel {
            .init(id: id, openedNanoseconds: 1, peer: peer, rttMicroseconds: rtt, retransmits: retransmits)
        }
        func lines() -> [Substring] {
            String(decoding: MetricsPage.bytes(node, FlowTable()), as: UTF8.self).split(separator: "\n")
                .filter { $0.hasPrefix("meshd_peer_") }
        }
        // In two lists, as many tunnels come.
        node.peers.take([tunnel(1, rtt: 200, retransmits: 3), tunnel(2, "c", rtt: 9_000)], now: 10)
        node.peers.take([tunnel(3, rtt: 400, retransmits: 1), tunnel(4, "")], now: 11)
        node.peers.take([tunnel(1, rtt: 200, retransmits: 5)], now: 12)
        #expect(
            lines() == [
                "meshd_peer_rtt_seconds{peer_node=\"b\"} 0.0003", "meshd_peer_rtt_seconds{peer_node=\"c\"} 0.009",
                "meshd_peer_retransmits_total{peer_node=\"b\"} 6", "meshd_peer_retransmits_total{peer_node=\"c\"} 0",
            ])
        // Without a tunnel nothing is measured; what was counted stays.
        node.peers.take([], now: 12 + PeerLegs.silenceNanoseconds)
        #expect(lines().first == "meshd_peer_retransmits_total{peer_node=\"b\"} 6")
        node.peers.take(
            (0..<9_000).map { tunnel($0, "n\($0)", rtt: 1) }, now: 13 + 2 * PeerLegs.silenceNanoseconds)
        #expect(lines().count { $0.hasPrefix("meshd_peer_retransmits") } == PeerLegs.peersMax)
    }

    @Test func everySampleBelongsToTheFamilyAnnouncedBefore() {
        var node = NodeMetrics()
        node.certificates = [.init(principal: "spiffe://t/ns/a/sa/\"b\"", notAfter: 5)]
        node.trustBundleNotAfter = 9
        node.kernelReasons = Array(repeating: 3, count: 192)
        node.proxyReasons = [32: 7]
        let lines = String(decoding: MetricsPage.bytes(node, FlowTable()), as: UTF8.self).split(separator: "\n")
        var family = ""
        var families: Set<String> = []
        for line in lines where !line.hasPrefix("# HELP") {
            if line.hasPrefix("# TYPE ") {
                family = String(line.split(separator: " ")[2])
                #expect(families.insert(family).inserted, "\(family) twice")
            } else {
                let name = String(line.prefix { $0 != "{" && $0 != " " })
                #expect(["", "_bucket", "_sum", "_count"].contains { family + $0 == name }, "\(line)")
            }
        }
        #expect(lines.contains("meshd_refusals_total{reason=\"no_client_certificate\",by=\"proxy\"} 7"))
        #expect(lines.contains("meshd_refusals_total{reason=\"no_listener\",by=\"kernel\"} 3"))
        #expect(lines.contains("meshd_events_lost_total{at=\"kernel_ring\"} 3"))
        #expect(lines.contains { $0.hasSuffix("{principal=\"spiffe://t/ns/a/sa/\\\"b\\\"\"} 5") })
        #expect(lines.contains("meshd_connect_seconds_bucket{direction=\"inbound\",le=\"+Inf\"} 0"))
    }
}
