import Telemetry
import Testing

@Suite struct MetricsPageTests {
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
