import AdminAPI
import Glibc
import LinuxIO
import MeshModel
import Synchronization
import Telemetry
import Testing

@Suite struct AdminServerTests {
    /// Answers with what is easily recognised.
    final class Backend: AdminBackend {
        var table = FlowTable()
        func status() -> NodeStatus {
            var status = NodeStatus()
            status.node = "a\"b"
            return status
        }
        func checks() -> [CheckFact] { [CheckFact("x", .warning, detail: "d", fix: "f")] }
        func flows(changedAfter change: UInt64, limit: Int) -> FlowPage {
            table.page(changedAfter: change, limit: limit, now: 0)
        }
        func services() -> [ServiceRow] { [] }
        func workloads() -> [WorkloadRow] { [] }
        func nodes() -> [NodeRow] { [] }
        func tunnels() -> [TunnelRow] { [] }
        func certificates() -> [CertificateRow] { [] }
        func snapshotBytes() -> [UInt8]? { [1, 2, 3] }
        var upgrades = 0
        func upgrade() -> String? {
            upgrades += 1
            return upgrades == 1 ? nil : "busy"
        }
        func records(since: Int64) -> (records: [[UInt8]], more: Bool) { ([Array("{\"since\":\(since)}".utf8)], true) }
        func records(limit: Int) -> [[UInt8]] { Array(repeating: Array("{}".utf8), count: min(limit, 2)) }
    }

    static func path(_ name: String) -> String { "/tmp/culvert-admin-\(getpid())-\(name).sock" }

    /// Asks on a thread of its own: the pool's threads may all be busy serving in tests like these.
    final class Asker: Sendable {
        let results = Mutex<[Result<[UInt8], AdminClientError>]>([])
        let socket: String
        let paths: [String]

        init(_ socket: String, _ paths: [String]) {
            self.socket = socket
            self.paths = paths
        }

        func run() {
            for path in paths {
                let result = Result { () throws(AdminClientError) in try AdminClient(socket: socket).get(path) }
                results.withLock { $0.append(result) }
            }
        }
    }

    static func ask(
        _ reactor: Reactor, _ socket: String, _ paths: [String]
    ) throws -> [Result<[UInt8], AdminClientError>] {
        let asker = Asker(socket, paths)
        var thread = pthread_t()
        let created = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<Asker>.fromOpaque(argument).takeRetainedValue().run() }
                return nil
            }, Unmanaged.passRetained(asker).toOpaque())
        try #require(created == 0)
        let deadline = BootClock.nanoseconds() + 20_000_000_000
        while asker.results.withLock({ $0.count }) < paths.count, BootClock.nanoseconds() < deadline {
            try reactor.turn(limitMilliseconds: 10)
        }
        pthread_join(thread, nil)
        let results = asker.results.withLock { $0 }
        try #require(results.count == paths.count)
        return results
    }

    static func text(_ result: Result<[UInt8], AdminClientError>) throws -> String {
        String(decoding: try result.get(), as: UTF8.self)
    }

    /// A client that sends `bytes` and nothing more.
    static func raw(_ path: String, _ bytes: String) -> FileDescriptor? {
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard number >= 0 else { return nil }
        let descriptor = FileDescriptor(owning: number)
        let result = withUnsafeBytes(of: &name) {
            connect(number, $0.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
        }
        guard result == 0 else { return nil }
        _ = try? Array(bytes.utf8).withUnsafeBytes { try descriptor.write($0) }
        return descriptor
    }

    @Test func everyQuestionIsAnsweredWithItsRows() throws {
        let (reactor, path, backend) = (try Reactor(), Self.path("rows"), Backend())
        defer { unlink(path) }
        let server = try AdminServer(reactor: reactor, socket: path, group: "", backend: backend)
        let answers = try Self.ask(
            reactor, path,
            [
                "/v1/status", "/v1/check", "/v1/flows", "/v1/services", "/v1/workloads", "/v1/nodes", "/v1/tunnels",
                "/v1/certificates", "/v1/records?limit=1", "/v1/snapshot", "/v1/history?since=7",
            ])
        #expect(try Self.text(answers[0]).contains("\"node\":\"a\\\"b\""))
        #expect(
            try Self.text(answers[1])
                == "{\"rows\":[{\"name\":\"x\",\"outcome\":\"warning\",\"detail\":\"d\",\"fix\":\"f\"}]}")
        #expect(try Self.text(answers[2]) == "{\"next\":0,\"more\":false,\"lost\":0,\"flows\":[]}")
        for answer in answers[3...7] { #expect(try Self.text(answer) == "{\"rows\":[]}") }
        #expect(try Self.text(answers[8]) == "{}\n")
        #expect(try answers[9].get() == [1, 2, 3])
        #expect(try Self.text(answers[10]) == "{\"more\":true,\"records\":[{\"since\":7}]}")
        _ = server
    }

    @Test func whatCannotBeAnsweredIsRefused() throws {
        let (reactor, path, backend) = (try Reactor(), Self.path("refused"), Backend())
        defer { unlink(path) }
        let server = try AdminServer(reactor: reactor, socket: path, group: "", backend: backend)
        let answers = try Self.ask(
            reactor, path, ["/", "/v1/flows?after=x", "/v1/flows?limit=0", "/v1/history?since="])
        #expect(answers[0] == .failure(.refused(status: 404, text: "no such page\n")))
        for answer in answers[1...] {
            guard case .failure(.refused(status: 400, _)) = answer else {
                Issue.record("\(answer)")
                continue
            }
        }
        _ = server
    }

    /// Runs a shell command while the reactor serves; its exit code.
    static func run(_ command: String, _ reactor: Reactor) throws -> Int32 {
        final class Command: Sendable {
            let text: String
            let status = Mutex<Int32?>(nil)
            init(_ text: String) { self.text = text }
        }
        let running = Command(command)
        var thread = pthread_t()
        let created = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                let command = Unmanaged<Command>.fromOpaque(argument).takeRetainedValue()
                let status = popen(command.text, "r").map { pclose($0) } ?? -1
                command.status.withLock { $0 = status }
                return nil
            }, Unmanaged.passRetained(running).toOpaque())
        try #require(created == 0)
        while running.status.withLock({ $0 }) == nil { try reactor.turn(limitMilliseconds: 10) }
        pthread_join(thread, nil)
        return (running.status.withLock { $0 } ?? -1) >> 8 & 0xff
    }

    @Test func membersOfTheGroupAreLetInAndStrangersAreNot() throws {
        let (reactor, path, backend) = (try Reactor(), Self.path("group-access"), Backend())
        defer { unlink(path) }
        let server = try AdminServer(reactor: reactor, socket: path, group: "games", backend: backend)
        var facts = stat()
        #expect(stat(path, &facts) == 0 && facts.st_mode & 0o777 == 0o660)
        let group = facts.st_gid
        let client = "curl -s -o /dev/null -m 10 --unix-socket \(path) http://meshd/v1/status"
        // Nobody's own user and group: what is left of it is the group among the others.
        let stranger = "setpriv --reuid 65534 --regid 65534"
        #expect(try Self.run("\(stranger) --groups \(group) \(client)", reactor) == 0)
        #expect(try Self.run("\(stranger) --groups 12 \(client)", reactor) == 7, "7: curl could not connect")
        #expect(try Self.run("\(stranger) --clear-groups \(client)", reactor) == 7)
        _ = server
    }

    @Test func socketIsForItsOwnerAndAServedOneIsNotTaken() throws {
        let (reactor, path, backend) = (try Reactor(), Self.path("mode"), Backend())
        defer { unlink(path) }
        let server = try AdminServer(reactor: reactor, socket: path, group: "", backend: backend)
        var facts = stat()
        #expect(stat(path, &facts) == 0 && facts.st_mode & 0o777 == 0o600)
        #expect(throws: IOError("bind", code: EADDRINUSE, object: path)) {
            try AdminServer(reactor: reactor, socket: path, group: "", backend: backend)
        }
        #expect(throws: IOError.self) {
            try AdminServer(reactor: reactor, socket: Self.path("group"), group: "no-such-group", backend: backend)
        }
        unlink(Self.path("group"))
        _ = server
    }

    @Test func silentClientsNeitherBlockOthersNorExceedTheBound() throws {
        let (reactor, path) = (try Reactor(), Self.path("bound"))
        defer { unlink(path) }
        let server = try HTTPServer(
            reactor: reactor, listener: try ListeningSocket.unix(path: path, group: "")
        ) { _ in .text("ok") }
        var clients: [OpenClient] = []
        for _ in 0..<HTTPServer.connectionsMax + 10 {
            clients.append(OpenClient(Self.raw(path, "GET / HT")))
            try reactor.turn(limitMilliseconds: 0)
        }
        for _ in 0..<20 { try reactor.turn(limitMilliseconds: 0) }
        #expect(server.connectionCount == HTTPServer.connectionsMax)
        clients.removeFirst(60)
        for _ in 0..<20 { try reactor.turn(limitMilliseconds: 0) }
        #expect(server.connectionCount <= 14)
        let answers = try Self.ask(reactor, path, ["/"])
        #expect(try Self.text(answers[0]) == "ok")
    }

    @Test func slowClientIsCutOff() throws {
        let (reactor, path) = (try Reactor(), Self.path("slow"))
        defer { unlink(path) }
        let server = try HTTPServer(
            reactor: reactor, listener: try ListeningSocket.unix(path: path, group: "")
        ) { _ in .text("ok") }
        let client = OpenClient(Self.raw(path, "GET"))
        try reactor.turn(limitMilliseconds: 0)
        #expect(server.connectionCount == 1)
        let deadline = BootClock.nanoseconds() + (HTTPServer.timeoutMilliseconds + 1_000) * 1_000_000
        while server.connectionCount > 0, BootClock.nanoseconds() < deadline {
            try reactor.turn(limitMilliseconds: 200)
        }
        #expect(server.connectionCount == 0)
        _ = client
    }

    /// Keeps a connection open as long as it lives.
    final class OpenClient {
        let descriptor: FileDescriptor?
        init(_ descriptor: consuming FileDescriptor?) { self.descriptor = descriptor }
    }
}
