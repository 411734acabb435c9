import Testing

extension EndToEnd {
    /// What TCP promises must hold through the tunnel, to the last byte and to the way a connection ends.
    @Suite("Transfers", .timeLimit(.minutes(5)))
    struct Transfers {
        init() throws { try Traffic.startServers() }

        static let gibibyte: UInt64 = 1 << 30

        @Test func oneGibibyteArrivesIntactFromTheServer() throws {
            let result = try Traffic.client("download \(Self.gibibyte)", seconds: 240)
            #expect(result.bytes == Self.gibibyte)
            #expect(result.intact == Traffic.yes)
            #expect(result.end == "eof")
        }

        @Test func oneGibibyteArrivesIntactAtTheServer() throws {
            let result = try Traffic.client("upload \(Self.gibibyte)", seconds: 240)
            #expect(result.bytes == Self.gibibyte)
            #expect(result.intact == Traffic.yes)
        }

        @Test func twoThousandConnectionsWorkAtOnce() throws {
            let result = try Traffic.client("many 2000", seconds: 120)
            #expect(result.answered == 2_000)
            #expect(result.ended == 2_000)
        }

        @Test func aSideThatClosedStillGetsAllOfTheAnswer() throws {
            let result = try Traffic.client("half-close 50000000")
            #expect(result.bytes == 50_000_000)
            #expect(result.intact == Traffic.yes)
            #expect(result.end == "eof")
        }

        @Test func aTransferThatTheServerCutNeverLooksComplete() throws {
            for count in [0, 1, 100_000, 5_000_000] {
                let result = try Traffic.client("truncated \(count)")
                #expect(result.end == "ECONNRESET", "after \(count) bytes")
                #expect((result.bytes ?? 0) <= UInt64(count))
            }
        }

        @Test func aResetByTheClientReachesTheServer() throws {
            #expect(try Traffic.client("reset end-to-end-1 1000").outcome == "reset 1000")
            #expect(try Traffic.client("reset end-to-end-2 0", to: "inner").outcome == "reset 0")
        }

        @Test func aConnectionWorksAfterALongSilence() throws {
            #expect(try Traffic.client("hold 25").works == true)
        }

        @Test func eightStoppedReadersDoNotHoldUpTheNinthStream() throws {
            // Of a workload of which no burst before has made each of the proxy's loops open a tunnel of its own.
            let client = "w4"
            _ = try Traffic.client("ping-pong 1", from: client)
            try Traffic.beginning("readers", "stopped 8 \(64 << 20) 30", from: client)
            // While they stop: all of them are streams of one tunnel.
            var tunnels: [TunnelLine] = []
            let areInOne = try Shell.waits(20) {
                tunnels = try Lab.tunnels("a", from: client, to: "b-w2")
                return tunnels.contains { $0.streams >= 8 }
            }
            #expect(areInOne && tunnels.count == 1, "\(tunnels)")
            let result = try Traffic.ending("readers", within: 120)
            #expect(result.meanwhile?.intact == true)
            #expect((result.meanwhile?.seconds ?? 1_000) < 20)
            #expect(result.intact == .count(8), "\(result.ends ?? [])")
        }

        /// 200 × 8 MiB wait at the senders; what the proxies hold of it stays within the budget of 256 MiB each, and
        /// their peak memory shows it.
        @Test func twoHundredStoppedReadersStayWithinTheMemoryBudget() throws {
            let result = try Traffic.client("stopped 200 \(1 << 20) 10", seconds: 200)
            for node in ["a", "b"] {
                let peak = try Lab.peakKiB(Lab.meshProcesses(node, "proxy"))
                #expect(peak > 0 && peak < (256 + 32) * 1_024, "KiB at most on node \(node): \(peak)")
            }
            #expect(result.meanwhile?.intact == true)
            #expect(result.intact == .count(200), "\(result.ends ?? [])")
        }

        @Test func transfersSurviveSmallPacketsWithoutOffload() throws {
            let nodes = ["a", "b"].map { Lab.variable("NETNS_\($0.uppercased())") }
            func setLink(offload: String, mtu: Int) throws {
                for node in nodes {
                    let ethtool = "nsenter --net=/run/netns/\(node) ethtool"
                    try Shell.output("\(ethtool) -K mesh0 tso \(offload) gso \(offload) gro \(offload) >/dev/null")
                    try Shell.output("ip -n \(node) link set mesh0 mtu \(mtu)")
                    let state = try Shell.output("\(ethtool) -k mesh0; ip -n \(node) -o link show mesh0")
                    for kind in ["tcp-segmentation", "generic-segmentation", "generic-receive"] {
                        #expect(state.contains("\(kind)-offload: \(offload)\n"), "\(kind) on \(node): \(state)")
                    }
                    #expect(state.contains(" mtu \(mtu) "), "\(state)")
                }
            }
            try setLink(offload: "off", mtu: 1_280)
            defer { try? setLink(offload: "on", mtu: 1_500) }
            let size: UInt64 = 64 << 20
            #expect(try Traffic.client("download \(size)", seconds: 120).intact == Traffic.yes)
            #expect(try Traffic.client("upload \(size)", seconds: 120).intact == Traffic.yes)
            #expect(try Lab.output("a", "w1", "curl -sS -m 10 \(Lab.webURL)") == "Hello from web on node b.\n")
        }

        @Test func manyConnectionsShareOneTunnel() throws {
            let tunnels = "ss -tnH state established '( dport = :15008 )' | wc -l"
            _ = try Traffic.client("many 2")
            let before = Int(
                try Lab.output("a", "none", "sh -c \(Shell.quoted(tunnels))").split(separator: "\n").first ?? "")
            _ = try Traffic.client("many 100")
            let after = Int(
                try Lab.output("a", "none", "sh -c \(Shell.quoted(tunnels))").split(separator: "\n").first ?? "")
            #expect(try #require(after) <= (try #require(before)) + 1)
        }
    }
}
