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
            #expect(output.contains("15020"), "\(output)")
            #expect(output.contains("Address already in use"), "\(output)")
        }

        @Test func refusedBPFIsNamed() throws {
            let output = try startFails(
                "setpriv --bounding-set -bpf,-sys_admin --", settings: ["15020": "25020", "15021": "25021"])
            #expect(
                output.contains(
                    "the kernel refuses BPF: run as root with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and check that kernel "
                        + "lockdown is not 'confidentiality'"), "\(output)")
        }

        @Test func aKernelThatIsTooOldIsNamed() throws {
            let output = try startFails("setarch --uname-2.6", settings: ["15020": "25020", "15021": "25021"])
            #expect(output.contains("Culvert needs Linux 6.1 or later"), "\(output)")
        }

        @Test func aMissingCgroupHierarchyIsNamed() throws {
            let output = try startFails(
                "unshare --mount --propagation private sh -c 'umount -R /sys/fs/cgroup; exec \"$@\"' sh",
                settings: ["15020": "25020", "15021": "25021"])
            #expect(output.contains("no cgroup v2 is mounted"), "\(output)")
            #expect(output.contains("mount -t cgroup2 none /sys/fs/cgroup"), "\(output)")
        }

        @Test func aBrokenResourceFileLeavesTheLastGoodOneInForce() throws {
            let file = "\(Lab.state)/a/resources/broken.yaml"
            #expect(try Lab.metric("a", "meshd_resource_errors") == 0)
            let failed = try Lab.metric("a", "meshd_resource_reads_failed_total")
            try Shell.output("printf 'kind: Service\\nmetadata: {nmae: x}\\n' >\(file).new && mv \(file).new \(file)")
            let isNamed = try Shell.waits(10) { try Lab.meshctl("a", "status").output.contains("broken.yaml") }
            #expect(isNamed, "status does not name the file")
            #expect(try Lab.output("a", "w1", "curl -sS -m 10 \(Lab.webURL)") == "Hello from web on node b.\n")
            #expect(try Shell.output("grep -c broken.yaml \(Lab.variable("MESHD_LOG_A"))") != "0\n")
            #expect(try Lab.metric("a", "meshd_resource_errors") >= 1)
            #expect(try Lab.metric("a", "meshd_resource_reads_failed_total") == failed + 1)
            #expect(try Lab.metric("a", "meshd_ready") == 1, "a broken file makes no node unready")
            try Shell.output("rm \(file)")
            #expect(try Shell.waits(10) { try !Lab.meshctl("a", "status").output.contains("broken.yaml") })
            #expect(try Lab.metric("a", "meshd_resource_errors") == 0)
            #expect(try Lab.metric("a", "meshd_resource_reads_failed_total") == failed + 1)
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
            try Traffic.beginning("chat", "chat 60")
            try Shell.output("sleep 1")
            for node in ["a", "b"] { try Shell.output("kill -KILL \(Lab.processID("meshd-\(node)"))") }
            for _ in 0..<15 {
                #expect(try Traffic.client("download 100000").intact == Traffic.yes)
                try Shell.output("sleep 2")
            }
            for node in ["a", "b"] { try Shell.output("\(Lab.tool) restart \(node)", seconds: 90) }
            for node in ["a", "b"] {
                let isKnown = try Shell.waits(10) {
                    try Lab.flows(node).contains {
                        $0.state == "open" && $0.sourcePrincipal == Lab.principalPrefix + "a-w1"
                            && $0.destinationPrincipal == Lab.principalPrefix + "b-w2" && $0.peerNode != ""
                            && $0.tunnel != 0 && $0.bytesSent > 20
                    }
                }
                #expect(isKnown, "the new meshd of node \(node) does not know whose the connection is")
            }
            let result = try Traffic.ending("chat", within: 90)
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

        /// w4 of node a has no tunnel to b-w1 yet: what it opens now is judged by its new certificate.
        @Test func aNodesOwnExpiredCertificateIsNamedOnBothSides() throws {
            let directory = "\(Lab.state)/a/certificates"
            func issue(_ lifetime: String) throws {
                try Shell.output(
                    """
                    \(Lab.state)/bin/meshctl ca issue --directory \(Lab.state)/ca --output \(directory) \
                    --namespace shop --service-account a-w4 --lifetime \(lifetime)
                    """)
            }
            defer { try? issue("30d") }
            let before = try Lab.refusals("b", "certificate_expired")
            try issue("10s")
            let isNamed = try Shell.waits(45) {
                try Lab.meshctl("a", "certs").lines.contains { $0.contains("a-w4") && $0.contains("expired") }
            }
            #expect(isNamed, "certs does not say that it has expired")
            #expect(try Lab.meshctl("a", "certs").status == 1)
            let expiry = try Lab.metric("a", "meshd_certificate_expiry_timestamp_seconds", "sa/a-w4")
            let now = Double(try Shell.output("date +%s").dropLast()) ?? 0
            #expect(expiry > 0 && expiry <= now, "\(expiry) is not before \(now)")
            for pid in try Lab.meshProcesses("a", "proxy") { try Shell.output("kill -KILL \(pid)") }
            let isRefused = try Shell.waits(20) {
                _ = try Lab.run("a", "w4", "curl -sS -m 2 \(Lab.webURL)")
                return try Lab.refusals("b", "certificate_expired") > before
            }
            #expect(isRefused, "node b does not count the expired certificate")
            #expect(try Lab.run("a", "w4", "curl -sS -m 2 \(Lab.webURL)").status != 0)
            // The others of the node are untouched, and a new certificate heals it.
            #expect(try Lab.output("a", "w1", "curl -sS -m 10 \(Lab.webURL)") == "Hello from web on node b.\n")
            try issue("30d")
            let isHealed = try Shell.waits(45) {
                try Lab.run("a", "w4", "curl -sS -m 2 \(Lab.webURL)").output == "Hello from web on node b.\n"
            }
            #expect(isHealed)
            #expect(try Lab.meshctl("a", "certs").status == 0)
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
    }
}
