import FoundationEssentials
import Testing

extension EndToEnd {
    /// Policies as an operator drops them in: what they do to what is new and to what is there, and what says why.
    @Suite("Policy", .timeLimit(.minutes(5)))
    struct Policy {
        init() throws { try Traffic.startServers() }

        private static func file(_ node: String) -> String { "\(Lab.state)/\(node)/resources/policy.yaml" }

        /// Puts the text into force on node b, where `echo` and `inner` are.
        private func drop(_ text: String, on node: String = "b") throws {
            let file = Self.file(node)
            try Shell.output("printf '%s' \(Shell.quoted(text)) >\(file).new && mv \(file).new \(file)")
        }

        private func remove(on node: String = "b") { _ = try? Shell.run("rm -f \(Self.file(node))") }

        private static let denyEcho = """
            kind: AuthorizationPolicy
            metadata: {name: no-echo, namespace: shop}
            spec:
              selector: {matchLabels: {app: b-w2}}
              action: DENY
              rules:
                - from: [{source: {serviceAccounts: [a-w1]}}]
                  to: [{operation: {ports: [7000]}}]

            """

        @Test func aDenyEndsWhatIsEstablishedAndRefusesWhatComesWhileOthersGoOn() throws {
            defer { remove() }
            try Traffic.beginning("denied-chat", "chat 20")
            try Traffic.beginning("kept-chat", "chat 8", to: "inner")
            let isOpen = try Shell.waits(10) {
                try Lab.flows("b").filter { $0.state == "open" && $0.bytesSent > 8 }.count >= 2
            }
            #expect(isOpen)
            let clock = ContinuousClock()
            try drop(Self.denyEcho)
            let dropped = clock.now
            let log = "\(Lab.state)/log/denied-chat.log"
            #expect(try Shell.waits(5) { try Shell.run("tail -n 1 \(log)").output.contains("chat echo") })
            // The file is read after a quiet tenth of a second; the rest is what starting a shell takes.
            #expect(clock.now - dropped < .milliseconds(1_500))
            try Lab.stop("denied-chat")
            #expect(throws: (any Error).self) { try Traffic.client("ping-pong 1") }
            let kept = try Traffic.ending("kept-chat", within: 15)
            #expect(kept.broken == false && (kept.worked ?? 0) > 20, "\(kept)")
            try shows("b", policy: "shop/no-echo")
            #expect(try Lab.metric("b", "meshd_policy_denials_total{", "policy=\"shop/no-echo\"") >= 2)
            #expect(try Lab.refusals("b", "policy_denied") >= 2)
            remove()
            #expect(Shell.waits(10) { (try? Traffic.client("ping-pong 1"))?.microseconds != nil })
        }

        /// The flow of a refusal has the policy and the rule; the record on disk too.
        private func shows(_ node: String, policy: String) throws {
            let isShown = try Shell.waits(10) {
                try Lab.meshctl(node, "flows -o json").lines.contains {
                    $0.contains("\"policy\":\"\(policy)\"") && $0.contains("\"rule\":\"rules[0]\"")
                        && $0.contains("\"reason\":\"policy_denied\"") && $0.contains(Lab.principalPrefix + "a-w1")
                }
            }
            #expect(isShown, "no flow names \(policy)")
            let isRecorded = try Shell.waits(10) {
                try Lab.meshctl(node, "flows --records 200").output.contains("\"policy\":\"\(policy)\"")
            }
            #expect(isRecorded, "no record names \(policy)")
        }

        @Test func aDryRunIsToldAndLetsIn() throws {
            defer { remove() }
            let trial = Self.denyEcho.replacing(
                "namespace: shop}", with: "namespace: shop, annotations: {istio.io/dry-run: \"true\"}}")
            try drop(trial)
            let isCounted = try Shell.waits(10) {
                _ = try Traffic.client("ping-pong 1")
                return try Lab.metric("b", "meshd_policy_dry_run_denials_total{", "policy=\"shop/no-echo\"") > 0
            }
            #expect(isCounted)
            #expect(try Lab.meshctl("b", "flows -o json").output.contains("\"dry_run_policy\":\"shop/no-echo\""))
        }

        @Test func explainNamesTheRuleAndWhatWouldAllowIt() throws {
            defer { remove() }
            let before = try Lab.meshctl("b", "policy explain --from a-w1 --to echo --port 7000")
            #expect(before.status == 0 && before.lines.last == "allowed by no-policy", "\(before.output)")
            try drop(Self.denyEcho)
            var answer = before
            _ = try Shell.waits(10) {
                answer = try Lab.meshctl("b", "policy explain --from a-w1 --to echo --port 7000")
                return answer.status == 1
            }
            #expect(answer.status == 1 && answer.lines.last == "denied by shop/no-echo rules[0]", "\(answer.output)")
            #expect(answer.output.contains("DENY shop/no-echo (workload): rules[0] matches"))
            // What it proposes, put in place of the file, does allow it.
            let parts = answer.output.split(separator: "---\n", omittingEmptySubsequences: false)
            let proposal = try #require(parts.count >= 3 ? String(parts[1]) : nil, "\(answer.output)")
            try drop(proposal)
            #expect(Shell.waits(10) { (try? Traffic.client("ping-pong 1"))?.microseconds != nil })
            #expect(try Lab.meshctl("b", "policy explain --from a-w1 --to echo --port 7000").status == 0)
            // Nobody else gains or loses by it.
            #expect(try Lab.meshctl("b", "policy explain --from a-w2 --to echo --port 7000").status == 0)
            let nobody = try Lab.meshctl("b", "policy explain --from nobody --to b-w2 --port 7000 -o json")
            #expect(
                nobody.status == 1 && nobody.output.contains("\"reason\":\"plaintext_refused\""), "\(nobody.output)")
            #expect(try Lab.meshctl("b", "policy explain --from nobodyy --to echo --port 7000 2>&1").status == 2)
        }

        @Test func testAndSimulateJudgePoliciesThatAreNotInForce() throws {
            let directory = "\(Lab.state)/candidate"
            let table = "\(Lab.state)/expectations.yaml"
            defer { _ = try? Shell.run("rm -rf \(directory) \(table)") }
            try Shell.output(
                """
                mkdir -p \(directory)
                cp \(Lab.state)/b/resources/*.yaml \(directory)/
                printf '%s' \(Shell.quoted(Self.denyEcho)) >\(directory)/candidate.yaml
                """)
            let lines = """
                kind: PolicyTest
                expectations:
                  - {from: a-w1, to: echo, port: 7000, expect: denied, by: shop/no-echo}
                  - {from: a-w2, to: echo, port: 7000, expect: allowed}
                  - {from: nobody, to: b-w2, port: 7000, expect: denied}

                """
            try Shell.output("printf '%s' \(Shell.quoted(lines)) >\(table)")
            let offline = "--resources \(directory) --config \(Lab.state)/b/meshd.yaml"
            let met = try Lab.meshctl("b", "policy test \(offline) \(table)")
            #expect(met.status == 0 && met.output.contains("3 met, 0 not met"), "\(met.output)")
            let unmet = try Lab.meshctl("b", "policy test \(table)")
            #expect(unmet.status == 1, "\(unmet.output)")
            #expect(
                unmet.output.contains(
                    ":3:5: a-w1 to echo:7000: expected denied by shop/no-echo, is allowed by no-policy"))
            _ = try Traffic.client("ping-pong 1")
            var simulated = unmet
            let isListed = try Shell.waits(15) {
                simulated = try Lab.meshctl("b", "policy simulate \(offline)")
                return simulated.status == 1
            }
            #expect(isListed)
            #expect(
                simulated.output.contains(
                    "\(Lab.principalPrefix)a-w1 to shop/b-w2:7000: allowed, would be denied by shop/no-echo rules[0]"),
                "\(simulated.output)")
            let list = try Lab.meshctl("b", "policy list --resources \(directory) --config \(Lab.state)/b/meshd.yaml")
            #expect(list.status == 0 && list.output.contains("shop/no-echo"), "\(list.output)")
        }
    }
}
