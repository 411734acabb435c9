import FoundationEssentials
import Testing

extension EndToEnd {
    /// What the person at the terminal sees of it.
    @Suite("Operator", .timeLimit(.minutes(3)))
    struct Operator {
        init() throws { try Traffic.startServers() }

        @Test func bothNodesReportTheSameBytesAfterAnOrderlyClose() throws {
            let count: UInt64 = 7_654_321
            #expect(try Traffic.client("download \(count)").bytes == count)
            let sent = UInt64("source \(count)\n".utf8.count)
            for node in ["a", "b"] {
                let found = try Shell.waits(10) {
                    try Lab.flows(node).contains { flow in
                        flow.bytesReceived == count && flow.bytesSent == sent && flow.state == "closed"
                            && flow.sourcePrincipal == Lab.principalPrefix + "a-w1"
                            && flow.destinationPrincipal == Lab.principalPrefix + "b-w2"
                            && flow.sourceWorkload?.contains("a-w1") == true
                            && flow.destinationWorkload?.contains("b-w2") == true
                    }
                }
                #expect(found, "node \(node)")
            }
        }

        @Test func aLiveFlowShowsItsBytesBeforeItCloses() throws {
            try Lab.start(
                "held", "a", "w1", "\(Lab.python) \(Lab.applications)/traffic_client.py echo 7000 chat 20")
            defer { try? Lab.stop("held") }
            let shown = try Shell.waits(10) {
                try Lab.flows("a").contains { $0.state != "closed" && $0.bytesSent > 20 && $0.bytesReceived > 20 }
            }
            #expect(shown)
        }

        @Test func aFlowNamesTheProcess() throws {
            _ = try Traffic.client("download 1000")
            let result = try Lab.meshctl("a", "flows -o json")
            #expect(result.output.contains("python3"), "no command name in: \(result.output.suffix(500))")
        }

        @Test func followShowsAConnectionWhileItIsMade() throws {
            let result = try Shell.run(
                """
                (timeout 6 \(Lab.tool) meshctl a flows --follow -o json) & sleep 2
                \(Lab.tool) exec a curl -s -o /dev/null \(Lab.webURL)
                wait
                """)
            #expect(result.output.contains(Lab.principalPrefix + "b-w1"), "\(result.output.suffix(500))")
        }

        @Test func everyVerbAnswers() throws {
            for verb in ["status", "services", "workloads", "certs", "version", "flows", "top --once"] {
                let result = try Lab.meshctl("a", verb)
                #expect(result.status == 0, "meshctl \(verb): \(result.output)")
                #expect(!result.output.isEmpty, "meshctl \(verb) prints nothing")
            }
            #expect(try Lab.meshctl("a", "services").output.contains("web"))
            #expect(try Lab.meshctl("a", "workloads").output.contains("a-w3"))
            #expect(try Lab.meshctl("a", "certs").output.contains(Lab.principalPrefix + "a-w1"))
        }

        @Test func checkPassesOnAHealthyNode() throws {
            let result = try Lab.meshctl("a", "check")
            #expect(result.status == 0, "\(result.output)")
        }

        @Test func topPrintsJSONAndCSVWithoutATerminal() throws {
            _ = try Lab.output("a", "w1", "curl -s -o /dev/null \(Lab.webURL)")
            let json = try Lab.meshctl("a", "top --once -o json")
            #expect(json.status == 0 && json.output.contains("{"), "\(json.output)")
            let csv = try Lab.meshctl("a", "top --once -o csv")
            #expect(csv.status == 0 && csv.lines.first?.contains(",") == true, "\(csv.output)")
        }

        @Test func metricsHaveIstiosNamesOnBothSides() throws {
            _ = try Traffic.client("download 100000")
            for (node, reporter) in [("a", "source"), ("b", "destination")] {
                for name in ["connections_opened", "connections_closed", "sent_bytes", "received_bytes"] {
                    let value = try Lab.metric(
                        node, "istio_tcp_\(name)_total{", "reporter=\"\(reporter)\"",
                        "source_principal=\"\(Lab.principalPrefix)a-w1\"",
                        "destination_principal=\"\(Lab.principalPrefix)b-w2\"",
                        "connection_security_policy=\"mutual_tls\"")
                    #expect(value > 0, "\(name) on node \(node)")
                }
            }
        }

        @Test func lostEventsAreAlwaysExported() throws {
            #expect(try Lab.metrics("a").contains { $0.hasPrefix("meshd_") && $0.contains("lost") })
        }

        @Test func configValidateFindsEveryFaultWithItsPlace() throws {
            let file = "\(Lab.state)/faulty.yaml"
            try Shell.output("printf 'node: a\\ntrustDomian: x\\nmetrics:\\n  address: nowhere\\n' >\(file)")
            let result = try Shell.run("\(Lab.state)/bin/meshctl config validate \(file) 2>&1")
            #expect(result.status != 0)
            #expect(result.output.contains("\(file):2:1"), "\(result.output)")
            #expect(result.output.contains("trustDomain"), "did-you-mean is missing: \(result.output)")
            #expect(result.output.contains("\(file):4:"), "\(result.output)")
        }
    }
}
