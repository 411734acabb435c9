import Testing

extension EndToEnd {
    /// Connections to outside the mesh that are there when their workload's EgressPolicy changes. Outside is a server on
    /// node b that no resource names; `e1` calls it.
    @Suite("Egress changes", .timeLimit(.minutes(5)))
    struct EgressChanges {
        private static let kept = 9_120
        private static let dropped = 9_121
        private static let datagrams = 9_122
        private static let port = 7_908

        private static var families: [Bool] { Lab.isIPv6Only ? [true] : [false, true] }

        init() throws { try Self.prepared.get() }

        private static let prepared = Result {
            try Traffic.startServers()
            for port in [kept, dropped] {
                try Lab.start(
                    "outside-\(port)", "b", "none", "\(Lab.python) \(Lab.applications)/traffic_server.py \(port)")
            }
            try Lab.start(
                "outside-\(datagrams)", "b", "none",
                "\(Lab.python) \(Lab.applications)/datagram_server.py \(datagrams)")
            try ExtraWorkload.make("e1", port: port, egress: listing([kept, dropped]))
        }

        /// The address of node b in every family, at these ports.
        private static func listing(_ ports: [Int]) -> String {
            let list = ports.map(String.init).joined(separator: ", ")
            let entries = families.map { "{cidr: \"\(Lab.address("b", ipv6: $0))\", ports: [\(list)]}" }
            return "mode: LISTED, allow: [\(entries.joined(separator: ", "))]"
        }

        private func put(_ egress: String?, for workload: String = "e1") throws {
            try ExtraWorkload.mesh(workload, port: Self.port, egress: egress)
        }

        /// Until that workload's connection there does (not) succeed.
        private func waits(_ port: Int, passes: Bool, from workload: String = "e1") -> Bool {
            Shell.waits(15) {
                let isOpen =
                    (try? Traffic.client("ping-pong 1", to: Lab.address("b"), port: port, from: workload)) != nil
                return isOpen == passes
            }
        }

        /// Until each has said that it worked; they have then begun for a second at least.
        private func begun(_ destinations: Int, to port: Int) throws -> Bool {
            try Shell.waits(15) {
                try Lab.flows("a").count {
                    $0.state == "open" && $0.verdict == "passthrough" && $0.bytesSent > 8
                        && $0.originalDestination?.hasSuffix(":\(port)") == true
                } >= destinations
            }
        }

        private func log(_ name: String) -> String {
            (try? Shell.run("tail -n 1 \(Lab.state)/log/\(name).log").output) ?? ""
        }

        /// Until every one of these clients has ended with an error; how long that took.
        private func end(_ names: [String], within seconds: Double = 5) -> Duration? {
            let start = ContinuousClock.now
            let isOver = Shell.waits(seconds) { names.allSatisfy { log($0).contains("ECONNABORTED") } }
            return isOver ? ContinuousClock.now - start : nil
        }

        private func flow(ofPort port: Int, isShown filter: (String) -> Bool) throws -> Bool {
            try Shell.waits(10) {
                try Lab.meshctl("a", "flows -o json").lines.contains { $0.contains(":\(port)\"") && filter(String($0)) }
            }
        }

        @Test func whatThePolicyListsNoLongerEndsAndTheRestIsLeftAlone() throws {
            try put(Self.listing([Self.kept, Self.dropped]))
            #expect(waits(Self.dropped, passes: true))
            var (ending, staying): ([String], [String]) = ([], [])
            for isIPv6 in Self.families {
                let address = Lab.address("b", ipv6: isIPv6)
                ending.append("egress-dropped-\(isIPv6 ? 6 : 4)")
                staying.append("egress-kept-\(isIPv6 ? 6 : 4)")
                try Traffic.beginning(
                    ending.last ?? "", "chat 40", to: address, port: Self.dropped, from: "e1")
                try Traffic.beginning(staying.last ?? "", "chat 12", to: address, port: Self.kept, from: "e1")
            }
            // The kernel looks for it by its device.
            ending.append("egress-dropped-device")
            try Traffic.beginning(
                "egress-dropped-device", "chat 40 \(Lab.link)", to: Lab.address("b"), port: Self.dropped, from: "e1")
            #expect(try begun(ending.count, to: Self.dropped) && begun(staying.count, to: Self.kept))
            let counted = try Lab.metric("a", "meshd_policy_denials_total{", "policy=\"shop/a-e1\"")
            try put(Self.listing([Self.kept]))
            let taken = try #require(end(ending), "\(ending.map { log($0) })")
            // The file is read after a quiet tenth of a second; the rest is what starting shells takes.
            #expect(taken < .milliseconds(1_500), "\(taken)")
            for name in ending { try Lab.stop(name) }
            let isShown = try flow(ofPort: Self.dropped) { line in
                [
                    "\"state\":\"closed\"", "\"verdict\":\"denied\"", "\"reason\":\"egress_denied\"",
                    "\"policy\":\"shop/a-e1\"", "\"rule\":\"no-match\"",
                ].allSatisfy { line.contains($0) }
            }
            #expect(isShown)
            let isCounted = try Shell.waits(5) {
                try Lab.metric("a", "meshd_policy_denials_total{", "policy=\"shop/a-e1\"")
                    >= counted + Double(ending.count)
            }
            #expect(isCounted)
            for name in staying {
                let kept = try Traffic.ending(name, within: 20)
                #expect(kept.broken == false && (kept.worked ?? 0) > 20, "\(kept)")
            }
            // A new one is refused by the same policy, and says so.
            #expect(waits(Self.dropped, passes: false))
            let isRefusedByName = try flow(ofPort: Self.dropped) { line in
                ["\"state\":\"refused\"", "\"reason\":\"egress_denied\"", "\"policy\":\"shop/a-e1\""].allSatisfy {
                    line.contains($0)
                }
            }
            #expect(isRefusedByName)
        }

        @Test func aModeThatDeniesEndsWhatNoPolicyHeldBack() throws {
            try put(nil)
            #expect(waits(Self.dropped, passes: true))
            try Traffic.beginning("egress-mode", "chat 40", to: Lab.address("b"), port: Self.dropped, from: "e1")
            #expect(try begun(1, to: Self.dropped))
            try put("mode: DENY")
            #expect(end(["egress-mode"]) != nil, "\(log("egress-mode"))")
            try Lab.stop("egress-mode")
            #expect(try flow(ofPort: Self.dropped) { $0.contains("\"rule\":\"mode-deny\"") && $0.contains("closed") })
        }

        /// In its own network namespace, which a workload of the node does not share.
        @Test func aWorkloadInItsOwnNetworkNamespaceIsReachedToo() throws {
            let file = "\(Lab.state)/a/resources/egress-w3.yaml"
            defer { _ = try? Shell.run("rm -f \(file)") }
            try Traffic.beginning("egress-w3", "chat 40", to: Lab.address("b"), port: Self.dropped, from: "w3")
            #expect(try begun(1, to: Self.dropped))
            let policy = """
                kind: EgressPolicy
                metadata: {name: no-w3, namespace: shop}
                spec: {selector: {matchLabels: {app: a-w3}}, mode: DENY}
                """
            try Shell.output("printf '%s\\n' \(Shell.quoted(policy)) >\(file).new && mv \(file).new \(file)")
            #expect(end(["egress-w3"]) != nil, "\(log("egress-w3"))")
            try Lab.stop("egress-w3")
        }

        /// Datagrams of a fenced workload are judged one by one, its connected sockets' too.
        @Test func datagramsOfAConnectedSocketEndWithTheirListing() throws {
            try put(Self.listing([Self.datagrams]))
            #expect(waits(Self.kept, passes: false))
            for isIPv6 in Self.families {
                try Traffic.beginning(
                    "egress-datagrams-\(isIPv6)", "datagrams 40", to: Lab.address("b", ipv6: isIPv6),
                    port: Self.datagrams, from: "e1")
            }
            let isOpen = try flow(ofPort: Self.datagrams) { $0.contains("\"transport\":\"udp\"") }
            #expect(isOpen)
            try put(Self.listing([Self.kept]))
            for isIPv6 in Self.families {
                let ended = try Traffic.ending("egress-datagrams-\(isIPv6)", within: 8)
                #expect(ended.broken == true && (ended.worked ?? 0) > 0, "\(ended)")
            }
            #expect(try Lab.refusals("a", "egress_without_verdict") > 0)
        }

        @Test func whatANameLetOutEndsWithTheNameAlone() throws {
            func listing(_ names: String...) -> String {
                let entries = names.map { "{name: \"\($0)\", ports: [\(Self.kept)]}" }.joined(separator: ", ")
                return "mode: LISTED, allow: [\(entries)]"
            }
            try put(listing("partner.outside.example"))
            #expect(waits(Self.kept, passes: false), "before anybody said whose address it is")
            try Traffic.beginning(
                "egress-named", "chat 60", to: "partner.outside.example", port: Self.kept, from: "e1", byDNS: true)
            #expect(try begun(1, to: Self.kept))
            try put(listing("www.outside.example", "partner.outside.example"))
            _ = Shell.waits(2) { false }
            #expect(log("egress-named").isEmpty, "it goes on: \(log("egress-named"))")
            try put(listing("www.outside.example"))
            #expect(end(["egress-named"]) != nil, "\(log("egress-named"))")
            try Lab.stop("egress-named")
        }
    }
}
