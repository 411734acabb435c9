import Glibc
import Testing

extension EndToEnd {
    /// Connections between two workloads of node a, once a verdict of meshd's lets them go without the proxy. What needs
    /// races and equal addresses is in KernelTests.
    @Suite("Direct path", .timeLimit(.minutes(5)))
    struct DirectPath {
        private static let inner = Lab.address("a", "w3")
        private static let shared = Lab.address("a", "w2")
        private static let command = "\(Lab.python) \(Lab.applications)/traffic_server.py 7000"

        init() throws {
            try Traffic.startServers()
            try Lab.start("direct-server-w2", "a", "w2", Self.command)
            try Lab.start("direct-server-w4", "a", "w4", Self.command)
        }

        /// What the proxy has carried, which meshd asks it for once a second.
        private var proxied: Double {
            get throws {
                try Shell.output("sleep 1.3")
                return try Lab.metric("a", "meshd_proxy_connections_total")
            }
        }

        private func call(_ address: String, from workload: String = "w1") -> Bool {
            (try? Traffic.client("ping-pong 1", to: address, from: workload))?.microseconds != nil
        }

        /// Calls until the flow of one of the calls is shown as direct.
        private func becomesDirect(_ address: String, from workload: String = "w1") throws -> Bool {
            try Shell.waits(15) {
                let known = try Lab.flows("a").map(\.id).max() ?? 0
                guard call(address, from: workload) else { return false }
                return try shownFlow(from: workload, to: address) { $0.id > known && !$0.path.isEmpty }?.path
                    == "direct"
            }
        }

        // MARK: The way

        @Test(arguments: [inner, shared], ["w1", "w4"])
        func connectionRunsBetweenTheTwoApplicationsAndNoByteThroughTheProxy(
            _ address: String, _ client: String
        ) throws {
            #expect(try becomesDirect(address, from: client))
            let before = try proxied
            let download = try Traffic.client("download 3000000", to: address, from: client)
            #expect(download.intact == Traffic.yes && download.bytes == 3_000_000, "\(download)")
            let names = try Traffic.client("addresses", to: address, from: client)
            #expect(names.getpeername == Traffic.Name(address: address, port: 7_000))
            #expect(names.server?.accepted == names.getsockname && names.server?.getpeername == names.getsockname)
            #expect(names.getsockname?.address == Lab.address("a", client))
            #expect(try proxied == before)
            let flow = try shownFlow(from: client, to: address) { $0.bytesReceived >= 3_000_000 }
            #expect(flow?.verdict == "allowed" && flow?.path == "direct", "\(String(describing: flow))")
            #expect(flow?.sourcePrincipal == Lab.principalPrefix + "a-\(client)")
            #expect(flow?.destinationWorkload == (address == Self.inner ? "shop/a-w3" : "shop/a-w2"))
        }

        private func shownFlow(
            from workload: String, to address: String, _ fits: (Flow) -> Bool
        ) throws -> Flow? {
            var found: Flow?
            _ = try Shell.waits(5) {
                found = try Lab.flows("a").last {
                    $0.sourceWorkload == "shop/a-\(workload)"
                        && $0.originalDestination == "\(Lab.bracketed(address)):7000" && fits($0)
                }
                return found != nil
            }
            return found
        }

        /// As the kernel has it: the two sockets have each other's addresses, and no third is between.
        @Test func kernelShowsOneConnectionWithTwoEnds() throws {
            #expect(try becomesDirect(Self.inner))
            try Traffic.beginning("direct-chat", "chat 3", to: Self.inner)
            let inside = "/run/netns/\(Lab.variable("NETNS_A"))-w3"
            var peers: [String] = []
            let isShown = try Shell.waits(5) {
                peers = try Shell.output(
                    "nsenter --net=\(inside) ss -Htn state established sport = :7000 | awk '{ print $4 }' "
                        + "| sed 's/\\[::ffff:\\(.*\\)\\]/\\1/'"
                ).split(separator: "\n").map(String.init)
                return peers.contains { $0.hasPrefix(Lab.bracketed(Lab.address("a")) + ":") }
            }
            #expect(isShown, "\(peers)")
            let outside = try Shell.output(
                "nsenter --net=/run/netns/\(Lab.variable("NETNS_A")) ss -Htn state established dport = :7000 "
                    + "| awk '{ print $3 }'"
            ).split(separator: "\n").map(String.init)
            #expect(peers.allSatisfy(outside.contains), "\(peers) and \(outside)")
            #expect(try Traffic.ending("direct-chat", within: 10).broken == false)
        }

        /// How often threads of node a's proxy waited for something while the body ran, and for how long that was.
        private func waits(_ body: () throws -> Void) throws -> (count: Int, seconds: Double) {
            let files = try Lab.meshProcesses("a", "proxy").map { "/proc/\($0)/task/*/status" }.joined(separator: " ")
            let count = { () throws -> Int in
                let sum = "awk '/^voluntary_ctxt_switches/ { n += $2 } END { print n }'"
                return Int(try Shell.output("\(sum) \(files)").filter(\.isNumber)) ?? 0
            }
            let (begin, before) = (ContinuousClock.now, try count())
            try body()
            let after = try count()
            return (after - before, (ContinuousClock.now - begin) / .seconds(1))
        }

        /// Whoever works waits again afterwards: a proxy that had a hand in the connections would have waited for most of
        /// them, as it does for those to another node.
        @Test func directConnectionsGiveTheProxyNothingToDo() throws {
            #expect(try becomesDirect(Self.inner))
            let connections = 300
            let many = { (address: String) throws in
                #expect(try Traffic.client("many \(connections)", to: address).answered == connections)
            }
            // Sweeps, beats, and what meshd asks each second.
            let idle = try waits { try Shell.output("sleep 4") }
            let tunnelled = try waits { try many("echo") }
            let direct = try waits {
                try many(Self.inner)
                #expect(try Traffic.client("download 100000000", to: Self.inner).intact == Traffic.yes)
            }
            let background = { (seconds: Double) in Int(Double(idle.count) / idle.seconds * seconds) }
            #expect(tunnelled.count - background(tunnelled.seconds) > connections / 2, "\(tunnelled), idle \(idle)")
            #expect(direct.count - background(direct.seconds) < connections / 6, "\(direct), idle \(idle)")
        }

        @Test func istioCountsEachConnectionOnceForEachReporter() throws {
            #expect(try becomesDirect(Self.inner))
            let opened = { (reporter: String) throws in
                try Lab.metric(
                    "a", "istio_tcp_connections_opened_total{", "reporter=\"\(reporter)\"", "source_workload=\"a-w1\"",
                    "destination_workload=\"a-w3\"", "destination_principal=\"\(Lab.principalPrefix)a-w3\"")
            }
            let before = try (opened("source"), opened("destination"))
            for _ in 0..<3 { #expect(call(Self.inner)) }
            let isCounted = try Shell.waits(5) { try opened("source") == before.0 + 3 }
            #expect(isCounted)
            #expect(try opened("destination") == before.1 + 3)
        }

        // MARK: Services

        private static let virtual = Lab.isIPv6Only ? "fd96::5a" : "10.96.0.90"

        /// A service with these instances while the body runs.
        private func withService(_ label: String, _ body: () throws -> Void) throws {
            let text = """
                kind: Service
                metadata: {name: near, namespace: shop}
                spec: {virtualAddresses: ["\(Self.virtual)"], ports: [{port: 7000}], selector: {\(label)}}
                """
            let files = ["a", "b"].map { "\(Lab.state)/\($0)/resources/near.yaml" }
            for file in files {
                try Shell.output("printf '%s\\n' \(Shell.quoted(text)) >\(file).new && mv \(file).new \(file)")
            }
            defer { for file in files { _ = try? Shell.run("rm -f \(file)") } }
            #expect(Shell.waits(10) { call(Self.virtual) })
            try body()
        }

        @Test func serviceWithItsInstancesHereIsReachedDirectlyAndShowsWhatWasDialled() throws {
            try withService("app: a-w3") {
                #expect(try becomesDirect(Self.virtual))
                let names = try Traffic.client("addresses", to: Self.virtual)
                #expect(names.getpeername == Traffic.Name(address: Self.virtual, port: 7_000))
                #expect(names.server?.getsockname == Traffic.Name(address: Self.inner, port: 7_000))
                #expect(names.server?.accepted == names.getsockname)
            }
            #expect(Shell.waits(10) { !call(Self.virtual) }, "the service is gone and still answers")
        }

        /// Choosing here among some and there among all would favour this node's.
        @Test func serviceWithAnInstanceElsewhereIsLeftToTheProxy() throws {
            let label = { (file: String, change: String) in
                _ = try Shell.output("sed -i '\(change)' \(Lab.state)/{a,b}/resources/\(file)")
            }
            try label("workloads.yaml", "s/labels: {app: \\(.\\)-w3}/labels: {app: \\1-w3, tier: near}/")
            defer { try? label("workloads.yaml", "s/, tier: near}/}/") }
            try withService("tier: near") {
                var servers: Set<String> = []
                let before = try proxied
                for _ in 0..<24 {
                    let names = try Traffic.client("addresses", to: Self.virtual)
                    if let address = names.server?.getsockname.address { servers.insert(address) }
                }
                #expect(servers == [Self.inner, Lab.address("b", "w3")])
                #expect(try proxied == before + 24)
            }
        }

        // MARK: Policy

        private static let policyFile = "\(Lab.state)/a/resources/direct-policy.yaml"

        private func drop(_ text: String) throws {
            let file = Self.policyFile
            try Shell.output("printf '%s' \(Shell.quoted(text)) >\(file).new && mv \(file).new \(file)")
        }

        private func removePolicy() { _ = try? Shell.run("rm -f \(Self.policyFile)") }

        private static func deny(_ name: String, _ app: String, _ rule: String) -> String {
            """
            kind: AuthorizationPolicy
            metadata: {name: \(name), namespace: shop}
            spec: {selector: {matchLabels: {app: \(app)}}, action: DENY, rules: [\(rule)]}

            """
        }

        @Test func aDenyEndsADirectConnectionWithinASecondAndLeavesTheOtherAlone() throws {
            defer { removePolicy() }
            #expect(try becomesDirect(Self.inner) && becomesDirect(Self.shared))
            let before = try proxied
            try Traffic.beginning("direct-denied", "chat 20", to: Self.inner)
            try Traffic.beginning("direct-kept", "chat 8", to: Self.shared)
            let isOpen = try Shell.waits(10) {
                try Lab.flows("a").filter { $0.state == "open" && $0.sourceWorkload == "shop/a-w1" && $0.bytesSent > 8 }
                    .count >= 2
            }
            #expect(isOpen)
            #expect(try proxied == before)
            let clock = ContinuousClock()
            try drop(Self.deny("no-inner", "a-w3", "{from: [{source: {serviceAccounts: [a-w1]}}]}"))
            let dropped = clock.now
            let log = "\(Lab.state)/log/direct-denied.log"
            #expect(try Shell.waits(5) { try Shell.run("tail -n 1 \(log)").output.contains("chat") })
            // The file is read after a quiet tenth of a second; the rest is what starting a shell takes.
            #expect(clock.now - dropped < .milliseconds(1_500))
            try Lab.stop("direct-denied")
            #expect(!call(Self.inner))
            let denied = try shownFlow(from: "w1", to: Self.inner) {
                $0.verdict == "denied" && $0.reason == "policy_denied" && $0.bytesSent > 8
            }
            #expect(denied != nil, "no flow of the connection that was ended")
            #expect(try Lab.metric("a", "meshd_policy_denials_total{", "policy=\"shop/no-inner\"") >= 2)
            let kept = try Traffic.ending("direct-kept", within: 15)
            #expect(kept.broken == false && (kept.worked ?? 0) > 20, "\(kept)")
            removePolicy()
            #expect(try becomesDirect(Self.inner))
        }

        /// w3 and w4 as instances of one service account: to one the label denies, from one the address.
        @Test(arguments: [["w3", "w4"], ["w4", "w3"]])
        func instancesOfOneAccountAreJudgedEachForItself(_ order: [String]) throws {
            let accounts = { (from: String, to: String) in
                let files = "\(Lab.state)/{a,b}/resources/workloads.yaml"
                let change = "/name: a-w4,/,/^---/ s/serviceAccount: \(from)/serviceAccount: \(to)/"
                _ = try Shell.output("sed -i '\(change)' \(files)")
            }
            try accounts("a-w4", "a-w3")
            defer {
                removePolicy()
                try? accounts("a-w3", "a-w4")
                _ = Shell.waits(10) { call(Lab.address("a", "w4")) && call(Self.shared, from: "w4") }
            }
            #expect(
                try Shell.waits(10) {
                    try Lab.meshctl("a", "workloads -o json").output.components(of: "sa/a-w3\"") >= 2
                })
            for workload in order {
                #expect(try becomesDirect(Lab.address("a", workload)))
                #expect(try becomesDirect(Self.shared, from: workload))
            }
            let block = Lab.isIPv6Only ? Lab.address("a", "w4") + "/128" : Lab.address("a", "w4") + "/32"
            try drop(
                Self.deny("by-label", "a-w4", "{}") + "---\n"
                    + Self.deny("by-address", "a-w2", "{from: [{source: {ipBlocks: [\"\(block)\"]}}]}"))
            #expect(Shell.waits(10) { !call(Lab.address("a", "w4")) && !call(Self.shared, from: "w4") })
            for _ in 0..<3 {
                for workload in order {
                    #expect(call(Lab.address("a", workload)) == (workload == "w3"), "to \(workload)")
                    #expect(call(Self.shared, from: workload) == (workload == "w3"), "from \(workload)")
                }
            }
            #expect(try becomesDirect(Self.inner) && becomesDirect(Self.shared, from: "w3"))
        }

        // MARK: Changes on the node

        /// w1 listens where w2 did, and a verdict leads there.
        @Test func listenerThatAnotherWorkloadTookOverIsNotReached() throws {
            #expect(try becomesDirect(Self.shared, from: "w3"))
            try Lab.stop("direct-server-w2")
            defer {
                try? Lab.stop("impostor")
                try? Lab.start("direct-server-w2", "a", "w2", Self.command)
                _ = Shell.waits(10) { call(Self.shared, from: "w3") }
            }
            let before = try Lab.refusals("a", "listener_mismatch")
            try Lab.start("impostor", "a", "w1", Self.command)
            let listening = "nsenter --net=/run/netns/\(Lab.variable("NETNS_A")) ss -Hltn sport = :7000"
            #expect(try Shell.waits(10) { try !Shell.output(listening).isEmpty })
            #expect(try Traffic.client("connect 2", to: Self.shared, from: "w3").result == "ECONNREFUSED")
            #expect(try Lab.refusals("a", "listener_mismatch") > before)
        }

        @Test func serverThatIsStartedAnewIsReachedAgain() throws {
            #expect(try becomesDirect(Self.shared))
            try Lab.stop("direct-server-w2")
            #expect(!call(Self.shared))
            try Lab.start("direct-server-w2", "a", "w2", Self.command)
            #expect(Shell.waits(10) { call(Self.shared) })
        }

        @Test func withoutAProxyWhatHasAVerdictIsRefusedLikeTheRest() throws {
            #expect(try becomesDirect(Self.inner))
            let stopped = try Lab.meshProcesses("a", "proxy")
            for pid in stopped { kill(pid, SIGSTOP) }
            defer {
                for pid in stopped { kill(pid, SIGCONT) }
                _ = Shell.waits(20) { call(Self.inner) }
            }
            let isRefused = try Shell.waits(20) {
                try Traffic.client("connect 2", to: Self.inner).result == "ECONNREFUSED"
            }
            #expect(isRefused)
        }

        @Test func withoutMeshdVerdictsHold() throws {
            #expect(try becomesDirect(Self.inner))
            try Shell.output("kill -KILL \(Lab.processID("meshd-a"))")
            defer {
                _ = try? Shell.output("\(Lab.tool) restart a", seconds: 90)
                _ = Shell.waits(20) { call("echo") }
            }
            let names = try Traffic.client("addresses", to: Self.inner)
            #expect(names.server?.accepted == names.getsockname)
            try Shell.output("\(Lab.tool) restart a", seconds: 90)
            #expect(try becomesDirect(Self.inner))
        }
    }
}

extension String {
    fileprivate func components(of text: String) -> Int { ranges(of: text).count }
}
