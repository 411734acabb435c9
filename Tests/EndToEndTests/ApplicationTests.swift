import Testing

extension EndToEnd {
    /// Programs that know nothing of the mesh, in the shapes that real ones have.
    @Suite("Applications", .timeLimit(.minutes(5)))
    struct Applications {
        @Test func curlGetsThePageOfNginxFromEveryKindOfWorkload() throws {
            for workload in ["w1", "w2", "w3", "w4"] {
                #expect(try Lab.output("a", workload, "curl -sS -m 10 \(Lab.webURL)") == "Hello from web on node b.\n")
            }
            #expect(try Lab.output("a", "w3", "curl -sS -m 10 http://node-b:8080/") == "Hello from web on node b.\n")
        }

        @Test func wrkFinishesWithoutASocketError() throws {
            let output = try Lab.output("a", "w1", "wrk -t2 -c64 -d5s \(Lab.webURL)ok")
            #expect(output.contains("Requests/sec"))
            #expect(!output.contains("Socket errors"), "\(output)")
            #expect(!output.contains("Non-2xx"), "\(output)")
        }

        @Test func redisBenchmarkFinishesWithoutAnError() throws {
            try Lab.start(
                "redis", "b", "w2",
                "redis-server --port 6379 --bind '*' '-::*' --protected-mode no --save '' --appendonly no")
            #expect(
                try Shell.waits(15) { try Lab.run("a", "w1", "redis-cli -h redis ping").output == "PONG\n" })
            let output = try Lab.output(
                "a", "w1", "redis-benchmark -h redis -q -n 20000 -c 50 -P 4 -t ping,set,get,lrange_100,mset",
                seconds: 90)
            #expect(output.contains("GET") && output.contains("MSET"))
            #expect(!output.lowercased().contains("error"), "\(output)")
        }

        @Test func postgresKeepsLongLivedConnectionsWithPreparedStatements() throws {
            try Lab.start("postgres", "b", "w2", "\(Lab.applications)/serve_postgres.sh \(Lab.state)/b/postgres")
            let psql = "psql -h postgres -U lab -d postgres -tA"
            #expect(try Shell.waits(30) { try Lab.run("a", "w1", "\(psql) -c 'select 1'").output == "1\n" })
            let sum = try Lab.output("a", "w1", "\(psql) -c 'select sum(i) from generate_series(1, 1000000) i'")
            #expect(sum == "500000500000\n")
            try Lab.output("a", "w1", "pgbench -h postgres -U lab -i -s 2 -q postgres", seconds: 90)
            let output = try Lab.output(
                "a", "w3", "pgbench -h postgres -U lab -c 16 -j 2 -T 8 -M prepared postgres", seconds: 90)
            #expect(output.contains("number of failed transactions: 0 "), "\(output)")
        }

        @Test func serverThatSpeaksFirstIsHeardAtOnce() throws {
            try Lab.start("banner", "b", "w2", "\(Lab.python) \(Lab.applications)/banner_server.py 2525")
            let question = "exec 3<>/dev/tcp/banner/2525; IFS= read -r -t 5 line <&3 && echo \"$line\""
            let heard = try Shell.waits(10) {
                try Lab.run("a", "w1", "bash -c \(Shell.quoted(question))").output.hasPrefix(
                    "220 mail.lab.example ready")
            }
            #expect(heard)
            let dialogue = question + "; printf 'HELO a\\r\\nQUIT\\r\\n' >&3; cat <&3"
            #expect(try Lab.output("a", "w3", "bash -c \(Shell.quoted(dialogue))").contains("221 bye"))
        }

        @Test func iperfRunsInBothDirections() throws {
            try Lab.start("iperf", "b", "w2", "iperf3 -s -p 5201")
            #expect(try Shell.waits(15) { try Lab.run("a", "w1", "iperf3 -c iperf -p 5201 -n 1K").status == 0 })
            for arguments in ["-P 4", "-P 4 -R", "--bidir"] {
                let output = try Lab.output("a", "w1", "iperf3 -c iperf -p 5201 -t 3 \(arguments)")
                #expect(output.contains("iperf Done"), "\(output)")
            }
        }

        @Test func hTwoLoadReachesNghttpdThroughItsOwnHTTP2() throws {
            try Lab.start("nghttpd", "b", "w2", "nghttpd --no-tls -d \(Lab.state)/b/web/html -n 2 8081")
            let output = try Lab.output(
                "a", "w1", "sh -c 'sleep 1; exec h2load -n 20000 -c 20 -m 50 http://h2:8081/index.html'")
            #expect(output.contains("20000 succeeded, 0 failed, 0 errored, 0 timeout"), "\(output)")
        }

        @Test func bothAddressFamiliesAndMappedAddressesArrive() throws {
            try Traffic.startServers()
            var hosts = ["fd96::16"]
            if !Lab.isIPv6Only { hosts += ["10.96.0.16", "::ffff:10.96.0.16"] }
            for host in hosts {
                let answer = try Traffic.client("addresses", to: host)
                let isIPv6 = host == "fd96::16"
                #expect(answer.getpeername == .init(address: host, port: 7_000))
                #expect(answer.server?.accepted.address == Lab.address("a", ipv6: isIPv6))
                #expect(answer.server?.getpeername == answer.server?.accepted)
                #expect(answer.server?.getsockname == .init(address: Lab.address("b", ipv6: isIPv6), port: 7_000))
                let own = answer.getsockname?.address ?? ""
                #expect(own == Lab.address("a", ipv6: isIPv6) || own == "::ffff:" + Lab.address("a", ipv6: isIPv6))
            }
        }

        @Test func workloadsInNetworkNamespacesOfTheirOwnReachEachOther() throws {
            try Traffic.startServers()
            for (client, server, host) in [
                ("w1", "w3", "inner"), ("w3", "w2", "echo"), ("w4", "w3", "inner"), ("w2", "w2", "echo"),
            ] {
                let answer = try Traffic.client("addresses", to: host, from: client)
                let isIPv6 = answer.getsockname?.address.contains(":") == true
                #expect(answer.server?.accepted.address == Lab.address("a", client, ipv6: isIPv6))
                #expect(answer.server?.getsockname.address == Lab.address("b", server, ipv6: isIPv6))
            }
        }

        @Test func workloadsOfOneNodeReachEachOther() throws {
            try Traffic.startServers()
            let server = Lab.address("a", "w3")
            let answer = try Traffic.client("addresses", to: server, from: "w1")
            #expect(answer.getpeername == .init(address: server, port: 7_000))
            #expect(answer.server?.accepted.address == Lab.address("a", "w1"))
            #expect(try Traffic.client("download 10000000", to: server, from: "w4").intact == Traffic.yes)
            let flow = try #require(
                try Lab.flows("a").last {
                    $0.sourceWorkload?.contains("a-w4") == true && $0.bytesReceived == 10_000_000
                })
            #expect(flow.sourcePrincipal == Lab.principalPrefix + "a-w4")
            #expect(flow.destinationPrincipal == Lab.principalPrefix + "a-w3")
        }
    }
}
