import Glibc
import MeshModel
import Telemetry
import Testing

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
        let page = MetricsPage.bytes(node, table)
        let promtool = try #require(popen("promtool check metrics", "w"))
        #expect(fwrite(page, 1, page.count, promtool) == page.count)
        #expect(pclose(promtool) == 0)
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
