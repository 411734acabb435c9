import FoundationEssentials
import Glibc
import Testing

extension EndToEnd {
    /// Services by DNS: real resolver libraries, whose resolver knows nothing of the mesh.
    @Suite("Names", .timeLimit(.minutes(5)))
    struct Names {
        private static let resolver = "127.0.0.53"
        private static let outside = "www.outside.example"
        private static let outside6 = "2001:db8::80"
        private static let web6 = "fd96::10"
        private static var web: [String] { Lab.isIPv6Only ? [web6] : [web6, "10.96.0.10"] }
        private static let webNames = [
            "web", "web.shop", "web.shop.svc", "web.shop.svc.mesh.internal", "WEB.Shop.svc.MESH.internal",
        ]

        private func dig(_ arguments: String, from workload: String = "w1") throws -> String {
            try Lab.run("a", workload, "dig +tries=1 +time=6 \(arguments)").output
        }

        private func scene(_ arguments: String, from workload: String = "w1") throws -> Value {
            let script = "\(Lab.python) \(Lab.applications)/names_client.py \(arguments)"
            return try JSONDecoder().decode(Value.self, from: Data(try Lab.output("a", workload, script).utf8))
        }

        @Test func curlReachesServicesByDNSFromEveryKindOfWorkload() throws {
            for workload in ["w1", "w3"] {
                for name in Self.webNames {
                    let page = try Lab.output("a", workload, "--dns curl -sS -m 10 http://\(name)/")
                    #expect(page == "Hello from web on node b.\n", "\(name) from \(workload)")
                }
            }
            #expect(try Lab.run("a", "none", "--dns curl -sS -m 10 http://web/").status != 0, "outside the mesh")
        }

        @Test func glibcFindsBothFamiliesOverOneSocketAndSortsThemUsable() throws {
            for name in ["web", "web.shop.svc.mesh.internal"] {
                let lines = try Lab.output("a", "w1", "--dns getent ahosts \(name)").split(separator: "\n")
                let streams = lines.filter { $0.contains("STREAM") }.compactMap { $0.split(separator: " ").first }
                #expect(streams.map(String.init) == Self.web, "\(name)")
            }
            #expect(try Lab.output("a", "w1", "--dns getent hosts \(Self.outside)").hasPrefix(Self.outside6))
            #expect(try Lab.run("a", "w1", "--dns getent hosts nosuch.shop.svc.mesh.internal").status == 2)
            #expect(try Lab.run("a", "w1", "--dns getent hosts nosuch.outside.example").status == 2)
        }

        @Test func muslFindsTheSameNames() throws {
            let program = "\(Lab.state)/names-musl"
            try Shell.output("musl-gcc -static -o \(program) \(Lab.applications)/names_libc.c")
            for name in Self.webNames + [Self.outside] {
                let lines = try Lab.output("a", "w1", "--dns \(program) \(name)").split(separator: "\n").map(
                    String.init)
                let wanted = name == Self.outside ? [Self.outside6, "192.0.2.80"] : Self.web
                #expect(Set(lines) == Set(wanted), "\(name)")
            }
            #expect(try Lab.run("a", "w1", "--dns \(program) nosuch.shop.svc.mesh.internal").status == 1)
        }

        @Test func cAresFindsTheSameNames() throws {
            let script = "--dns \(Lab.python) \(Lab.applications)/names_cares.py"
            let output = try Lab.output("a", "w3", "\(script) web \(Self.outside) nosuch.shop.svc.mesh.internal")
            #expect(output.contains("web \(Self.web6)\n"))
            #expect(output.contains("\(Self.outside) \(Self.outside6)\n"))
            #expect(output.contains("nosuch.shop.svc.mesh.internal ARES_ENOTFOUND\n"))
        }

        /// Prometheus' tool is a Go program; whatever it makes of nginx's answer, it must have got it.
        @Test func goFindsTheSameNames() throws {
            func query(_ name: String) throws -> String {
                let command = "GODEBUG=netdns=go promtool query instant http://\(name)/ up 2>&1"
                return try Lab.run("a", "w1", "--dns sh -c \(Shell.quoted(command))").output
            }
            #expect(try query("web").contains("nginx"))
            #expect(try query("nosuch.shop.svc.mesh.internal").contains("no such host"))
        }

        @Test func answersForTheMeshAreAuthoritativeAndShortLived() throws {
            let known = try dig("@\(Self.resolver) web AAAA")
            #expect(known.contains("status: NOERROR") && known.contains("flags: qr aa rd ra;"))
            #expect(known.contains("\t5\tIN\tAAAA\t\(Self.web6)"))
            #expect(known.contains("SERVER: \(Self.resolver)#53"))
            let other = try dig("@\(Self.resolver) web MX")
            #expect(other.contains("status: NOERROR") && other.contains("ANSWER: 0, AUTHORITY: 1"))
            let missing = try dig("@\(Self.resolver) nosuch.shop.svc.mesh.internal")
            #expect(missing.contains("status: NXDOMAIN") && missing.contains("flags: qr aa rd ra;"))
            #expect(missing.contains("\t5\tIN\tSOA\t"))
            if Lab.isIPv6Only {
                let empty = try dig("@\(Self.resolver) web A")
                #expect(empty.contains("status: NOERROR") && empty.contains("ANSWER: 0, AUTHORITY: 1"))
            }
        }

        @Test func tcpEDNSAndTruncationWorkAsWithTheResolverItself() throws {
            for transport in ["+notcp", "+tcp"] {
                #expect(try dig("+short \(transport) @\(Self.resolver) web AAAA") == Self.web6 + "\n")
                #expect(try dig("+short \(transport) @\(Self.resolver) \(Self.outside) AAAA") == Self.outside6 + "\n")
            }
            let many = "@\(Self.resolver) many.example.org"
            #expect(try dig("+noedns +ignore \(many)").contains(" tc "))
            #expect(try dig("+noedns \(many)").contains("ANSWER: 60"), "asked again by TCP")
            let large = try dig("+bufsize=4096 +notcp \(many)")
            #expect(large.contains("ANSWER: 60") && large.contains("(UDP)"))
            #expect(try dig("+tcp +keepopen \(many) web AAAA").contains("ANSWER: 60"))
        }

        @Test func resolversAnywhereAreAskedFromTheWorkloadsOwnPlace() throws {
            for address in ["fd77::1"] + (Lab.isIPv6Only ? [] : ["10.77.0.1"]) {
                for workload in ["w1", "w3"] {
                    let asked = "@\(address) \(Self.outside) AAAA +short"
                    #expect(try dig(asked, from: workload) == Self.outside6 + "\n", "\(workload) \(address)")
                    #expect(try dig(asked + " +tcp", from: workload) == Self.outside6 + "\n")
                    #expect(try dig("@\(address) web AAAA +short", from: workload) == Self.web6 + "\n")
                }
            }
        }

        @Test func aSocketThatAsksSeveralResolversHearsEachFromItsOwnAddress() throws {
            var groups = [["fd77::1", "fd77::2"]]
            if !Lab.isIPv6Only { groups.append(["127.0.0.53", "10.77.0.1", "10.77.0.2"]) }
            for resolvers in groups {
                let heard = try scene("several \(Self.outside) " + resolvers.joined(separator: " "))
                for resolver in resolvers {
                    #expect(heard[resolver]?["from"]?.text == resolver)
                    #expect(heard[resolver]?["port"]?.number == 53)
                    #expect(heard[resolver]?["answer"]?.numbers == [0, 1])
                }
            }
            let five = try scene("several web 127.0.0.53 127.0.0.54 127.0.0.55 127.0.0.56 127.0.0.57")
            #expect(five["refused"]?.text == "127.0.0.57" && five["with"]?.text == "ENOBUFS")
        }

        @Test func aConnectedSocketSeesItsResolverAndItsOwnAddress() throws {
            let loopback = try scene("connected web \(Self.resolver)")
            #expect(loopback["peer"]?.text == Self.resolver && loopback["port"]?.number == 53)
            #expect(loopback["own"]?.text == "127.0.0.1")
            #expect(loopback["answers"]?.list?[1].numbers == [0, 1])
            let remote = try scene("connected web fd77::2")
            #expect(remote["peer"]?.text == "fd77::2" && remote["own"]?.text == "fd77::1")
        }

        @Test func datagramsToVirtualAddressesConnectAndAreRefused() throws {
            for address in Self.web {
                let facts = try scene("virtual \(address)")
                #expect(facts["connect"]?.isNull == true, "address sorting connects")
                #expect(facts["peer"]?.text == address)
                #expect(facts["own"]?.text == Lab.address("a", ipv6: address.contains(":")))
                #expect(facts["answer"]?.text == "ECONNREFUSED")
                #expect(facts["sendto"]?.text == "ECONNREFUSED")
            }
            #expect(try Lab.refusals("a", "datagram_not_carried") > 0)
        }

        @Test func nobodySpeaksToTheNamesListenersThemselves() throws {
            let facts = try scene("mesh_ports")
            #expect(facts["sendto"]?.text == "ECONNREFUSED" && facts["connect"]?.text == "ECONNREFUSED")
            #expect(facts["sendto6"]?.text == "ECONNREFUSED")
            #expect(facts["bind"]?.text == "EPERM")
            let before = try Lab.refusals("a", "names_question_unknown")  // counted by the kernel: at once
            // Not meshed, so that no hook refuses it; but no hook sent it there either.
            #expect(try Lab.run("a", "none", "dig +tries=1 +time=1 -p 15053 @127.77.0.1 web").status != 0)
            #expect(try Lab.refusals("a", "names_question_unknown") > before)
        }

        @Test func aSilentOrAbsentResolverIsAFailureInTime() throws {
            let before = try Lab.refusals("a", "names_resolver_timeout")
            #expect(try dig("@\(Self.resolver) nothing.silent.example").contains("status: SERVFAIL"))
            #expect(try Shell.waits(10) { try Lab.refusals("a", "names_resolver_timeout") > before })
            let absent = try dig("@127.0.0.99 \(Self.outside)")
            #expect(absent.contains("status: SERVFAIL"), "\(absent)")
            #expect(try dig("+short @127.0.0.99 web AAAA") == Self.web6 + "\n", "the mesh's names need no resolver")
        }

        @Test func queriesAreRefusedWhileTheProxyIsStopped() throws {
            let proxy = try #require(try Lab.meshProcesses("a", "proxy").first)
            try Shell.output("kill -STOP \(proxy)")
            defer { _ = try? Shell.output("kill -CONT \(proxy)") }
            let isRefused = try Shell.waits(8) {
                try dig("+tries=1 +time=1 +short +notcp @\(Self.resolver) \(Self.outside)").contains("refused")
            }
            #expect(isRefused, "closed, not open")
            try Shell.output("kill -CONT \(proxy)")
            #expect(try Shell.waits(8) { try dig("+short @\(Self.resolver) web AAAA") == Self.web6 + "\n" })
        }

        @Test func metricsCountWhatIsAnsweredAndWhatIsForwarded() throws {
            func counts() throws -> (answered: Double, forwarded: Double) {
                (
                    try Lab.metric("a", "meshd_proxy_names_answered_total"),
                    try Lab.metric("a", "meshd_proxy_names_forwarded_total")
                )
            }
            // The proxy is asked for its figures once a second: what others have asked is in them after that.
            var before = try counts()
            let isSettled = try Shell.waits(10) {
                usleep(1_500_000)
                let earlier = before
                before = try counts()
                return earlier == before
            }
            #expect(isSettled)
            let asked = [("web", 3.0), ("nosuch.shop.svc.mesh.internal", 2), (Self.outside, 4)]
            for transport in ["+notcp", "+tcp"] {
                for (name, count) in asked {
                    for _ in 0..<Int(count) { _ = try dig("+short \(transport) @\(Self.resolver) \(name) AAAA") }
                }
            }
            var now = before
            _ = try Shell.waits(10) {
                now = try counts()
                return now.answered >= before.answered + 10 && now.forwarded >= before.forwarded + 8
            }
            #expect(now.answered == before.answered + 10, "\(before) \(now)")
            #expect(now.forwarded == before.forwarded + 8, "\(before) \(now)")
            let timeouts = try Lab.refusals("a", "names_resolver_timeout")
            #expect(try dig("@\(Self.resolver) nothing.silent.example").contains("status: SERVFAIL"))
            #expect(try Shell.waits(10) { try Lab.refusals("a", "names_resolver_timeout") == timeouts + 1 })
        }

        // MARK: resolvers that workloads run themselves

        /// As a workload, at 53 of its own loopback; it knows what the lab's resolver does.
        private func startResolver(_ name: String, as workload: String) throws {
            try Lab.start(
                name, "a", workload,
                "dnsmasq --keep-in-foreground --conf-file=\(Lab.state)/resolver.conf --listen-address=127.0.0.1,::1")
        }

        private func answers(_ address: String, _ workload: String, by transport: String) throws -> Bool {
            try dig("+short \(transport) @\(address) \(Self.outside) AAAA", from: workload) == Self.outside6 + "\n"
        }

        private static let transports = ["+tcp", "+notcp"]

        @Test(arguments: transports)
        func aResolverInItsWorkloadsOwnNetworkNamespaceAnswers(by transport: String) throws {
            try startResolver("own-resolver", as: "w3")
            defer { try? Lab.stop("own-resolver") }
            for address in ["127.0.0.1", "::1"] {
                #expect(try Shell.waits(10) { try answers(address, "w3", by: transport) }, "\(address)")
                #expect(try dig("+short \(transport) @\(address) web AAAA", from: "w3") == Self.web6 + "\n")
            }
        }

        /// w1 and w2 share the node's loopback.
        @Test(arguments: transports)
        func aResolverOnASharedLoopbackAnswersItsOwnWorkloadAndNoNeighbour(by transport: String) throws {
            try startResolver("shared-resolver", as: "w1")
            defer { try? Lab.stop("shared-resolver") }
            for address in ["127.0.0.1", "::1"] {
                #expect(try Shell.waits(10) { try answers(address, "w1", by: transport) }, "\(address)")
                let before = try Lab.refusals("a", "plaintext_refused")
                for _ in 0..<2 { #expect(try !answers(address, "w2", by: transport), "\(address)") }
                #expect(try Lab.refusals("a", "plaintext_refused") == before + 2, "by the policy of who listens there")
                #expect(try dig("+short \(transport) @\(address) web AAAA", from: "w2") == Self.web6 + "\n")
                #expect(try answers(address, "w1", by: transport), "as before")
            }
        }

        // MARK: names that egress depends on

        /// `named` may call what `*.outside.example` stands for, at one port; a server at another one is there too.
        @Test func aNameInAnEgressPolicyOpensWhatItStandsForAndNothingElse() throws {
            let (listed, unlisted) = (9_110, 9_111)
            for port in [listed, unlisted] {
                try Lab.start("named-\(port)", "b", "none", "\(Lab.python) -m http.server \(port) --bind ::")
            }
            try ExtraWorkload.make("named", port: 7_906, egress: Self.listing("*.outside.example", listed))
            defer {
                for port in [listed, unlisted] { try? Lab.stop("named-\(port)") }
                try? ExtraWorkload.remove("named")
            }
            func status(_ host: String, _ port: Int) throws -> String {
                let url = "http://\(host.contains(":") ? "[\(host)]" : host):\(port)/"
                return try Lab.run("a", "named", "--dns curl -s -m 10 -o /dev/null -w '%{http_code}' \(url)").output
            }
            let address = Lab.address("b")
            #expect(try status(address, listed) == "000", "before anybody said whose address it is")
            #expect(try status("partner.outside.example", listed) == "200", "the first connection after the answer")
            #expect(try status(address, listed) == "200")
            #expect(try status("partner.outside.example", unlisted) == "000")
            #expect(try status("many.example.org", listed) == "000")
            #expect(
                try Lab.flows("a").contains {
                    $0.sourceWorkload == "shop/a-named" && $0.reason == "egress_denied" && $0.verdict == "denied"
                })
            #expect(try Lab.metric("a", "meshd_egress_learned_addresses") >= (Lab.isIPv6Only ? 1 : 2))
            // A new meshd finds what the last one learned.
            try Shell.output("\(Lab.tool) restart a", seconds: 90)
            #expect(try status(address, listed) == "200")
            // Another name in its place: what was learned for this one ends.
            try ExtraWorkload.mesh("named", port: 7_906, egress: Self.listing("www.outside.example", listed))
            #expect(try Shell.waits(10) { try status(address, listed) == "000" })
            #expect(try status("partner.outside.example", listed) == "000")
        }

        @Test func aListedNameIsLearnedByTCPToo() throws {
            try Lab.start("named-9112", "b", "none", "\(Lab.python) -m http.server 9112 --bind ::")
            try ExtraWorkload.make("named-tcp", port: 7_907, egress: Self.listing("partner.outside.example", 9_112))
            defer {
                try? Lab.stop("named-9112")
                try? ExtraWorkload.remove("named-tcp")
            }
            let address = Lab.address("b", ipv6: true)
            let asked = try dig("+short +tcp @\(Self.resolver) partner.outside.example AAAA", from: "named-tcp")
            #expect(asked == address + "\n")
            let url = "http://[\(address)]:9112/"
            let page = try Lab.run("a", "named-tcp", "curl -s -m 10 -o /dev/null -w '%{http_code}' \(url)")
            #expect(page.output == "200")
        }

        private static func listing(_ name: String, _ port: Int) -> String {
            "mode: LISTED, allow: [{name: \"\(name)\", ports: [\(port)]}]"
        }
    }
}

/// JSON as it comes.
private enum Value: Decodable {
    case null
    case number(Int)
    case text(String)
    indirect case list([Value])
    indirect case object([String: Value])

    init(from decoder: any Decoder) throws {
        let single = try decoder.singleValueContainer()
        if single.decodeNil() {
            self = .null
        } else if let number = try? single.decode(Int.self) {
            self = .number(number)
        } else if let text = try? single.decode(String.self) {
            self = .text(text)
        } else if let list = try? single.decode([Value].self) {
            self = .list(list)
        } else {
            self = .object(try single.decode([String: Value].self))
        }
    }

    subscript(_ key: String) -> Value? {
        if case .object(let members) = self { return members[key] }
        return nil
    }

    var isNull: Bool { if case .null = self { true } else { false } }
    var text: String? { if case .text(let text) = self { text } else { nil } }
    var number: Int? { if case .number(let number) = self { number } else { nil } }
    var list: [Value]? { if case .list(let list) = self { list } else { nil } }
    var numbers: [Int]? { list?.compactMap(\.number) }
}
