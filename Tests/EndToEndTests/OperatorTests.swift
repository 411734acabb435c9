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

        /// meshd reads live figures once a second by itself; who looks in between sees what they are then.
        @Test func everyLookSeesWhatFlowsSinceTheLast() throws {
            try Lab.start("requests", "a", "w4", "wrk -t1 -c2 -d60s \(Lab.webURL)")
            defer { try? Lab.stop("requests") }
            let filter = "--filter 'source=a-w4 state=open'"
            #expect(try Shell.waits(10) { try Lab.meshctl("a", "flows \(filter)").output.contains("wrk") })
            var before: UInt64 = 0
            for look in 1...6 {
                let top = try Lab.meshctl("a", "top --once -o csv --filter source=a-w4 --sort in/s -n 1")
                let rates = top.lines.dropFirst().compactMap { line in
                    line.split(separator: ",").compactMap { Double($0) }.dropFirst().first
                }
                #expect(rates.allSatisfy { $0 > 0 } && rates.count == 1, "look \(look): \(top.output)")
                let received = try Lab.flows("a").filter { $0.sourceWorkload == "shop/a-w4" }.reduce(UInt64(0)) {
                    $0 + $1.bytesReceived
                }
                #expect(received > before, "look \(look)")
                before = received
            }
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

        /// What Kiali and Istio's dashboards read: a series without one of these is not drawn.
        @Test func everySeriesHasAllLabelsThatKialiReads() throws {
            _ = try Traffic.client("download 100000")
            let ends = ["source", "destination"].flatMap { end in
                [
                    "workload", "workload_namespace", "principal", "app", "version", "cluster", "canonical_service",
                    "canonical_revision",
                ].map { "\(end)_\($0)" }
            }
            let names =
                ["reporter", "request_protocol", "response_flags", "connection_security_policy"] + ends
                + ["destination_service", "destination_service_name", "destination_service_namespace"]
            for node in ["a", "b"] {
                let series = try Lab.metrics(node).filter { $0.hasPrefix("istio_tcp_") }
                #expect(!series.isEmpty)
                for line in series {
                    let text = line.drop { $0 != "{" }.dropFirst().prefix { $0 != "}" }
                    let labels = text.split(separator: ",").map { $0.prefix { $0 != "=" } }
                    #expect(Set(labels.map(String.init)) == Set(names) && labels.count == names.count, "\(line)")
                    #expect(!text.contains("=\"\""), "an empty label: \(line)")
                }
                let drawn = series.first {
                    $0.hasPrefix("istio_tcp_sent_bytes_total{")
                        && $0.contains("source_principal=\"\(Lab.principalPrefix)a-w1\"")
                        && $0.contains("destination_principal=\"\(Lab.principalPrefix)b-w2\"")
                }
                let line = String(drawn ?? "")
                for label in [
                    "source_workload=\"a-w1\"", "destination_workload=\"b-w2\"", "source_workload_namespace=\"shop\"",
                    "destination_workload_namespace=\"shop\"", "source_cluster=\"culvert\"",
                    "destination_cluster=\"culvert\"", "source_canonical_service=", "request_protocol=\"tcp\"",
                    "destination_service_namespace=\"shop\"", "source_canonical_revision=\"latest\"",
                ] { #expect(line.contains(label), "\(label) on node \(node): \(line)") }
                #expect(try Lab.metric(node, "istio_build{", "component=\"ztunnel\"") == 1)
            }
        }

        @Test func theLegBetweenTheNodesIsMeasured() throws {
            _ = try Traffic.client("download 1000000")
            for (node, peer) in [("a", "b"), ("b", "a")] {
                let measured = try Shell.waits(10) {
                    try Lab.metric(node, "meshd_peer_rtt_seconds{", "peer_node=\"\(peer)\"") > 0
                }
                #expect(measured, "node \(node)")
                #expect(
                    try Lab.metrics(node).contains {
                        $0.hasPrefix("meshd_peer_retransmits_total{peer_node=\"\(peer)\"}")
                    })
            }
        }

        @Test func aRefusedStreamIsInTheSeriesOfItsDestination() throws {
            // Nobody listens there: the stream is allowed, and the application refuses it.
            let before = try Lab.metric(
                "b", "istio_tcp_connections_failed_total{", "reporter=\"destination\"",
                "source_principal=\"\(Lab.principalPrefix)a-w1\"", "response_flags=\"CONNECT\"")
            _ = try Lab.run("a", "w1", "curl -s -m 5 http://\(Lab.bracketed(Lab.address("b", "w3"))):4999/")
            let counted = try Shell.waits(10) {
                try Lab.metric(
                    "b", "istio_tcp_connections_failed_total{", "reporter=\"destination\"",
                    "source_principal=\"\(Lab.principalPrefix)a-w1\"", "response_flags=\"CONNECT\"") == before + 1
            }
            #expect(counted)
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
