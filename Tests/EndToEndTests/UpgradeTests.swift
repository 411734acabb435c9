import FoundationEssentials
import Glibc
import Testing

extension EndToEnd {
    /// meshd and its proxy are replaced while applications work: none of them may notice.
    @Suite("Upgrade", .timeLimit(.minutes(5)))
    struct Upgrade {
        init() throws { try Traffic.startServers() }

        /// What Tests/Applications/steady_client.py saw.
        struct Steady: Decodable {
            let opened: Int
            let worked: Int
            let long: Int
            let bytes: Int
            let pause: Double
            let refused: [String: Int]
            let cut: [String]
        }

        static let stop = "\(Lab.state)/steady.stop"

        /// Connections in node a to a service of node b, until `endSteady`.
        func beginSteady(long: Int, perSecond: Int) throws {
            try Shell.output("rm -f \(Self.stop) \(Lab.state)/log/steady.log")
            let client = "\(Lab.python) \(Lab.applications)/steady_client.py"
            try Lab.start("steady", "a", "w1", "\(client) echo 7000 \(long) \(perSecond) \(Self.stop)")
            try Shell.output("sleep 1")
        }

        func endSteady() throws -> Steady {
            try Shell.output("touch \(Self.stop)")
            let log = "\(Lab.state)/log/steady.log"
            _ = try Shell.waits(40) { try Shell.run("tail -n 1 \(log)").output.contains("}") }
            try Lab.stop("steady")
            return try JSONDecoder().decode(Steady.self, from: Data(Shell.output("tail -n 1 \(log)").utf8))
        }

        func records(_ node: String) throws -> [Substring] {
            try Shell.output("cat \(Lab.state)/\(node)/state/records.jsonl*").split(separator: "\n")
                .filter { $0.contains("/sa/b-w2\"") }
        }

        /// The kernel's count goes on while its tables do, a daemon's own begins with it.
        func lostEvents(_ node: String) throws -> (byKernel: Double, byDaemon: Double) {
            let byKernel = try Lab.metric(node, "meshd_events_lost_total", "at=\"kernel_ring\"")
            return (byKernel, try Lab.metric(node, "meshd_events_lost_total{") - byKernel)
        }

        /// A file of its own with the same content: another binary, as far as anybody can tell.
        func upgrade(_ node: String, to binary: String = "\(Lab.state)/bin/meshd") throws {
            let result = try Lab.meshctl(node, "upgrade \(binary)", seconds: 90)
            #expect(result.status == 0 && result.output.contains("accepts"), "\(node): \(result.output)")
        }

        @Test func twentyUpgradesUnderLoadRefuseAndCutNothing() throws {
            // What was before has its record by then.
            try Shell.output("sleep 4")
            let before = try ["a", "b"].map { try records($0).count }
            let lost = try ["a", "b"].map { try lostEvents($0) }
            let proxies = try ["a", "b"].map { try Lab.meshProcesses($0, "proxy") }
            // The next one has kernel programs of the next layout, with a table of another shape.
            let (this, next) = ("\(Lab.state)/bin/meshd.this", "\(Lab.state)/bin/meshd.next")
            try Shell.output("cp \(Lab.state)/bin/meshd \(this)")
            try Shell.output("\(Lab.root)/tools/build --next-layout \(Lab.variable("LAB_BUILD")) \(next)", seconds: 120)
            try beginSteady(long: 16, perSecond: 60)
            for number in 0..<20 {
                let node = number % 2 == 0 ? "a" : "b"
                // Numbers 8 and 9 change the shared structures' version and layout, 10 and 11 are the downgrades.
                try upgrade(node, to: number == 8 || number == 9 ? next : this)
                let pins = try Shell.output("ls \(Lab.variable("LAB_BPFFS"))/culvert/\(node)")
                let now = try lostEvents(node)
                #expect(now.byKernel <= lost[number % 2].byKernel && now.byDaemon == 0, "\(node): upgrade \(number)")
                #expect(pins == (number == 8 || number == 9 ? "v2\n" : "v1\n"))
            }
            try Shell.output("sleep 1")
            let steady = try endSteady()
            #expect(steady.refused.isEmpty && steady.cut.isEmpty, "\(steady)")
            #expect(steady.worked == steady.opened && steady.opened > 200 && steady.long >= 16, "\(steady)")
            #expect(steady.bytes > 1_000_000 && steady.pause < 5, "\(steady)")
            // Every proxy that was replaced has finished and gone, and every connection has one record on each node.
            for (index, node) in ["a", "b"].enumerated() {
                #expect(try Shell.waits(20) { try Lab.meshProcesses(node, "proxy").count == 1 }, "\(node)")
                #expect(try Lab.meshProcesses(node, "proxy") != proxies[index])
                let all = steady.opened + steady.long
                let isWhole = try Shell.waits(10) { try records(node).count - before[index] == all }
                let found = try records(node).count - before[index]
                #expect(isWhole, "\(node): \(found) records of \(all) connections")
                for record in try records(node).dropFirst(before[index]) where !record.contains("\"reason\":\"none\"") {
                    Issue.record("\(node): \(record)")
                }
            }
        }

        @Test func aBinaryThatCannotStartIsRefusedAndTheFormerOneStays() throws {
            let before = try Shell.output("sha256sum <\(Lab.state)/bin/meshd")
            let proxies = try Lab.meshProcesses("a", "proxy")
            let daemon = try Lab.meshProcesses("a", "meshd")
            let result = try Lab.meshctl("a", "upgrade /bin/false 2>&1")
            #expect(result.status == 1 && result.output.contains("can't start"), "\(result.output)")
            #expect(result.output.contains("back in place"), "\(result.output)")
            #expect(try Shell.output("sha256sum <\(Lab.state)/bin/meshd") == before)
            #expect(try Lab.meshctl("a", "upgrade /nonexistent 2>&1").output.contains("/nonexistent"))
            #expect(try Lab.meshProcesses("a", "proxy") == proxies && Lab.meshProcesses("a", "meshd") == daemon)
        }

        @Test func onlyRootMayUpgrade() throws {
            let proxies = try Lab.meshProcesses("a", "proxy")
            let socket = Lab.variable("ADMIN_SOCKET_A")
            let result = try Shell.run(
                """
                setpriv --reuid 65534 --regid 0 --clear-groups \(Lab.state)/bin/meshctl --socket \(socket) upgrade 2>&1
                """)
            #expect(result.status == 1 && result.output.contains("only root"), "\(result.output)")
            #expect(try Lab.meshProcesses("a", "proxy") == proxies)
        }

        /// A meshd that is started anew by whoever manages it finds another binary than its proxy's.
        @Test func aRestartWithAnotherBinaryReplacesTheProxyWithoutCuttingConnections() throws {
            let proxies = try Lab.meshProcesses("a", "proxy")
            try beginSteady(long: 8, perSecond: 30)
            try Shell.output(
                """
                cp \(Lab.state)/bin/meshd \(Lab.state)/bin/meshd.new && mv \(Lab.state)/bin/meshd.new \(Lab.state)/bin/meshd
                \(Lab.tool) restart a
                """, seconds: 90)
            #expect(try Shell.waits(20) { try Lab.meshProcesses("a", "proxy").contains { !proxies.contains($0) } })
            #expect(
                try Shell.waits(10) {
                    let status = try Lab.meshctl("a", "status -o json").output
                    return status.contains("\"proxy_replacement\":\"\"") && status.contains("\"ready\":true")
                })
            let steady = try endSteady()
            #expect(steady.refused.isEmpty && steady.cut.isEmpty && steady.worked > 20, "\(steady)")
            #expect(try Shell.waits(20) { try Lab.meshProcesses("a", "proxy").count == 1 })
        }
    }
}
