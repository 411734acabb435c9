import Glibc
import Testing

extension EndToEnd {
    /// The mesh's own processes hang or die: nothing gets past the mesh unless that is configured, nobody takes their
    /// place, and new connections work again within seconds.
    @Suite("Death", .timeLimit(.minutes(5)))
    struct Death {
        init() throws { try Traffic.startServers() }

        private var proxies: [Int32] { get throws { try Lab.meshProcesses("a", "proxy") } }

        private func works(within seconds: Double) -> Bool {
            Shell.waits(seconds) { (try? Traffic.client("ping-pong 1")) != nil }
        }

        /// meshd first: it would start another proxy.
        private func killBoth() throws {
            try Shell.output("kill -KILL \(Lab.processID("meshd-a"))")
            for pid in try proxies { kill(pid, SIGKILL) }
            #expect(try Shell.waits(5) { try proxies.isEmpty })
        }

        private func restart() throws {
            try Shell.output("\(Lab.tool) restart a", seconds: 90)
            #expect(works(within: 20), "no connection after the restart")
        }

        @Test func aStoppedProxyIsRefusedAsStaleThenReplacedAndFinishesWhatItHas() throws {
            try Traffic.beginning("chat", "chat 20")
            try Shell.output("sleep 1")
            let stopped = try proxies
            let before = try Lab.refusals("a", "proxy_stale")
            for pid in stopped { kill(pid, SIGSTOP) }
            var results: [String] = []
            let isReplaced = try Shell.waits(20) {
                results.append(try Traffic.client("connect 2").result ?? "")
                return try proxies.contains { !stopped.contains($0) }
                    && Lab.meshctl("a", "status -o json").output.contains("\"proxy_replacement\":\"\"")
            }
            #expect(isReplaced && results.contains("ECONNREFUSED"), "\(results)")
            #expect(works(within: 5))
            #expect(try Lab.refusals("a", "proxy_stale") > before)
            #expect(try stopped.allSatisfy { try proxies.contains($0) }, "it was ended at once")
            for pid in stopped { kill(pid, SIGCONT) }
            let chat = try Traffic.ending("chat", within: 60)
            #expect(chat.broken == false && (chat.longest ?? 0) > 2, "\(chat)")
            #expect(try Shell.waits(20) { try proxies.allSatisfy { !stopped.contains($0) } }, "it does not finish")
        }

        @Test func connectionsThatWaitForAProxyWhichIsKilledAreServedByTheNext() throws {
            let killed = try proxies
            for pid in killed { kill(pid, SIGSTOP) }
            for number in 0..<8 { try Traffic.beginning("waits-\(number)", "hold 2") }
            try Shell.output("sleep 1")
            for pid in killed { kill(pid, SIGKILL) }
            for number in 0..<8 {
                #expect(try Traffic.ending("waits-\(number)", within: 20).works == true, "connection \(number)")
            }
        }

        @Test func aProxysCgroupThatIsGoneIsMadeAgain() throws {
            let cgroup = "\(Lab.variable("LAB_CGROUP"))/a/culvert/proxy"
            try Shell.output(
                """
                echo 1 >\(cgroup)/cgroup.kill
                for _ in $(seq 50); do rmdir \(cgroup) 2>/dev/null && break; sleep 0.02; done
                """)
            #expect(works(within: 15))
            #expect(try proxies.count == 1)
        }

        /// By name, by the server's own address, and with somebody else listening where the proxy did.
        @Test func withMeshdAndProxyKilledNothingGetsPastTheMesh() throws {
            let missing = try Lab.refusals("a", "no_listener")
            let open = try Lab.refusals("a", "fail_open")
            try killBoth()
            defer { try? restart() }
            let address = Lab.address("b")
            for host in ["echo", address] {
                #expect(try Traffic.client("connect 2", to: host).result == "ECONNREFUSED", "\(host)")
            }
            // A workload can't even take the port.
            let thief = "\(Lab.python) \(Lab.applications)/port_thief.py 127.77.0.1 15001"
            #expect(try Lab.run("a", "w1", thief).status != 0)
            // One outside of the node can, in the node's network, and gets nothing.
            try Shell.output(
                """
                nsenter --net=/run/netns/\(Lab.variable("NETNS_A")) \(thief) >\(Lab.state)/thief.out 2>&1 </dev/null &
                sleep 0.5
                """)
            #expect(try Traffic.client("connect 2").result == "ECONNREFUSED")
            #expect(try Shell.waits(10) { try Shell.run("cat \(Lab.state)/thief.out").output == "nothing\n" })
            try restart()
            #expect(try Lab.refusals("a", "no_listener") >= missing + 3)
            #expect(try Lab.refusals("a", "fail_open") == open)
        }

        @Test func failingOpenPassesOnlyWhileTheMeshIsAway() throws {
            let file = "\(Lab.state)/a/meshd.yaml"
            try Shell.output("cp \(file) \(file).closed && sed -i '1i failureMode: open' \(file)")
            defer {
                _ = try? Shell.run("mv \(file).closed \(file)")
                try? restart()
            }
            try restart()
            let address = Lab.address("b")
            let before = try Lab.refusals("a", "fail_open")
            #expect(try Traffic.client("connect 2", to: address).result == "ok")
            #expect(try Lab.refusals("a", "fail_open") == before, "it passes while the mesh is there")
            // A proxy that does not answer is away too, until it is replaced.
            try killBoth()
            _ = try Traffic.client("connect 2", to: address)
            // A name has no address without the mesh: nothing to pass it to.
            #expect(try Traffic.client("connect 2").result == "ECONNREFUSED")
            try restart()
            let passed = try Lab.refusals("a", "fail_open")
            #expect(passed == before + 1, "\(passed) after \(before)")
            #expect(try Traffic.client("connect 2", to: address).result == "ok")
            #expect(try Lab.refusals("a", "fail_open") == passed)
        }
    }
}
