import Testing

extension EndToEnd {
    /// A node that does not answer, and what applications see of it while it is dead and after it is back.
    @Suite("Dead peer", .timeLimit(.minutes(5)))
    struct DeadPeer {
        init() throws { try Traffic.startServers() }

        /// Node d is in node a's snapshot; at its addresses, which are of the nodes' own link, nobody answers at first.
        static let node4 = "10.77.0.4", node6 = "fd77::4"
        static let workload4 = "10.77.4.9", workload6 = "fd77:0:0:4::9"

        private static var node: String { Lab.isIPv6Only ? node6 : node4 }
        private static var target: String { Lab.isIPv6Only ? workload6 : workload4 }
        private static var file: String { "\(Lab.state)/a/resources/dead.yaml" }
        private static var link: String { "ip -n \(Lab.variable("NETNS_B")) address" }
        private static var length: Int { Lab.isIPv6Only ? 128 : 32 }

        private func declare() throws {
            let (nodes, workloads) =
                Lab.isIPv6Only
                ? ("\"\(Self.node6)\"", "\"\(Self.workload6)\"")
                : ("\(Self.node4), \"\(Self.node6)\"", "\(Self.workload4), \"\(Self.workload6)\"")
            try Shell.output(
                """
                cat >\(Self.file).new <<'YAML'
                kind: Node
                metadata: {name: d}
                spec: {tunnelAddresses: [\(nodes)]}
                ---
                kind: Workload
                metadata: {name: d-w1, namespace: shop, labels: {app: d-w1}}
                spec: {serviceAccount: d-w1, node: d, selector: {cgroup: workloads/w1}, addresses: [\(workloads)], ports: [7000, 8080]}
                YAML
                mv \(Self.file).new \(Self.file)
                """)
        }

        /// A plain TCP connection to the dead node itself, which no mesh has a part in.
        private func plainErrno() throws -> String {
            try Traffic.client("connect 20", to: Self.node, port: 7_007, from: "none").result ?? ""
        }

        @Test func itResetsOnceIsThenRefusedAsByPlainTCPAndComesBack() throws {
            try declare()
            defer {
                try? Lab.stop("envoy-server")
                try? Lab.stop("traffic-server-back")
                _ = try? Shell.run("rm -f \(Self.file); \(Self.link) del \(Self.node)/\(Self.length) dev mesh0")
            }
            #expect(try Shell.waits(10) { try Lab.meshctl("a", "workloads").output.contains("d-w1") })
            let refusals = try Lab.refusals("a", "endpoint_unreachable")
            let first = try Traffic.client("first-byte", to: Self.target)
            #expect(first.connect == "ok" && first.end == "ECONNRESET", "\(first)")
            #expect(try Shell.waits(5) { try Lab.refusals("a", "tunnel_connect_failed") > 0 })
            let plain = try plainErrno()
            #expect(plain == "EHOSTUNREACH", "the lab's dead node answers plain TCP with \(plain)")
            let isRefused = try Shell.waits(15) { try Traffic.client("connect 5", to: Self.target).result == plain }
            #expect(isRefused, "connect() does not end as plain TCP's")
            let again = try Traffic.client("connect 5", to: Self.target)
            #expect(again.result == plain && (again.seconds ?? 9) < 1, "refusing takes time: \(again)")
            #expect(try Shell.waits(5) { try Lab.refusals("a", "endpoint_unreachable") > refusals })
            #expect(try Lab.meshctl("a", "nodes").lines.contains { $0.hasPrefix("d ") && $0.contains("unreachable") })
            try expectDualStackMovesOn()
            try comeBack()
            let works = Shell.waits(40) { (try? Traffic.client("ping-pong 1", to: Self.target)) != nil }
            #expect(works, "the node is back, connections are not")
            #expect(try Lab.meshctl("a", "nodes").lines.contains { $0.hasPrefix("d ") && $0.contains("ok") })
        }

        /// One name, two addresses, the first of them dead: curl is told at once and goes on with the other.
        private func expectDualStackMovesOn() throws {
            let hosts = "\(Lab.state)/hosts"
            let route = "ip -n \(Lab.variable("NETNS_A")) -6 route"
            // Of two IPv6 addresses the resolver would choose the nearer one: there curl gets them in order.
            let order = Lab.isIPv6Only ? "--resolve both:8080:\(Self.workload6),\(Lab.address("b"))" : ""
            if !Lab.isIPv6Only {
                // As to any other node's workloads: a resolver puts addresses without a route last.
                try Shell.output("\(route) replace fd77:0:0:4::/64 via \(Self.node6) dev mesh0")
                try Shell.output("printf '\(Self.workload6) both\\n\(Lab.address("b")) both\\n' >>\(hosts)")
            }
            defer { _ = try? Shell.run("sed -i '/ both$/d' \(hosts); \(route) del fd77:0:0:4::/64 2>/dev/null") }
            let log = "\(Lab.state)/both.log"
            let page = try Lab.output("a", "w1", "curl -sv -m 10 \(order) http://both:8080/ 2>\(log)")
            let steps = try Shell.output("cat \(log); rm \(log)").split(separator: "\n")
            #expect(page == "Hello from web on node b.\n")
            let tried = steps.filter { $0.contains("Trying ") }
            #expect(tried.count == 2 && tried[0].contains(Self.workload6), "\(steps)")
            #expect(steps.contains { $0.contains("No route to host") }, "\(steps)")
        }

        /// Envoy, as node d, at the addresses that nobody had.
        private func comeBack() throws {
            try Certificates.make("dead-node", principal: Lab.principalPrefix + "d-w1")
            try Shell.output("\(Self.link) add \(Self.node)/\(Self.length) dev mesh0 nodad 2>/dev/null || true")
            // What Envoy hands on in plain text no workload of ours would take.
            try Lab.start(
                "traffic-server-back", "b", "none", "\(Lab.python) \(Lab.applications)/traffic_server.py 7011")
            try EnvoyInterop.start(
                "server", "b",
                [
                    "AT": Self.node, "TO": Lab.address("b"), "PORT": "7011", "PEER": Lab.principalPrefix,
                    "CERTIFICATE": "\(Certificates.directory)/dead-node.pem",
                    "KEY": "\(Certificates.directory)/dead-node-key.pem", "TRUST": "\(Lab.state)/ca/ca.pem",
                ])
        }
    }
}
