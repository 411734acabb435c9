import Testing

extension EndToEnd {
    /// Attempts to get around the mesh, each with its verdict: `x1` may call nothing outside the mesh, `x2` what is listed,
    /// `w1` has no policy. Outside is a server on node b that no resource names.
    @Suite("Bypass", .timeLimit(.minutes(5)))
    struct Bypass {
        static let outside = 9_100
        static let unlisted = 9_101
        var b: String { Lab.address("b") }

        init() throws { try Self.prepared.get() }

        private static let prepared = Result {
            try Traffic.startServers()
            for port in [outside, unlisted] {
                try Lab.start("outside-\(port)", "b", "none", "\(Lab.python) -m http.server \(port) --bind ::")
            }
            try ExtraWorkload.make("x1", port: 7_901, egress: "mode: DENY")
            try ExtraWorkload.make(
                "x2", port: 7_902, egress: "mode: LISTED, allow: [{cidr: \"\(Lab.address("b"))\", ports: [\(outside)]}]"
            )
            guard
                try Shell.waits(
                    15,
                    until: { try Attempt.make("plainly", from: "w1", Lab.address("b"), outside).outcome == "passed" })
            else {
                throw CommandFailure(command: "outside", result: CommandResult(status: 1, output: "does not answer"))
            }
        }

        /// Runs `body`; by how much the reason's count rose on node a meanwhile, waiting for `least`.
        private func rise(_ reason: String, on node: String = "a", least: Double = 1, _ body: () throws -> Void) throws
            -> Double
        {
            let before = try Lab.refusals(node, reason)
            try body()
            var rise = 0.0
            _ = try Shell.waits(5) {
                rise = try Lab.refusals(node, reason) - before
                return rise >= least
            }
            return rise
        }

        // MARK: Ways to connect

        @Test(arguments: ["plainly", "mapped", "mark", "fast-open", "mptcp", "io_uring"])
        func everyWayToAServiceOrItsWorkloadGoesThroughTheMesh(_ way: String) throws {
            for (host, port) in [("web", 80), (Lab.address("b", "w3"), 8_080)] {
                let attempt = try Attempt.make(way, from: "w1", host, port)
                #expect(attempt.answer?.contains(" 200 ") == true, "\(attempt)")
                #expect(host == "web" || attempt.peer?.hasSuffix(host) != false, "\(attempt)")
                let flow = try #require(try attempt.flow())
                #expect(flow.verdict == "allowed" && flow.destinationPrincipal?.isEmpty == false, "\(flow)")
            }
        }

        @Test(arguments: ["plainly", "mapped", "mark", "device", "fast-open", "mptcp", "io_uring"])
        func noWayLeadsOutWhereEgressIsDenied(_ way: String) throws {
            var attempt: Attempt?
            let rise = try rise("egress_denied") {
                attempt = try Attempt.make(way, from: "x1", b, Self.outside)
            }
            #expect(attempt?.outcome == "ECONNREFUSED", "\(way)")
            #expect(rise == 1)
            let flow = try Lab.flows("a").last { $0.reason == "egress_denied" }
            #expect(flow?.sourceWorkload == "shop/a-x1" && flow?.verdict == "denied", "\(String(describing: flow))")
        }

        @Test func listedDestinationPassesAndIsSeenAndOthersAreRefused() throws {
            let passed = try Attempt.make("plainly", from: "x2", b, Self.outside)
            #expect(passed.outcome == "passed", "\(passed)")
            #expect(try passed.flow()?.verdict == "passthrough")
            let rise = try rise("egress_denied") {
                let outcome = try Attempt.make("plainly", from: "x2", b, Self.unlisted).outcome
                #expect(outcome == "ECONNREFUSED")
            }
            #expect(rise == 1)
        }

        @Test func socketBoundToADeviceIsNotCarriedPlain() throws {
            let rise = try rise("bound_to_device") {
                let outcome = try Attempt.make("device", from: "w1", "web", 80).outcome
                #expect(outcome == "ECONNREFUSED")
            }
            #expect(rise == 1)
        }

        // MARK: The mesh's own places

        @Test(arguments: ["127.0.0.1", "127.77.0.1", "127.77.0.4", "::1", "0.0.0.0"])
        func listenersOfTheMeshAreNotCalledDirectly(_ host: String) throws {
            let rise = try rise("mesh_port_reserved") {
                let outcome = try Attempt.make("plainly", from: "w1", host, 15_001).outcome
                #expect(outcome == "ECONNREFUSED")
            }
            #expect(rise == 1)
        }

        @Test func plainTextToATunnelPortGetsNoAnswer() throws {
            let rise = try rise("plaintext_on_tunnel_port", on: "b") {
                let attempt = try Attempt.make("plainly", from: "w1", b, 15_008)
                #expect((attempt.answer ?? "").isEmpty, "\(attempt)")
            }
            #expect(rise == 1)
        }

        @Test(arguments: [15_001, 15_006, 15_008, 15_053])
        func portsOfTheMeshAreNotTaken(_ port: Int) throws {
            for host in ["0.0.0.0", "::"] {
                let outcome = try Attempt.make("bind", from: "w1", host, port).outcome
                #expect(outcome == "EPERM")
            }
            #expect(try Attempt.make("autobind", from: "w1", "0.0.0.0", 0).taken == [])
        }

        // MARK: Sockets that no connect() tells of

        @Test(arguments: ["raw", "io_uring-raw"])
        func rawSocketIsRefusedWhereEgressIsRestricted(_ way: String) throws {
            let rise = try rise("raw_socket_denied") {
                let outcome = try Attempt.make(way, from: "x1", "127.0.0.1", 9).outcome
                #expect(outcome == "EPERM")
            }
            #expect(rise == 1)
        }

        @Test(arguments: ["sctp", "udp-lite"])
        func protocolsThatNobodyCouldJudgeDoNotExistForWorkloads(_ way: String) throws {
            let outcome = try Attempt.make(way, from: "w1", b, Self.outside).outcome
            #expect(outcome == "EPROTONOSUPPORT")
        }

        @Test func datagramToAnUnlistedDestinationDoesNotLeave() throws {
            for (workload, port) in [("x1", Self.outside), ("x2", Self.unlisted)] {
                #expect(try Attempt.make("datagram", from: workload, b, port).outcome == "ECONNREFUSED")
            }
            #expect(try Attempt.make("datagram", from: "x2", b, Self.outside).outcome == "passed")
        }

        /// No hook hears of packet sockets: this is all that the mesh can do (docs/THREAT_MODEL.md).
        @Test func packetSocketIsNamedByCheck() throws {
            try Lab.start(
                "packet", "a", "x1", "\(Lab.python) \(Lab.applications)/bypass.py packet 127.0.0.1 30")
            let isNamed = try Shell.waits(15) {
                try Lab.meshctl("a", "check").output.contains("shop/a-x1 holds a packet socket")
            }
            #expect(isNamed)
            try Lab.stop("packet")
            #expect(try Shell.waits(15) { try !Lab.meshctl("a", "check").output.contains("holds a packet socket") })
        }

        // MARK: Moving

        @Test func networkNamespaceOfOnesOwnLeadsNowhere() throws {
            let rise = try rise("workload_not_ready") {
                let outcome = try Attempt.make("namespace", from: "w3", "web", 80).outcome
                #expect(outcome == "ECONNREFUSED")
            }
            #expect(rise == 1)
        }

        @Test func socketCarriedOutOfItsWorkloadIsRefused() throws {
            let rise = try rise("socket_owner_mismatch") {
                let attempt = try Attempt.make("other-cgroup", from: "x1", b, Self.outside, in: ["."])
                #expect(attempt.outcome == "ECONNREFUSED", "\(attempt)")
            }
            #expect(rise == 1)
        }

        @Test func socketBroughtInFromOutsideIsJudgedAsTheWorkloads() throws {
            let rise = try rise("egress_denied") {
                let attempt = try Attempt.make("brought-in", from: "none", b, Self.outside, in: [".", "workloads/x1"])
                #expect(attempt.outcome == "ECONNREFUSED", "\(attempt)")
            }
            #expect(rise == 1)
            let carried = try Attempt.make("brought-in", from: "none", "web", 80, in: [".", "workloads/w1"])
            #expect(carried.answer?.contains(" 200 ") == true, "\(carried)")
            #expect(try carried.flow()?.verdict == "allowed")
        }

        // MARK: Connections that no hook saw begin

        @Test func connectionGivenToAFencedWorkloadIsEnded() throws {
            let line = try Lab.output(
                "a", "none",
                "\(Lab.python) \(Lab.applications)/bypass.py hold \(b) \(Self.outside) \(Lab.variable("LAB_CGROUP"))/a "
                    + ExtraWorkload.cgroup("x1"))
            let attempts = try line.split(separator: "\n").map { try Attempt.decode($0) }
            #expect(attempts.map(\.outcome) == ["connected", "ECONNABORTED"], "\(attempts)")
            let flow = try Lab.flows("a").last { $0.reason == "socket_from_outside" }
            #expect(flow?.verdict == "denied" && flow?.sourceWorkload == "shop/a-x1", "\(String(describing: flow))")
        }

        @Test func plaintextThatCameInBeforeTheMeshIsEndedWhereItIsNotTaken() throws {
            try ExtraWorkload.make("x5", port: 7_904, isMeshed: false)
            defer { try? ExtraWorkload.remove("x5") }
            let (log, script) = ("\(Lab.state)/log/earlier.log", "\(Lab.python) \(Lab.applications)/bypass.py")
            try Shell.output("rm -f \(log)")
            try Lab.start("server", "a", "x5", "\(script) serve \(Lab.address("a")) 7904")
            let isConnected = try Shell.waits(10) {
                try Lab.start("earlier", "b", "none", "\(script) hold \(Lab.address("a")) 7904")
                return try Shell.waits(1) { try Shell.run("grep -q connected \(log)").status == 0 }
            }
            #expect(isConnected)
            try ExtraWorkload.mesh("x5", port: 7_904)
            #expect(try Shell.waits(15) { try Shell.run("grep -q ECONNRESET \(log)").status == 0 })
            for name in ["server", "earlier"] { try Lab.stop(name) }
        }

        @Test(arguments: [(name: "x3", egress: "mode: DENY", isEnded: true), ("x4", "mode: ALLOW", false)])
        func connectionOlderThanTheMeshIsReportedAndEndedWhereEgressIsFenced(
            _ kind: (name: String, egress: String, isEnded: Bool)
        ) throws {
            try ExtraWorkload.make(kind.name, port: 7_903, isMeshed: false)
            defer { try? ExtraWorkload.remove(kind.name) }
            let log = "\(Lab.state)/log/older.log"
            try Shell.output("rm -f \(log)")
            try Lab.start(
                "older", "a", kind.name, "\(Lab.python) \(Lab.applications)/bypass.py hold \(b) \(Self.outside)")
            #expect(try Shell.waits(10) { try Shell.run("grep -q connected \(log)").status == 0 })
            try ExtraWorkload.mesh(kind.name, port: 7_903, egress: kind.egress)
            let isSeen = try Shell.waits(15) {
                try Lab.flows("a").contains {
                    $0.reason == "plaintext_preexisting" && $0.sourceWorkload == "shop/a-\(kind.name)"
                        && $0.verdict == (kind.isEnded ? "denied" : "passthrough")
                }
            }
            #expect(isSeen)
            let isEnded = try Shell.waits(kind.isEnded ? 10 : 2) {
                try Shell.run("grep -q ECONNABORTED \(log)").status == 0
            }
            #expect(isEnded == kind.isEnded)
            let check = try Lab.meshctl("a", "check").output
            #expect(check.contains("shop/a-\(kind.name) has a plaintext connection") != kind.isEnded, "\(check)")
            try Lab.stop("older")
        }
    }
}
