import Glibc
import Testing

extension EndToEnd {
    /// The nodes are 20 ms apart, and one packet of a hundred is lost in either direction.
    @Suite("Distance", .timeLimit(.minutes(5)))
    struct Distance {
        init() throws { try Traffic.startServers() }

        private func tunnels() throws -> [TunnelLine] { try Lab.tunnels("a", from: "w1", to: "b-w2") }

        /// A new proxy knows of no loss and has no tunnels: suites before and after this one have theirs.
        private func beginAnew() throws {
            for pid in try Lab.meshProcesses("a", "proxy") { kill(pid, SIGKILL) }
            #expect(Shell.waits(20) { (try? Traffic.client("ping-pong 1")) != nil })
        }

        /// One congestion window can't carry what several would: from the first transfer that shows it, streams get
        /// tunnels of their own, up to the configured eight.
        @Test func transfersOverAPathWithLossGetTunnelsOfTheirOwn() throws {
            try beginAnew()
            defer {
                #expect(throws: Never.self) {
                    try Shell.output("\(Lab.tool) distance off")
                    try beginAnew()
                }
            }
            try Shell.output("\(Lab.tool) distance 20 1")
            let metric = "meshd_proxy_tunnels_under_loss_total"
            let before = try Lab.metric("a", metric)
            try Traffic.beginning("alone", "download 12000000")
            let isNoticed = try Shell.waits(30) {
                _ = try Traffic.client("ping-pong 1")
                return try Lab.metric("a", metric) > before
            }
            #expect(isNoticed)
            for number in 0..<10 { try Traffic.beginning("beside-\(number)", "download 8000000") }
            var seen: [TunnelLine] = []
            let areSpread = try Shell.waits(20) {
                seen = try tunnels()
                return seen.count >= 8
            }
            #expect(areSpread && seen.allSatisfy { $0.streams <= 4 }, "\(seen)")
            for name in ["alone"] + (0..<10).map({ "beside-\($0)" }) {
                let result = try Traffic.ending(name, within: 60)
                #expect(result.intact == Traffic.yes && result.end == "eof", "\(name): \(result)")
            }
            #expect(try Lab.metric("a", metric) >= before + 7)
        }
    }
}
