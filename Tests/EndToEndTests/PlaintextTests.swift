import Glibc
import Testing

extension EndToEnd {
    /// Plain text to workloads, from outside the mesh and from neighbours. Node b's w1 serves 8080 on the node's address, w3
    /// has an address of its own.
    @Suite("Plain text") struct PlaintextTests {
        private static let families = Lab.isIPv6Only ? [true] : [false, true]

        /// What a client outside the workload sees of a connect(): `0`, or the errno's name, and after how long.
        private static func connect(
            _ node: String, _ workload: String, to address: String, _ port: Int
        ) throws -> (outcome: String, milliseconds: Int) {
            let script = """
                time, errno, socket = map(__import__, ("time", "errno", "socket"))
                began = time.monotonic()
                try:
                    socket.create_connection(("\(address)", \(port)), 5).close()
                    outcome = "0"
                except OSError as error:
                    outcome = errno.errorcode.get(error.errno, str(error))
                print(outcome, int((time.monotonic() - began) * 1000))
                """
            let words = try Lab.output(node, workload, "\(Lab.python) -c \(Shell.quoted(script))").split(separator: " ")
            return (String(words.first ?? ""), Int(words.last?.filter(\.isNumber) ?? "") ?? -1)
        }

        @Test(arguments: ["a", "b"], families)
        func strictWorkloadRefusesStrangersAtOnce(_ node: String, _ ipv6: Bool) throws {
            for workload in ["w1", "w3"] {
                let before = try Lab.refusals("b", "plaintext_refused")
                let answer = try Self.connect(node, "none", to: Lab.address("b", workload, ipv6: ipv6), 8080)
                #expect(answer.outcome == "ECONNREFUSED", "\(workload)")
                #expect(answer.milliseconds < 1_000, "\(workload)")
                #expect(try Shell.waits(5) { try Lab.refusals("b", "plaintext_refused") > before }, "\(workload)")
            }
        }

        @Test func refusedStrangerIsShownWithItsAddress() throws {
            let source = Lab.address("a")
            _ = try Self.connect("a", "none", to: Lab.address("b", "w3"), 8080)
            #expect(
                try Shell.waits(5) {
                    try Lab.flows("b").contains {
                        $0.reason == "plaintext_refused" && $0.destinationWorkload == "shop/b-w3"
                            && $0.source?.hasPrefix(Lab.bracketed(source) + ":") == true && $0.verdict == "denied"
                            && $0.sourcePrincipal?.isEmpty ?? true
                    }
                })
        }

        @Test(arguments: families) func portWithoutAListenerHasTheKernelsAnswer(_ ipv6: Bool) throws {
            let before = try Lab.refusals("b", "plaintext_refused")
            #expect(try Self.connect("a", "none", to: Lab.address("b", ipv6: ipv6), 8765).outcome == "ECONNREFUSED")
            #expect(try Lab.refusals("b", "plaintext_refused") == before)
        }

        @Test func listenerThatIsNoWorkloadsIsReached() throws {
            try Lab.start("open-server", "b", "none", "\(Lab.python) -m http.server 8098 --bind ::")
            defer { try? Lab.stop("open-server") }
            #expect(
                try Shell.waits(10) {
                    try Self.connect("a", "none", to: Lab.address("b", ipv6: true), 8098).outcome == "0"
                })
        }

        @Test func workloadReachesItselfWhereverItListens() throws {
            #expect(try Self.connect("b", "w1", to: "::1", 8080).outcome == "0")
            #expect(try Self.connect("b", "w1", to: Lab.address("b"), 8080).outcome == "0")
            #expect(try Self.connect("b", "w3", to: "::1", 8080).outcome == "0")
            #expect(try Self.connect("b", "w3", to: Lab.address("b", "w3"), 8080).outcome == "0")
        }

        @Test(arguments: ["w2", "none"]) func sharedLoopbackIsJudged(_ neighbour: String) throws {
            let before = try Lab.refusals("b", "plaintext_refused")
            #expect(try Self.connect("b", neighbour, to: "::1", 8080).outcome == "ECONNREFUSED")
            #expect(try Lab.refusals("b", "plaintext_refused") > before)
        }

        @Test func proxyThatStopsLeavesStrictStrict() throws {
            let proxies = try Lab.meshProcesses("b", "proxy")
            for pid in proxies { kill(pid, SIGSTOP) }
            defer { for pid in proxies { kill(pid, SIGCONT) } }
            #expect(try Self.connect("a", "none", to: Lab.address("b", "w3"), 8080).outcome == "ECONNREFUSED")
            #expect(try Self.connect("b", "w3", to: "::1", 8080).outcome == "0")
        }

        // MARK: permissive

        /// Node b with this PeerAuthentication for the time of the body.
        private static func with(_ spec: String, _ body: () throws -> Void) throws {
            let file = "\(Lab.state)/b/resources/peer-authentication.yaml"
            let text = "kind: PeerAuthentication\nmetadata: {name: plain, namespace: shop}\nspec: \(spec)\n"
            try Shell.output("printf %s \(Shell.quoted(text)) >\(file).new && mv \(file).new \(file)")
            defer {
                _ = try? Shell.run("rm -f \(file)")
                // Of either port, or the next test meets what this one allowed.
                _ = Shell.waits(10) {
                    [8080, 7000].allSatisfy {
                        (try? connect("a", "none", to: Lab.address("b", "w3"), $0).outcome) != "0"
                    }
                }
            }
            try body()
        }

        private static let permissive = "{selector: {matchLabels: {app: b-w3}}, mtls: {mode: PERMISSIVE}}"

        @Test(arguments: families) func permissiveWorkloadTakesPlainTextAsNobodys(_ ipv6: Bool) throws {
            let url = "http://\(Lab.bracketed(Lab.address("b", "w3", ipv6: ipv6))):8080/remote"
            try Self.with(Self.permissive) { () throws in
                #expect(
                    try Shell.waits(10) {
                        try Lab.run("a", "none", "curl -s -m 5 \(url)").output == Lab.address("a", ipv6: ipv6) + "\n"
                    }, "nginx is not shown the client's address")
                #expect(
                    try Shell.waits(5) {
                        try Lab.flows("b").contains {
                            $0.destinationWorkload == "shop/b-w3" && $0.verdict == "allowed" && $0.bytesReceived > 0
                                && $0.sourcePrincipal?.isEmpty ?? true
                        }
                    })
                #expect(
                    try Lab.metric(
                        "b", "istio_tcp_connections_opened_total", "connection_security_policy=\"none\"",
                        "destination_workload=\"b-w3\"", "source_principal=\"unknown\"") > 0)
                // Others are as strict as before.
                #expect(try Self.connect("a", "none", to: Lab.address("b"), 8080).outcome == "ECONNREFUSED")
                #expect(try Self.connect("a", "none", to: Lab.address("b", "w3"), 8765).outcome == "ECONNREFUSED")
                // The mesh goes on beside it.
                #expect(try Lab.run("a", "w1", "curl -s -m 5 http://inner-web/").output.contains("inner-web"))
            }
            #expect(try Self.connect("a", "none", to: Lab.address("b", "w3"), 8080).outcome == "ECONNREFUSED")
        }

        @Test func permissivePortTakesPlainTextAndNoOtherDoes() throws {
            try Traffic.startServers()
            try Self.with("{selector: {matchLabels: {app: b-w3}}, portLevelMtls: {7000: {mode: PERMISSIVE}}}") {
                () throws in
                let address = Lab.address("b", "w3")
                #expect(try Shell.waits(10) { try Self.connect("a", "none", to: address, 7000).outcome == "0" })
                #expect(try Self.connect("a", "none", to: address, 8080).outcome == "ECONNREFUSED")
            }
        }

        @Test func declaredProbePassesFromItsSourceToItsPortOnly() throws {
            try Traffic.startServers()
            let (probe, address) = (Lab.address("b"), Lab.address("b", "w3"))
            try Self.with("{selector: {matchLabels: {app: b-w3}}, exempt: [{source: \"\(probe)\", port: 7000}]}") {
                () throws in
                let before = try Lab.metric("b", "reason=\"plaintext_exempt\"")
                // Until then what the test before allowed may still be in force: it is the count that says otherwise.
                #expect(
                    try Shell.waits(10) {
                        guard try Self.connect("b", "none", to: address, 7000).outcome == "0" else { return false }
                        return try Lab.metric("b", "reason=\"plaintext_exempt\"") > before
                    })
                #expect(try Self.connect("b", "none", to: address, 8080).outcome == "ECONNREFUSED")
                #expect(try Self.connect("a", "none", to: address, 7000).outcome == "ECONNREFUSED")
            }
        }

        @Test func declaredProbesConnectionEndsWithItsDeclaration() throws {
            try Traffic.startServers()
            let address = Lab.address("b", "w3")
            let isOpen = { () throws in
                try Lab.flows("b").contains {
                    $0.state == "open" && $0.path == "plain" && $0.destinationWorkload == "shop/b-w3"
                        && $0.bytesSent > 8
                }
            }
            try Self.with(
                "{selector: {matchLabels: {app: b-w3}}, exempt: [{source: \"\(Lab.address("a"))\", port: 7000}]}"
            ) {
                () throws in
                let passes = try Shell.waits(10) { try Self.connect("a", "none", to: address, 7000).outcome == "0" }
                #expect(passes)
                try Traffic.beginning("plain-probe", "chat 30", to: address, from: "none")
                let isSeen = try Shell.waits(10) { try isOpen() }
                #expect(isSeen)
            }
            let log = "\(Lab.state)/log/plain-probe.log"
            // The client names itself and what it met.
            #expect(try Shell.waits(5) { try Shell.run("tail -n 1 \(log)").output.contains("chat") })
            try Lab.stop("plain-probe")
            #expect(
                try Shell.waits(5) {
                    try Lab.flows("b").contains {
                        $0.state == "closed" && $0.reason == "plaintext_refused" && $0.verdict == "denied"
                            && $0.destinationWorkload == "shop/b-w3" && $0.bytesSent > 8
                    }
                })
        }

        @Test func permissiveWithoutAProxyRefuses() throws {
            try Self.with(Self.permissive) { () throws in
                let address = Lab.address("b", "w3")
                #expect(try Shell.waits(10) { try Self.connect("a", "none", to: address, 8080).outcome == "0" })
                let stopped = try Lab.meshProcesses("b", "proxy")
                for pid in stopped { kill(pid, SIGSTOP) }
                defer { for pid in stopped { kill(pid, SIGCONT) } }
                // Without a beat for 5 s it is taken for dead.
                #expect(
                    try Shell.waits(10) {
                        try Self.connect("a", "none", to: address, 8080).outcome == "ECONNREFUSED"
                    })
            }
        }

        @Test func everyNamespaceWithWorkloadsHasItsProgramAndNoOther() throws {
            let pins = try Shell.output("ls \(Lab.variable("LAB_BPFFS"))/culvert/b/v1 | grep -c link_mesh_arrival_")
            // The node's own, where w1 and w2 are, w3's and w4's.
            #expect(pins == "3\n")
        }
    }
}
