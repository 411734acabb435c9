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
            let file = "\(Lab.state)/a/resources/datagrams.yaml"
            let policy = """
                kind: PeerAuthentication
                metadata: {name: datagrams, namespace: shop}
                spec:
                  selector: {matchLabels: {app: b-w3}}
                  portLevelMtls: {\(Self.port): {mode: PERMISSIVE}}
                """
            try Shell.output("printf '%s\\n' \(Shell.quoted(policy)) >\(file)")
            defer { _ = try? Shell.output("rm -f \(file)") }
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
                        $0.contains("\"transport\":\"udp\"") && $0.contains("\"source_workload\":\"shop/b-w3\"")
                            && $0.contains("\"datagrams_received\":20")
                    }
                }, "the server's side")
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
