import Testing

extension EndToEnd {
    /// What `meshctl policy` says of destinations outside the mesh, held against what becomes of connections there.
    @Suite("Egress questions", .timeLimit(.minutes(3)))
    struct EgressQuestions {
        private static let listed = 9_130
        private static let unlisted = 9_131

        private func explain(_ to: String, _ port: Int, from: String = "a-q1", more: String = "") throws
            -> CommandResult
        {
            try Lab.meshctl("a", "policy explain --from \(from) --to \(to) --port \(port) \(more)")
        }

        private func answers(_ port: Int) -> Bool {
            (try? Traffic.client("ping-pong 1", to: Lab.address("b"), port: port, from: "q1")) != nil
        }

        private func write(_ text: String, to file: String) throws {
            try Shell.output("printf '%s' \(Shell.quoted(text)) >\(file).new && mv \(file).new \(file)")
        }

        @Test func explainTestAndSimulateSayWhatBecomesOfEgress() throws {
            try Traffic.startServers()
            for port in [Self.listed, Self.unlisted] {
                try Lab.start(
                    "asked-\(port)", "b", "none", "\(Lab.python) \(Lab.applications)/traffic_server.py \(port)")
            }
            let b = Lab.address("b")
            let own = "allow: [{cidr: \"\(b)\", ports: [\(Self.listed)]}, {name: \"*.outside.example\", ports: [1]}]"
            try ExtraWorkload.make("q1", port: 7_909, egress: "mode: LISTED, \(own)")
            let file = "\(Lab.state)/a/resources/fix.yaml"
            defer {
                _ = try? Shell.run("rm -f \(file)")
                try? ExtraWorkload.remove("q1")
                for port in [Self.listed, Self.unlisted] { try? Lab.stop("asked-\(port)") }
            }
            let open = try explain(b, Self.listed)
            #expect(open.status == 0 && open.lines.last == "allowed by shop/a-q1 allow[0]", "\(open.output)")
            #expect(open.output.contains("path  LISTED shop/a-q1 (workload): allow[0] lists it"), "\(open.output)")
            #expect(Shell.waits(10) { answers(Self.listed) } && !answers(Self.unlisted))
            let named = try explain("api.outside.example", 1)
            #expect(named.status == 0 && named.lines.last == "allowed by shop/a-q1 allow[1]", "\(named.output)")
            for (to, port) in [(b, Self.unlisted), ("outside.example", 1)] {
                let denied = try explain(to, port)
                #expect(denied.status == 1 && denied.lines.last == "denied by shop/a-q1 no-match", "\(denied.output)")
            }
            let free = try explain(b, Self.unlisted, from: "a-w1")
            #expect(free.status == 0 && free.lines.last == "allowed by no-policy", "\(free.output)")
            let json = try explain(b, Self.unlisted, more: "-o json")
            #expect(json.status == 1 && json.output.contains("\"reason\":\"egress_denied\""), "\(json.output)")
            for (from, to) in [("nobody", b), ("a-q1", "127.0.0.1"), ("a-q1", "wbe")] {
                #expect(try explain(to, Self.listed, from: from, more: "2>&1").status == 2, "\(from) to \(to)")
            }
            // An address of the mesh is what has it.
            let service = try explain(Lab.isIPv6Only ? "fd96::10" : "10.96.0.10", 80)
            #expect(service.status == 0 && service.lines.last == "allowed by no-policy", "\(service.output)")
            try holdsATable(b)
            try simulates(b)

            // What it proposes, put in place of what is there, does let it out.
            let answer = try explain(b, Self.unlisted)
            let parts = answer.output.split(separator: "---\n", omittingEmptySubsequences: false)
            let proposal = try #require(parts.count >= 3 ? String(parts[1]) : nil, "\(answer.output)")
            try ExtraWorkload.mesh("q1", port: 7_909)
            try write(proposal, to: file)
            let isOpen = try Shell.waits(10) {
                try explain(b, Self.unlisted).lines.last == "allowed by shop/a-q1 allow[2]"
            }
            #expect(isOpen)
            #expect(answers(Self.unlisted) && answers(Self.listed))
            #expect(try explain(b, 9_132).status == 1)
        }

        private func holdsATable(_ b: String) throws {
            let table = "\(Lab.state)/egress-expectations.yaml"
            try write(
                """
                kind: PolicyTest
                expectations:
                  - {from: a-q1, to: "\(b)", port: \(Self.listed), expect: allowed, by: shop/a-q1}
                  - {from: a-q1, to: "\(b)", port: \(Self.unlisted), expect: allowed}
                  - {from: a-q1, to: api.outside.example, port: 2, expect: denied, by: shop/a-q1}

                """, to: table)
            defer { _ = try? Shell.run("rm -f \(table)") }
            let result = try Lab.meshctl("a", "policy test \(table)")
            #expect(result.status == 1 && result.output.contains("2 met, 1 not met"), "\(result.output)")
            #expect(
                result.output.contains(
                    ":4:5: a-q1 to \(b):\(Self.unlisted): expected allowed, is denied by shop/a-q1 no-match"),
                "\(result.output)")
        }

        private func simulates(_ b: String) throws {
            let directory = "\(Lab.state)/egress-candidate"
            defer { _ = try? Shell.run("rm -rf \(directory)") }
            try Shell.output("mkdir -p \(directory) && cp \(Lab.state)/a/resources/*.yaml \(directory)/")
            let denying = try Shell.output("sed 's/mode: LISTED, allow: .*/mode: DENY}/' \(directory)/q1.yaml")
            try write(denying, to: "\(directory)/q1.yaml")
            let wanted =
                "shop/a-q1 to \(Lab.bracketed(b)):\(Self.listed) outside the mesh: allowed, would be denied by "
                + "shop/a-q1 mode-deny"
            var simulated = ""
            let isListed = try Shell.waits(15) {
                simulated = try Lab.meshctl(
                    "a", "policy simulate --resources \(directory) --config \(Lab.state)/a/meshd.yaml"
                ).output
                return simulated.contains(wanted)
            }
            #expect(isListed, "\(simulated)")
        }
    }
}
