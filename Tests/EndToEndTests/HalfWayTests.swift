import Testing

extension EndToEnd {
    /// A tool that was killed while it worked: the next run finds its way, and nothing of either is left.
    @Suite("Half-way", .timeLimit(.minutes(10)))
    struct HalfWay {
        static let other = "CULVERT_LAB=culvert-half \(Lab.tool)"

        @Test func aPlainLabComesUpAgainAndLeavesNothing() throws {
            for delay in ["0.05", "0.2", "0.4"] { try kill(after: delay, "up --plain") }
            try Shell.output("\(Self.other) up --plain && \(Self.other) exec a -- true && \(Self.other) down")
            try expectNoTrace()
        }

        /// At moments of its own kind each: nothing there, cgroups and networks, nginx, certificates, one meshd, both.
        @Test func aMeshedLabComesUpAgainCarriesAndLeavesNothing() throws {
            let up = "up --binaries \(Lab.state)/bin"
            for delay in ["0.1", "0.4", "0.8", "1.2", "1.7", "2.5"] { try kill(after: delay, up) }
            try Shell.output("\(Self.other) \(up)", seconds: 120)
            let page = try Shell.output("\(Self.other) exec a -- curl -sS -m 10 http://web/")
            #expect(page == "Hello from web on node b.\n")
            try Shell.output("\(Self.other) down", seconds: 120)
            try expectNoTrace()
        }

        /// Somebody's lab is no demo's to use up.
        @Test func theDemoLeavesALabAloneThatIsUpAlready() throws {
            let demo = Lab.root + "/tools/demo"
            let name = Lab.state.split(separator: "/").last?.dropLast("-lab".count) ?? ""
            let result = try Shell.run("CULVERT_LAB=\(name) \(demo) --check 2>&1", seconds: 120)
            #expect(result.status != 0)
            #expect(result.output.contains("is up already"), "\(result.output)")
            #expect(result.output.contains("tools/lab down ends it"), "\(result.output)")
            #expect(try Lab.output("a", "w1", "curl -sS -m 10 \(Lab.webURL)") == "Hello from web on node b.\n")
        }

        private func kill(after delay: String, _ arguments: String) throws {
            _ = try Shell.run(
                "\(Self.other) \(arguments) >/dev/null 2>&1 & sleep \(delay); kill -KILL $!; wait", seconds: 60)
        }

        private func expectNoTrace() throws {
            let traces = try Shell.output(
                """
                { ip netns list; ls -d /run/*; cat /proc/self/mountinfo; find $(dirname \(Lab.variable("LAB_CGROUP"))) -maxdepth 1; } |
                grep culvert-half || true
                """)
            #expect(traces.isEmpty, "left behind: \(traces)")
        }
    }
}
