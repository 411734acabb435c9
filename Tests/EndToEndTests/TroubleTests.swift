import Testing

extension EndToEnd {
    /// When something is wrong: what breaks, what goes on, and what says so.
    @Suite("Trouble", .timeLimit(.minutes(5)))
    struct Trouble {
        init() throws { try Traffic.startServers() }

        /// A second meshd of node a, started in the foreground with changed circumstances; it must give up and say why.
        func startFails(
            _ wrapper: String = "", settings: [String: String] = [:], sourceLocation: SourceLocation = #_sourceLocation
        ) throws -> String {
            let file = "\(Lab.state)/trouble.yaml"
            var edits = "s|: \(Lab.state)/a/|: \(Lab.state)/trouble/|; s|^node: a|node: trouble|;"
            edits += "s|^cgroupRoot: .*|cgroupRoot: \(Lab.variable("LAB_CGROUP"))/tools|;"
            for (key, value) in settings { edits += "s|\(key)|\(value)|;" }
            try Shell.output(
                """
                mkdir -p \(Lab.state)/trouble/{resources,certificates,run,state}
                sed -E \(Shell.quoted(edits)) \(Lab.state)/a/meshd.yaml >\(file)
                """)
            let meshd = "\(Lab.state)/bin/meshd"
            defer { _ = try? Shell.run("\(meshd) uninstall --config \(file); rm -rf \(Lab.state)/trouble \(file)") }
            // Through a file: should it start after all, what it leaves at work would hold a pipe open.
            let result = try Shell.run(
                """
                \(Lab.tool) exec a --workload none -- \(wrapper) timeout 10 \(meshd) --config \(file) >\(file).log 2>&1
                code=$?
                cat \(file).log
                rm \(file).log
                exit $code
                """, seconds: 30)
            #expect(
                result.status != 0 && result.status != 124, "meshd did not give up: \(result.output)",
                sourceLocation: sourceLocation)
            return result.output
        }

        @Test func aTakenPortIsNamed() throws {
            let output = try startFails()
            #expect(output.contains("15020") || output.contains("15021"), "\(output)")
            #expect(output.lowercased().contains("in use"), "\(output)")
        }

        @Test func refusedBPFIsNamed() throws {
            let output = try startFails(
                "setpriv --bounding-set -bpf,-sys_admin --", settings: ["15020": "25020", "15021": "25021"])
            #expect(output.contains("BPF") || output.contains("bpf"), "\(output)")
        }

        @Test func aKernelThatIsTooOldIsNamed() throws {
            let output = try startFails("setarch --uname-2.6", settings: ["15020": "25020", "15021": "25021"])
            #expect(output.contains("6.1"), "\(output)")
        }

        @Test func aMissingCgroupHierarchyIsNamed() throws {
            let output = try startFails(
                "unshare --mount --propagation private sh -c 'umount -R /sys/fs/cgroup; exec \"$@\"' sh",
                settings: ["15020": "25020", "15021": "25021"])
            #expect(output.contains("cgroup"), "\(output)")
        }

        @Test func aBrokenResourceFileLeavesTheLastGoodOneInForce() throws {
            let file = "\(Lab.state)/a/resources/broken.yaml"
            try Shell.output("printf 'kind: Service\\nmetadata: {nmae: x}\\n' >\(file).new && mv \(file).new \(file)")
            let isNamed = try Shell.waits(10) { try Lab.meshctl("a", "status").output.contains("broken.yaml") }
            #expect(isNamed, "status does not name the file")
            #expect(try Lab.output("a", "w1", "curl -sS -m 10 \(Lab.webURL)") == "Hello from web on node b.\n")
            #expect(try Shell.output("grep -c broken.yaml \(Lab.variable("MESHD_LOG_A"))") != "0\n")
            #expect(
                try Lab.metrics("a").contains {
                    $0.hasPrefix("meshd_") && $0.contains("resource") && !$0.hasSuffix(" 0")
                })
            try Shell.output("rm \(file)")
            #expect(try Shell.waits(10) { try !Lab.meshctl("a", "status").output.contains("broken.yaml") })
        }

        @Test func aKilledProxyIsBackWithinSeconds() throws {
            let before = try Lab.meshProcesses("a", "proxy")
            #expect(!before.isEmpty)
            for pid in before { try Shell.output("kill -KILL \(pid)") }
            let works = try Shell.waits(10) {
                try Lab.run("a", "w1", "curl -sS -m 2 \(Lab.webURL)").output == "Hello from web on node b.\n"
            }
            #expect(works)
            #expect(try Lab.meshProcesses("a", "proxy").allSatisfy { !before.contains($0) })
            #expect(try Traffic.client("ping-pong 1").microseconds != nil)
        }

        /// Both nodes' meshd die: what was established goes on, new connections find the tunnels and the pooled dial
        /// sockets; and the next meshd takes over the proxy that it finds.
        @Test func withoutMeshdForHalfAMinuteConnectionsGoOn() throws {
            _ = try Traffic.client("ping-pong 1")
            let proxies = try ["a", "b"].map { try Lab.meshProcesses($0, "proxy") }
            try Traffic.beginning("chat", "chat 38")
            try Shell.output("sleep 1")
            for node in ["a", "b"] { try Shell.output("kill -KILL \(Lab.processID("meshd-\(node)"))") }
            for _ in 0..<15 {
                #expect(try Traffic.client("download 100000").intact == Traffic.yes)
                try Shell.output("sleep 2")
            }
            for node in ["a", "b"] { try Shell.output("\(Lab.tool) restart \(node)", seconds: 90) }
            let result = try Traffic.ending("chat", within: 60)
            #expect(result.broken == false)
            #expect((result.worked ?? 0) > 250)
            #expect(
                try ["a", "b"].map { try Lab.meshProcesses($0, "proxy") } == proxies, "the proxies were not adopted")
            #expect(try Traffic.client("download 100000", from: "w3").intact == Traffic.yes)
        }

        @Test func anExpiredCertificateIsRefusedAndCounted() throws {
            let before = try Lab.refusals("b", "certificate_expired")
            try Certificates.make("expired", principal: Lab.principalPrefix + "a-w1", daysAgo: 30, days: 1)
            let answer = try Certificates.request(
                as: "expired", to: "b-w1", authority: "\(Lab.bracketed(Lab.address("b"))):8080")
            #expect(!answer.contains("\"status\": 200"), "\(answer)")
            #expect(try Shell.waits(5) { try Lab.refusals("b", "certificate_expired") > before })
        }

        @Test func aNewCertificateReplacesTheOldOneWithoutTouchingConnections() throws {
            try Traffic.beginning("chat", "chat 10")
            try Shell.output("sleep 1")
            let directory = "\(Lab.state)/b/certificates"
            try Shell.output(
                """
                \(Lab.state)/bin/meshctl ca issue --directory \(Lab.state)/ca --output \(directory) \
                --namespace shop --service-account b-w2
                """)
            let serial = try Shell.output("openssl x509 -noout -serial -in \(directory)/shop/b-w2/chain.pem")
            let number = String(serial.split(separator: "=").last?.dropLast() ?? "")
            let isServed = try Shell.waits(15) {
                try Shell.output(
                    """
                    \(Lab.tool) exec a --workload none -- sh -c 'echo | openssl s_client -alpn h2 -connect [fd77::2]:15008 \
                    -servername \(Certificates.serverName("b-w2")) 2>/dev/null | openssl x509 -noout -serial 2>/dev/null || true'
                    """
                ).contains(number)
            }
            #expect(isServed, "the new certificate \(number) is not presented")
            let result = try Traffic.ending("chat", within: 60)
            #expect(result.broken == false && (result.worked ?? 0) > 50)
        }

        /// Node d is in the snapshot, but nothing answers at its address.
        @Test func aDeadPeerResetsOnceAndIsThenRefusedAtConnect() throws {
            let (file, address) = ("\(Lab.state)/a/resources/dead.yaml", Lab.isIPv6Only ? "fd77::4" : "10.77.0.4")
            let target = Lab.isIPv6Only ? "fd77:0:0:4::9" : "10.77.4.9"
            try Shell.output(
                """
                cat >\(file).new <<'YAML'
                kind: Node
                metadata: {name: d}
                spec: {tunnelAddresses: ["\(address)"]}
                ---
                kind: Workload
                metadata: {name: d-w1, namespace: shop, labels: {app: d-w1}}
                spec: {serviceAccount: d-w1, node: d, selector: {cgroup: workloads/w1}, addresses: ["\(target)"], ports: [7000]}
                YAML
                mv \(file).new \(file)
                """)
            defer { _ = try? Shell.run("rm -f \(file)") }
            #expect(try Shell.waits(10) { try Lab.meshctl("a", "workloads").output.contains("d-w1") })
            let first = try Traffic.client("first-byte", to: target)
            #expect(first.connect == "ok" && first.end == "ECONNRESET", "\(first)")
            #expect(try Shell.waits(5) { try Lab.refusals("a", "tunnel_connect_failed") > 0 })
            let isRefused = try Shell.waits(15) {
                let result = try Traffic.client("connect 5", to: target)
                return ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT"].contains(result.result)
            }
            #expect(isRefused, "connect() still succeeds")
            #expect(try Shell.waits(5) { try Lab.refusals("a", "endpoint_unreachable") > 0 })
            #expect(try Lab.metrics("a").contains { $0.contains("unreachable") && !$0.hasSuffix(" 0") })
            let dualStack = try Lab.output(
                "a", "w1",
                """
                curl -sS -m 20 --resolve both:8080:\(Lab.bracketed(target)),[fd77::2] http://both:8080/ || \
                curl -sS -m 20 --connect-to both:7000:\(Lab.bracketed(target)):7000 --connect-to both:8080:[fd77::2]:8080 \
                http://both:8080/
                """)
            #expect(dualStack == "Hello from web on node b.\n")
        }

        @Test func atTheDescriptorLimitNewConnectionsAreRefusedAndOldOnesGoOn() throws {
            try Settings.with("descriptorsMax: 256") {
                try Traffic.beginning("chat", "chat 15")
                try Shell.output("sleep 1")
                let before = try Lab.metric("a", "meshd_", "reason=\"descriptor_limit\"")
                _ = try Lab.run(
                    "a", "w3", "\(Lab.python) \(Lab.applications)/traffic_client.py echo 7000 many 400", seconds: 30)
                #expect(
                    try Shell.waits(5) {
                        try Lab.metric("a", "meshd_", "reason=\"descriptor_limit\"")
                            + Lab.metric("a", "meshd_", "reason=\"proxy_overloaded\"") > before
                    })
                let result = try Traffic.ending("chat", within: 60)
                #expect(result.broken == false && (result.worked ?? 0) > 80)
                #expect(Shell.waits(10) { (try? Traffic.client("ping-pong 1")) != nil }, "it does not recover")
            }
        }

        @Test func aSmallMemoryBudgetIsKeptAndNothingIsCorrupted() throws {
            try Settings.with("memoryBudget: 16MiB") {
                _ = try Lab.run(
                    "a", "w3", "\(Lab.python) \(Lab.applications)/traffic_client.py echo 7000 stopped 40 1000000 3",
                    seconds: 50)
                let peak = try Lab.peakKiB(Lab.meshProcesses("a", "proxy"))
                #expect(peak > 0 && peak < (16 + 32) * 1_024, "KiB at most: \(peak)")
                #expect(Shell.waits(10) { (try? Traffic.client("download 50000000").intact) == Traffic.yes })
            }
        }

        @Test func aLabThatWasKilledHalfWayComesUpAgainAndLeavesNothing() throws {
            let other = "CULVERT_LAB=culvert-half \(Lab.tool)"
            for delay in ["0.05", "0.2", "0.4"] {
                _ = try Shell.run("\(other) up --plain 2>/dev/null & sleep \(delay); kill -KILL $!; wait")
            }
            try Shell.output("\(other) up --plain && \(other) exec a -- true && \(other) down")
            let traces = try Shell.output(
                """
                { ip netns list; ls -d /run/*; cat /proc/self/mountinfo; find $(dirname \(Lab.variable("LAB_CGROUP"))) -maxdepth 1; } |
                grep culvert-half || true
                """)
            #expect(traces.isEmpty, "left behind: \(traces)")
        }
    }
}
