import FoundationEssentials
import Glibc
import Testing

extension EndToEnd {
    /// meshctl as scripts use it: exit codes, errors, formats.
    @Suite("Commands", .timeLimit(.minutes(3)))
    struct Commands {
        static let verbs = [
            "status", "check", "top", "flows", "services", "workloads", "nodes", "tunnels", "certs", "ca", "config",
            "version", "completion",
        ]

        init() throws { try Traffic.startServers() }

        /// meshctl without a node's socket; standard error goes with the output.
        private func meshctl(_ arguments: String) throws -> CommandResult {
            _ = Lab.environment
            return try Shell.run("\(Lab.state)/bin/meshctl \(arguments) 2>&1")
        }

        @Test func exitCodeSaysHowItWent() throws {
            #expect(try Lab.meshctl("a", "status").status == 0)
            for verb in ["status", "flows", "top --once", "nodes", "flows --records 1", "check"] {
                let result = try meshctl("\(verb) --socket /nonexistent.sock")
                #expect(result.status == 1, "\(verb)")
                #expect(result.output.contains("/nonexistent.sock") && result.output.contains("--socket"), "\(verb)")
            }
            for wrong in [
                "nosuchverb", "status --nosuchoption", "flows --since soon", "flows --records 0", "top --once -o xml",
                "flows --records 1 --follow", "top --sort nosuchcolumn", "top", "completion tcsh", "ca init",
            ] {
                let result = try meshctl("\(wrong) --socket /nonexistent.sock")
                #expect(result.status == 2, "\(wrong): \(result)")
                #expect(!result.output.isEmpty, "\(wrong)")
            }
        }

        @Test func everyVerbExplainsItself() throws {
            let help = try meshctl("--help")
            #expect(help.status == 0)
            for verb in Self.verbs {
                #expect(help.output.contains("  \(verb) "), "\(verb) is not in the overview")
                let result = try meshctl("\(verb) --help")
                #expect(result.status == 0 && result.output.contains("USAGE: meshctl \(verb)"), "\(verb)")
                #expect(result.output.contains("OVERVIEW: "), "\(verb)")
            }
            let version = try meshctl("--version")
            #expect(version.status == 0 && version.output.hasPrefix("meshctl "), "\(version)")
            #expect(try Lab.meshctl("a", "version").output.contains("meshd "))
        }

        @Test func completionIsOfTheShellThatAsks() throws {
            for (shell, sign) in [("bash", "complete "), ("zsh", "#compdef meshctl"), ("fish", "complete -c ")] {
                let result = try meshctl("completion \(shell)")
                #expect(
                    result.status == 0 && result.output.contains(sign) && result.output.contains("tunnels"), "\(shell)")
            }
            #expect(try Shell.run("bash -n <(\(Lab.state)/bin/meshctl completion bash)").status == 0)
        }

        @Test func nodesAndTunnelsAreListed() throws {
            _ = try Traffic.client("ping-pong 1")
            let nodes = try Lab.meshctl("a", "nodes")
            #expect(
                nodes.status == 0 && nodes.output.contains("this node") && nodes.output.contains(" ok "), "\(nodes)")
            let tunnels = try Lab.meshctl("a", "tunnels -o json")
            #expect(tunnels.output.contains("\"peer_principal\":\"\(Lab.principalPrefix)b-w2\""), "\(tunnels)")
            for line in tunnels.lines { #expect(line.hasPrefix("{") && line.hasSuffix("}")) }
        }

        @Test func flowsAreFilteredByTheNamesOfTheirFields() throws {
            _ = try Traffic.client("download 1000")
            let all = try Lab.meshctl("a", "flows -o json --filter 'verdict=allowed command=python'")
            #expect(all.status == 0 && !all.lines.isEmpty)
            #expect(all.lines.allSatisfy { $0.contains("\"verdict\":\"allowed\"") && $0.contains("python") })
            #expect(try Lab.meshctl("a", "flows -o json --filter 'verdict=nosuchverdict'").output.isEmpty)
            for verb in ["flows", "top --once"] {
                let wrong = try meshctl("\(verb) --filter nosuchfield=x")
                #expect(wrong.status == 2, "\(verb)")
                #expect(wrong.output.contains("nosuchfield") && wrong.output.contains("source_principal"), "\(wrong)")
            }
        }

        @Test func flowsOlderThanTheTableComeFromTheRecords() throws {
            let count = 424_243
            _ = try Traffic.client("download \(count)")
            let recorded = try Shell.waits(20) {
                try Lab.meshctl("a", "flows --records 2000").output.contains("\"bytes_received\":\(count)")
            }
            #expect(recorded)
            // The same once more, as one that ended long ago.
            try Shell.output(
                "\(Lab.python) \(Lab.applications)/age_record.py \(Lab.state)/a/state/records.jsonl \(count) 10")
            func ends(_ window: String) throws -> Int {
                try Lab.meshctl("a", "flows --since \(window) -o json").lines
                    .filter { $0.contains("\"bytes_received\":\(count)") }.count
            }
            #expect(try ends("30s") <= 1)
            #expect(try ends("15m") == ends("9m") + 1)
            let text = try Lab.meshctl("a", "flows --since 15m")
            #expect(text.status == 0 && text.output.contains("10m0"), "\(text.output.suffix(2000))")
        }

        @Test func checkFailsAndNamesTheFixWhenACertificateIsMissing() throws {
            let directory = "\(Lab.state)/a/certificates/shop/a-w4"
            try Shell.output("mv \(directory) \(Lab.state)/a-w4.away")
            defer { _ = try? Shell.run("mv \(Lab.state)/a-w4.away \(directory)") }
            let failed = try Shell.waits(15) { try Lab.meshctl("a", "certs").status == 1 }
            #expect(failed, "certs ends with 0 though one is missing")
            let check = try Lab.meshctl("a", "check")
            #expect(check.status == 1 && check.output.contains("FAIL ") && check.output.contains("fix: "), "\(check)")
            #expect(check.output.contains("a-w4"))
            let json = try Lab.meshctl("a", "check -o json")
            #expect(json.status == 1 && json.lines.allSatisfy { $0.hasPrefix("{") && $0.hasSuffix("}") })
            #expect(json.output.contains("\"outcome\":\"failed\""))
            try Shell.output("mv \(Lab.state)/a-w4.away \(directory)")
            let well = try Shell.waits(15) { try Lab.meshctl("a", "certs").status == 0 }
            #expect(well)
        }

        @Test func linesOfOneKindAreLimitedAndTheRestIsCounted() throws {
            let log = "\(Lab.variable("MESHD_LOG_A"))"
            let before = try Shell.output("wc -l <\(log)").split(separator: "\n").first.flatMap { Int($0) } ?? 0
            try Lab.output(
                "a", "w1", "bash -c 'for i in {1..60}; do curl -s -m 2 -o /dev/null http://web:4998/; done; true'")
            func since(_ sign: String) throws -> Int {
                let count = try Shell.output("tail -n +\(before + 1) \(log) | grep -c '\(sign)' || true")
                return Int(count.split(separator: "\n").first ?? "") ?? 0
            }
            #expect(try since("reason=no_service_port") >= 5)
            #expect(try since("reason=no_service_port") <= 30, "lines of one kind are not limited")
            // The kind falls silent: what was left out of it is told.
            #expect(try Shell.waits(30) { try since("suppressed=") >= 1 }, "nobody tells of what was left out")
            #expect(try Lab.metric("a", "meshd_events_lost_total{", "at=\"log\"") >= 20)
        }
    }
}
