import Testing

extension EndToEnd {
    /// UDP that is not DNS: not carried, but judged as the plain text that it is, and counted.
    @Suite("Datagrams", .timeLimit(.minutes(3)))
    struct Datagrams {
        private static let port = 7_053

        private func exchange(_ arguments: String, from workload: String = "w1") throws -> String {
            let script = "\(Lab.python) \(Lab.applications)/names_client.py exchange \(arguments)"
            return try Lab.output("a", workload, script)
        }

        private func udpFlows(_ node: String, to destination: String) throws -> [String] {
            let rows = try Lab.meshctl(node, "flows -o json").lines.map(String.init)
            return rows.filter { $0.contains("\"transport\":\"udp\"") && $0.contains("\"\(destination)\"") }
        }

        @Test func datagramsToAWorkloadThatTakesNoPlainTextAreRefused() throws {
            try Lab.start(
                "datagrams-w3", "b", "w3", "\(Lab.python) \(Lab.applications)/datagram_server.py \(Self.port)")
            let server = Lab.address("b", "w3")
            for how in ["connected", "unconnected"] {
                #expect(try exchange("\(how) \(server) \(Self.port) 1") == "\"ECONNREFUSED\"\n", "\(how)")
            }
            #expect(try Lab.refusals("a", "datagram_to_strict") >= 2)
        }

        @Test func aPermissivePortTakesDatagramsAndBothSidesCountThem() throws {
            try Lab.start(
                "datagrams-w3", "b", "w3", "\(Lab.python) \(Lab.applications)/datagram_server.py \(Self.port)")
            // Both ends judge: the sender's whether it may go, the receiver's whether it may come.
            for node in ["a", "b"] {
                try Shell.output(
                    "printf '%s\\n' \(Shell.quoted(Self.permissive)) >\(Lab.state)/\(node)/resources/datagrams.yaml")
            }
            defer { _ = try? Shell.output("rm -f \(Lab.state)/[ab]/resources/datagrams.yaml") }
            let server = Lab.address("b", "w3")
            let passes = try Shell.waits(15) {
                try exchange("unconnected \(server) \(Self.port) 10") == "[10, 10]\n"
            }
            #expect(passes)
            #expect(try exchange("connected \(server) \(Self.port) 20") == "[20, 20]\n")
            let shown = Lab.bracketed(server) + ":\(Self.port)"
            for (datagrams, bytes) in [(10, 1_000), (20, 2_000)] {
                let counts = "\"bytes_sent\":\(bytes),\"bytes_received\":\(bytes)"
                let also = "\"datagrams_sent\":\(datagrams),\"datagrams_received\":\(datagrams)"
                let isCounted = try Shell.waits(10) {
                    try udpFlows("a", to: shown).contains {
                        $0.contains(counts) && $0.contains(also) && $0.contains("\"source_workload\":\"shop/a-w1\"")
                            && $0.contains("\"command\":\"python3\"")
                    }
                }
                let seen = try udpFlows("a", to: shown)
                #expect(isCounted, "\(seen)")
            }
            #expect(
                try Shell.waits(10) {
                    try Lab.meshctl("b", "flows -o json").lines.contains {
                        $0.contains("\"transport\":\"udp\"") && $0.contains("\"destination_workload\":\"shop/b-w3\"")
                            && $0.contains("\"direction\":\"inbound\"") && $0.contains("\"datagrams_sent\":20")
                            && $0.contains("\"datagrams_received\":20") && $0.contains("\"rule\":\"no-policy\"")
                    }
                }, "the server's side")
        }

        // MARK: from outside the mesh

        private static let families = Lab.isIPv6Only ? [true] : [false, true]

        private static func knock(_ port: Int = port, _ workload: String = "w3", ipv6: Bool = Lab.isIPv6Only) throws
            -> String
        {
            let target = "\(Lab.address("b", workload, ipv6: ipv6)) \(port)"
            let script = "\(Lab.python) \(Lab.applications)/names_client.py knock \(target)"
            return try Lab.output("a", "none", script).filter { !$0.isNewline }
        }

        private static func serve() throws {
            try Lab.start(
                "datagrams-w3", "b", "w3", "\(Lab.python) \(Lab.applications)/datagram_server.py \(port)")
        }

        /// Node b with these resources for the time of the body.
        private static func with(_ resources: String, _ body: () throws -> Void) throws {
            let file = "\(Lab.state)/b/resources/datagrams.yaml"
            try Shell.output("printf '%s\n' \(Shell.quoted(resources)) >\(file).new && mv \(file).new \(file)")
            defer {
                _ = try? Shell.run("rm -f \(file)")
                // Or the next test meets what this one allowed.
                _ = Shell.waits(10) { (try? knock()) == "\"ECONNREFUSED\"" }
            }
            try body()
        }

        private static let permissive = """
            kind: PeerAuthentication
            metadata: {name: datagrams, namespace: shop}
            spec: {selector: {matchLabels: {app: b-w3}}, portLevelMtls: {\(port): {mode: PERMISSIVE}}}
            """

        @Test(arguments: families) func strangersDatagramIsRefusedAtOnceAndShown(_ ipv6: Bool) throws {
            try Self.serve()
            let before = try Lab.refusals("b", "plaintext_refused")
            #expect(try Self.knock(ipv6: ipv6) == "\"ECONNREFUSED\"")
            #expect(try Shell.waits(5) { try Lab.refusals("b", "plaintext_refused") > before })
            let source = Lab.bracketed(Lab.address("a", ipv6: ipv6)) + ":"
            #expect(
                try Shell.waits(5) {
                    try Lab.meshctl("b", "flows -o json").lines.contains {
                        $0.contains("\"transport\":\"udp\"") && $0.contains("\"reason\":\"plaintext_refused\"")
                            && $0.contains("\"source\":\"\(source)")
                            && $0.contains("\"destination_workload\":\"shop/b-w3\"")
                    }
                })
        }

        @Test(arguments: families) func policiesJudgeTheSenderAsNobody(_ ipv6: Bool) throws {
            try Self.serve()
            let source = Lab.address("a", ipv6: ipv6)
            let denial = """
                ---
                kind: AuthorizationPolicy
                metadata: {name: no-datagrams, namespace: shop}
                spec:
                  action: DENY
                  selector: {matchLabels: {app: b-w3}}
                  rules: [{from: [{source: {ipBlocks: ["\(source)"]}}], to: [{operation: {ports: ["\(Self.port)"]}}]}]
                """
            try Self.with(Self.permissive) {
                let isAnswered = try Shell.waits(10) { try Self.knock(ipv6: ipv6) == "\"answered\"" }
                #expect(isAnswered)
            }
            try Self.with(Self.permissive + "\n" + denial) {
                let isDenied = try Shell.waits(10) {
                    guard try Self.knock(ipv6: ipv6) == "\"ECONNREFUSED\"" else { return false }
                    return try Lab.meshctl("b", "flows -o json").lines.contains {
                        $0.contains("\"transport\":\"udp\"") && $0.contains("\"reason\":\"policy_denied\"")
                            && $0.contains("\"policy\":\"shop/no-datagrams\"") && $0.contains("\"rule\":\"rules[0]\"")
                    }
                }
                #expect(isDenied)
            }
        }

        @Test func changeOfModeEndsAFlowThatLives() throws {
            try Self.serve()
            let log = "\(Lab.state)/log/datagrams-knocking.log"
            try Self.with(Self.permissive) {
                let isAnswered = try Shell.waits(10) { try Self.knock() == "\"answered\"" }
                #expect(isAnswered)
                let target = "\(Lab.address("b", "w3")) \(Self.port)"
                try Lab.start(
                    "datagrams-knocking", "a", "none",
                    "\(Lab.python) \(Lab.applications)/names_client.py keep_knocking \(target)")
                let isSeen = try Shell.waits(10) {
                    try Lab.meshctl("b", "flows -o json").lines.contains {
                        $0.contains("\"transport\":\"udp\"") && $0.contains("\"state\":\"open\"")
                            && $0.contains("\"destination_workload\":\"shop/b-w3\"")
                            && $0.contains("\"direction\":\"inbound\"")
                            && !$0.contains("\"datagrams_sent\":1,")
                    }
                }
                #expect(isSeen)
            }
            // ICMP errors to one peer are rationed by the kernel, and there were others: it hears that, or nothing at all.
            let isUnanswered = try Shell.waits(5) {
                let last = try Shell.output("cat \(log)")
                return last.contains("ECONNREFUSED") || last.contains("timeout")
            }
            #expect(isUnanswered)
            #expect(
                try Shell.waits(5) {
                    try Lab.meshctl("b", "flows -o json").lines.contains {
                        $0.contains("\"transport\":\"udp\"") && $0.contains("\"state\":\"closed\"")
                            && $0.contains("\"reason\":\"plaintext_refused\"")
                            && $0.contains("\"destination_workload\":\"shop/b-w3\"")
                    }
                })
        }

        @Test func whatIsOutsideTheMeshPassesAndIsCounted() throws {
            try Lab.start(
                "datagrams-outside", "b", "none", "\(Lab.python) \(Lab.applications)/datagram_server.py 7054")
            let server = Lab.address("b")
            #expect(try Shell.waits(10) { try exchange("connected \(server) 7054 3") == "[3, 3]\n" })
            let shown = Lab.bracketed(server) + ":7054"
            #expect(
                try Shell.waits(10) {
                    try udpFlows("a", to: shown).contains { $0.contains("\"verdict\":\"passthrough\"") }
                })
        }
    }
}
