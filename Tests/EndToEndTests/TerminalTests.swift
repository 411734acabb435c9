import FoundationEssentials
import Glibc
import Testing

extension EndToEnd {
    /// `meshctl top` on a terminal, with a person's keys.
    @Suite("Terminal", .timeLimit(.minutes(3)))
    struct Terminal {
        /// What Tests/Applications/terminal.py prints.
        struct Session: Decodable {
            let pictures: [[String]]
            let failed: String?
            let status: Int32
            let restored: Bool
            let left: Bool
            let colours: Bool
        }

        init() throws { try Traffic.startServers() }

        /// A session with `meshctl top`; `steps` as terminal.py takes them.
        private func top(
            _ steps: [String], size: String = "80x24", environment: String = "TERM=xterm", options: String = "",
            sourceLocation: SourceLocation = #_sourceLocation
        ) throws -> Session {
            let words = steps.map { step in
                let parts = step.split(separator: " ", maxSplits: 1)
                return parts.map { Shell.quoted(String($0)) }.joined(separator: " ")
            }
            let output = try Shell.output(
                """
                env -u NO_COLOR \(environment) \(Lab.python) \(Lab.applications)/terminal.py \(size) \
                \(words.joined(separator: " ")) -- \(Lab.state)/bin/meshctl top --delay 300ms \
                --socket \(Lab.variable("ADMIN_SOCKET_A")) \(options)
                """, seconds: 120)
            let session = try JSONDecoder().decode(Session.self, from: Data(output.utf8))
            #expect(
                session.failed == nil, "\(session.failed ?? ""): \(session.pictures.last ?? [])",
                sourceLocation: sourceLocation)
            return session
        }

        @Test func keysSortFilterGroupPauseHelpAndQuit() throws {
            try Lab.start("held", "a", "w1", "\(Lab.python) \(Lab.applications)/traffic_client.py echo 7000 chat 60")
            defer { try? Lab.stop("held") }
            let session = try top([
                "see shop/a-w1", "see vOUT/S", "key >", "see vIN/S", "key \\x1b[C", "see vRTT", "key <", "see vIN/S",
                "key r", "see ^IN/S", "key g", "see group workload", "see FLOWS", "key s", "see group service", "key n",
                "see group node", "key f", "see group flow", "key /", "see Enter takes the filter",
                "key nosuchfield=1\\r", "see no field is called 'nosuchfield'", "key \\x1b", "see q quit",
                "key /", "key nosuchworkload\\r", "see filter nosuchworkload", "miss shop/a-w1", "key \\x1b",
                "see shop/a-w1", "key p", "see PAUSED", "key p", "miss PAUSED", "key ?", "see any key goes back",
                "key x", "miss any key goes back", "key c", "see open only", "key q", "end",
            ])
            #expect(session.status == 0 && session.restored && session.left)
            for picture in session.pictures where !picture.isEmpty {
                #expect(picture.count == 24 && picture.allSatisfy { $0.count <= 80 })
                #expect(picture[0].hasPrefix("node a ") && picture[0].contains(" lost "))
            }
        }

        @Test func pictureFollowsTheSizeOfTheTerminal() throws {
            let session = try top(
                [
                    "see q quit", "size 120x40", "see DESTINATION", "see PROCESS", "size 40x10", "miss PROCESS",
                    "key q", "end",
                ])
            let sizes = session.pictures.map { ($0.count, $0.map(\.count).max() ?? 0) }
            #expect(sizes[0].0 == 24 && sizes[3].0 == 40 && sizes[3].1 > 80 && sizes[5].0 == 10 && sizes[5].1 <= 40)
            #expect(session.status == 0 && session.restored && session.left)
        }

        @Test func coloursAreForThoseWhoWantThem() throws {
            _ = try Lab.run("a", "w1", "curl -s -m 2 -o /dev/null http://web:4998/")
            let steps = ["see no_service", "key q", "end"]
            let size = "160x24"
            #expect(try top(steps, size: size).colours)
            #expect(try !top(steps, size: size, environment: "TERM=xterm NO_COLOR=1").colours)
            #expect(try top(steps, size: size, environment: "TERM=xterm NO_COLOR=").colours)
            #expect(try !top(steps, size: size, environment: "TERM=dumb").colours)
        }

        @Test(arguments: ["TERM", "INT", "HUP", "QUIT"]) func terminalIsGivenBackWhateverEndsIt(signal: String) throws {
            let session = try top(["see q quit", "signal \(signal)", "end"])
            #expect(session.restored && session.left)
        }

        @Test func controlCEndsItAndASilentDaemonIsSaid() throws {
            let session = try top(["see q quit", "key \\x03", "end"])
            #expect(session.status == 0 && session.restored && session.left)
            let alone = try top(["see meshd does not answer", "key q", "end"], options: "--socket /nonexistent.sock")
            #expect(alone.status == 0 && alone.restored)
        }

        /// meshd stands still while the kernel's ring fills up: nobody may take what is shown then for all there was.
        @Test func lostEventsAreSaidEverywhere() throws {
            func kernelLost() throws -> Double {
                try Lab.metric("a", "meshd_events_lost_total{", "at=\"kernel_ring\"")
            }
            let before = try kernelLost()
            let meshd = try Lab.processID("meshd-a")
            let script =
                "import socket; a = socket.getaddrinfo(\"web\", 4998, 0, 1)[0]; "
                + "[socket.socket(a[0]).connect_ex(a[4]) for _ in range(20000)]"
            #expect(kill(meshd, SIGSTOP) == 0)
            do {
                defer { kill(meshd, SIGCONT) }
                try Lab.output("a", "w1", "\(Lab.python) -c \(Shell.quoted(script))", seconds: 60)
            }
            let counted = try Shell.waits(20) { try kernelLost() >= before + 1_000 }
            #expect(counted, "20,000 events are more than the ring holds")
            let lost = Int(try kernelLost())
            let status = try Lab.meshctl("a", "status -o json")
            let shown = status.output.firstRange(of: "\"lost_events\":").map { status.output[$0.upperBound...] } ?? ""
            #expect(Int(shown.prefix { $0.isNumber }) ?? 0 >= lost, "\(status.output)")
            let check = try Lab.meshctl("a", "check")
            #expect(check.output.contains("warn no event was lost"), "\(check.output)")
            let session = try top(["see q quit", "miss lost 0", "key q", "end"])
            let header = session.pictures[1].first ?? ""
            let number = header.firstRange(of: " lost ").map { header[$0.upperBound...].prefix { $0.isNumber } } ?? ""
            #expect(Int(number) ?? 0 >= lost, "\(header)")
            let flows = try Shell.run("\(Lab.tool) meshctl a flows 2>&1 >/dev/null")
            #expect(flows.output.contains("events were lost"))
        }
    }
}
