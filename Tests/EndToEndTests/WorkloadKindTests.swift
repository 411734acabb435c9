import Glibc
import Testing

extension EndToEnd {
    /// Kinds of workload, and how they begin and end. systemd's units are in tools/lib/vm/product-checks.
    @Suite("Workload kinds", .timeLimit(.minutes(5)))
    struct WorkloadKinds {
        static let outside = 9_102

        init() throws { try Self.prepared.get() }

        private static let prepared = Result {
            try Traffic.startServers()
            try Lab.start("outside-\(outside)", "b", "none", "\(Lab.python) -m http.server \(outside) --bind ::")
            _ = try Container.prepared.get()
            for name in ["pod", "first"] { try ExtraWorkload.certify(name) }
            try ExtraWorkload.mesh("pod", port: nil, pattern: "libpod-*")
            try ExtraWorkload.mesh("first", port: nil, pattern: "first-*", egress: "mode: DENY")
            let source = "\(Lab.applications)/first_connect.c"
            try Shell.output("gcc -Wall -O1 -o \(Lab.state)/bin/first_connect \(source)")
        }

        private var webAddress: String {
            get throws {
                let line = try Shell.output("grep -m 1 -E ' web$' \(Lab.state)/hosts")
                return String(line.prefix { $0 != " " })
            }
        }

        private func lastFlow(of workload: String, _ fits: (Flow) -> Bool = { _ in true }) throws -> Flow? {
            var found: Flow?
            _ = try Shell.waits(5) {
                found = try Lab.flows("a").last { $0.sourceWorkload == "shop/a-\(workload)" && fits($0) }
                return found != nil
            }
            return found
        }

        // MARK: Containers

        /// The first connection may come before the workload is ready; it is refused then, and tried again.
        private func fetch(then rest: String = "") throws -> String {
            let url = "http://\(Lab.bracketed(try webAddress))/ok"
            return "/bin/sh -c 'n=0; while ! wget -q -O - \(url); do n=$((n + 1)); [ $n -lt 20 ] || exit 1; "
                + "sleep 0.2; done\(rest)'"
        }

        @Test(arguments: ["none", "host"])
        func containerIsCarried(_ network: String) throws {
            defer { try? Container.leaveNothing() }
            let result = try Container.run("--network \(network)", fetch())
            #expect(result.status == 0 && result.output.contains("ok"), "\(result)")
            let flow = try #require(try lastFlow(of: "pod") { $0.verdict == "allowed" })
            #expect(flow.destinationPrincipal == Lab.principalPrefix + "b-w1", "\(flow)")
        }

        @Test func networkNamespaceOfAnEndedContainerGoesAway() throws {
            defer { try? Container.leaveNothing() }
            try Container.start("stays", "--network none", fetch(then: "; sleep 60"))
            defer { try? Container.remove("stays") }
            let pid = try Container.processID("stays")
            let node = Lab.variable("NETNS_A")
            // The other end of this pair goes when the namespace does, and not before.
            try Shell.output("ip -n \(node) link add stays type veth peer name inner netns \(pid)")
            #expect(try lastFlow(of: "pod") { $0.verdict == "allowed" } != nil)
            try Container.remove("stays")
            let isGone = try Shell.waits(3) { try Shell.run("ip -n \(node) link show stays 2>/dev/null").status != 0 }
            #expect(isGone, "a descriptor of the mesh keeps the namespace")
        }

        // MARK: Beginnings

        @Test func processThatConnectsFirstIsRefusedOrCarriedButNeverPlain() throws {
            let service = try webAddress
            for index in 1...30 {
                let cgroup = ExtraWorkload.cgroup("first-\(index)")
                for (address, port) in [(service, 80), (Lab.address("b"), Self.outside)] {
                    let line = try Shell.output(
                        "mkdir -p \(cgroup) && exec nsenter --net=/run/netns/\(Lab.variable("NETNS_A")) -- "
                            + "\(Lab.state)/bin/first_connect \(cgroup) \(address) \(port)")
                    let code = Int32(line.prefix { $0.isNumber })
                    #expect(code == ECONNREFUSED || (code == 0 && port == 80), "\(line)")
                }
            }
            let cgroup = ExtraWorkload.cgroup("first-1")
            let isCarried = try Shell.waits(10) {
                try Shell.output(
                    "exec nsenter --net=/run/netns/\(Lab.variable("NETNS_A")) -- "
                        + "\(Lab.state)/bin/first_connect \(cgroup) \(service) 80") == "0\n"
            }
            #expect(isCarried)
            try Shell.output("rmdir \(ExtraWorkload.cgroup("first-*"))")
        }

        @Test func workloadMadeWhileMeshdIsAwayIsRefusedUntilItIsBack() throws {
            let cgroup = ExtraWorkload.cgroup("first-away")
            defer { _ = try? Shell.run("rmdir \(cgroup)") }
            try Lab.stop("meshd-a")
            try Shell.output("mkdir \(cgroup)")
            let refused = try Attempt.make("plainly", from: "first-away", "web", 80)
            #expect(refused.outcome == "ECONNREFUSED", "\(refused)")
            let other = try Attempt.make("plainly", from: "w1", "web", 80)
            #expect(other.answer?.contains(" 200 ") == true, "\(other)")
            try Shell.output("\(Lab.tool) restart a", seconds: 90)
            let isCarried = try Shell.waits(15) {
                try Attempt.make("plainly", from: "first-away", "web", 80).answer?.contains(" 200 ") == true
            }
            #expect(isCarried)
        }

        @Test func processInACgroupBelowIsItsWorkload() throws {
            let below = ExtraWorkload.cgroup("w1/below/deeper")
            try Shell.output("mkdir -p \(below)")
            defer { _ = try? Shell.run("rmdir \(below) \(ExtraWorkload.cgroup("w1/below"))") }
            let attempt = try Attempt.make("plainly", from: "w1/below/deeper", "web", 80)
            #expect(attempt.answer?.contains(" 200 ") == true, "\(attempt)")
            #expect(try attempt.flow()?.sourceWorkload == "shop/a-w1")
        }

        /// As systemd does it: the listener is made outside and given to the process of the workload.
        @Test func listenerThatWasGivenToAWorkloadTakesNoPlaintextAndServesTheMesh() throws {
            try ExtraWorkload.make("given", port: 7_905)
            defer {
                try? Lab.stop("given")
                try? ExtraWorkload.remove("given")
            }
            let cgroups = "\(Lab.variable("LAB_CGROUP"))/a \(ExtraWorkload.cgroup("given"))"
            let address = Lab.address("a")
            try Lab.start(
                "given", "a", "none", "\(Lab.python) \(Lab.applications)/bypass.py serve \(address) 7905 \(cgroups)")
            func call(_ workload: String) throws -> Attempt {
                try Attempt.decode(
                    Lab.output("b", workload, "\(Lab.python) \(Lab.applications)/bypass.py plainly \(address) 7905"))
            }
            let isRefused = try Shell.waits(10) { try call("none").outcome == "ECONNREFUSED" }
            #expect(isRefused)
            #expect(try call("w1").answer?.contains(" 200 ") == true)
            #expect(try Lab.flows("a").contains { $0.destinationWorkload == "shop/a-given" && $0.verdict == "allowed" })
        }

        @Test func processThatMovesIsTheOtherWorkloadFromThenOn() throws {
            for (cgroups, workload) in [
                (["workloads/w2", "workloads/w1"], "w1"), (["workloads/w1", "workloads/w2"], "w2"),
            ] {
                let attempt = try Attempt.make("moved", from: "none", "web", 80, in: cgroups)
                #expect(attempt.answer?.contains(" 200 ") == true, "\(attempt)")
                #expect(try attempt.flow()?.sourceWorkload == "shop/a-\(workload)")
            }
        }
    }
}
