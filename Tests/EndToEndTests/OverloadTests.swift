import Testing

extension EndToEnd {
    /// Too much of everything: what is refused says so, what goes on is whole, and it ends by itself.
    @Suite("Overload", .timeLimit(.minutes(5)))
    struct Overload {
        init() throws { try Traffic.startServers() }

        @Test func atTheDescriptorLimitNewConnectionsAreRefusedAndOldOnesGoOn() throws {
            try Settings.with("descriptorsMax: 256") {
                try Traffic.beginning("chat", "chat 15")
                try Shell.output("sleep 1")
                let before = try refusals(["proxy_overloaded", "descriptor_limit"])
                let crowd = try Traffic.client("crowd 400", from: "w3", seconds: 90)
                let outcomes = crowd.outcomes ?? [:]
                let ok = outcomes["ok"] ?? 0
                #expect(ok > 50 && ok < 256, "\(outcomes)")
                #expect(crowd.worked == ok, "a connection that was taken does not work twice")
                #expect(Set(outcomes.keys).isSubset(of: ["ok", "ECONNREFUSED", "ECONNRESET"]), "\(outcomes)")
                let counted = try Shell.waits(5) {
                    try refusals(["proxy_overloaded", "descriptor_limit"]) - before >= Double(400 - ok)
                }
                #expect(counted, "not every refusal is counted")
                let shown = Set(
                    try Lab.flows("a").filter { $0.sourceWorkload?.contains("a-w3") == true && $0.verdict == "denied" }
                        .map { $0.reason ?? "" })
                #expect(!shown.isEmpty && shown.isSubset(of: ["proxy_overloaded", "descriptor_limit"]), "\(shown)")
                let result = try Traffic.ending("chat", within: 60)
                #expect(result.broken == false && (result.worked ?? 0) > 80)
                #expect(Shell.waits(10) { (try? Traffic.client("ping-pong 1")) != nil }, "it does not recover")
                #expect(try Shell.waits(5) { try Lab.metric("a", "meshd_proxy_overloaded") == 0 })
            }
        }

        @Test func aSmallMemoryBudgetIsKeptAndNothingIsCorrupted() throws {
            try Settings.with("memoryBudget: 16MiB") {
                let before = try refusals(["memory_budget", "proxy_overloaded"])
                let hoard = try Traffic.client("hoard 150 5", from: "w3", seconds: 120)
                let outcomes = hoard.outcomes ?? [:]
                // All of its bytes, or the beginning of them and a reset: nothing else, and never an end too early.
                #expect(Set(outcomes.keys).isSubset(of: ["eof", "ECONNRESET", "ECONNREFUSED"]), "\(outcomes)")
                #expect((outcomes["eof"] ?? 0) > 0, "\(outcomes)")
                let lost = outcomes.filter { $0.key != "eof" }.values.reduce(0, +)
                let counted = try Shell.waits(5) {
                    try refusals(["memory_budget", "proxy_overloaded", "slow_peer"]) - before >= Double(lost)
                }
                #expect(counted, "\(lost) were refused or reset, not all of them are counted")
                let peak = try Lab.peakKiB(Lab.meshProcesses("a", "proxy"))
                #expect(peak > 0 && peak < (16 + 32) * 1_024, "KiB at most: \(peak)")
                #expect(Shell.waits(10) { (try? Traffic.client("download 50000000").intact) == Traffic.yes })
                #expect(try Shell.waits(5) { try Lab.metric("a", "meshd_proxy_overloaded") == 0 })
            }
        }

        private func refusals(_ reasons: [String]) throws -> Double {
            try reasons.map { try Lab.refusals("a", $0) }.reduce(0, +)
        }
    }
}
