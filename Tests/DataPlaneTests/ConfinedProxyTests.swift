import CMeshABI
import Glibc
import LinuxIO
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// `meshd proxy` as a process: behind its seccomp filter it still does its work. Without the programs in bpf/ it can
/// present no client, so what it does for a stream is to refuse it by name.
@Suite(.serialized) struct ConfinedProxyTests {
    /// An executable of the package.
    private static func executable(_ name: String) -> String {
        var path = [CChar](repeating: 0, count: 4_096)
        let count = max(readlink("/proc/self/exe", &path, path.count - 1), 0)
        let runner = String(decoding: path[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // The test bundle lies beside the executables; its runner may lie elsewhere.
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? runner
        return bundle.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
            + "/\(name)"
    }

    private static let program = executable("meshd")
    private static let fixture = executable("confinement-fixture")

    private func status(_ process: String, _ key: String) -> String? {
        guard let text = try? TextFile.read("/proc/\(process)/status") else { return nil }
        let line = text.split(separator: "\n").first { $0.hasPrefix(key + ":") }
        return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.map(String.init)
    }

    private func spawn(_ words: [String]) throws -> pid_t {
        var pid: pid_t = 0
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { word in strdup(word) } + [nil]
        defer { for argument in arguments { free(argument) } }
        let code = posix_spawn(&pid, words[0], nil, nil, &arguments, environ)
        guard code == 0 else { throw TestSocket.Failure(call: "posix_spawn \(words[0])", code: code) }
        return pid
    }

    /// As of wait(2); nil when it does not end in time, and it is ended then.
    private func end(of pid: pid_t, seconds: Int = 20) -> Int32? {
        var status: Int32 = 0
        for _ in 0..<seconds * 100 {
            if waitpid(pid, &status, WNOHANG) == pid { return status }
            usleep(10_000)
        }
        kill(pid, SIGKILL)
        waitpid(pid, &status, 0)
        return nil
    }

    private func attempt(_ call: String) throws -> Int32? { end(of: try spawn([Self.fixture, "try", call])) }

    @Test func confinedProxyServesAndComesBack() throws {
        let mesh = try TestMesh()
        defer { mesh.stop() }
        let a = try mesh.start("a")
        let b = try mesh.start("b", executable: Self.program)
        #expect(status("\(b.process)", "NoNewPrivs") == "1")
        let tasks = try TextFile.list("/proc/\(b.process)/task").map(\.name)
        #expect(tasks.count > 1)
        for task in tasks {
            #expect(status("\(b.process)/task/\(task)", "Seccomp") == "2", "a thread is not confined")
            #expect(status("\(b.process)/task/\(task)", "Seccomp_filters") == "1")
        }
        let server = TestSocket()
        try server.listen(SocketAddress(mesh.address("server"), 0))
        let client = try a.connect(to: server.local)
        #expect(client.errorAtEnd() == ECONNRESET)
        try b.wait("refusal") { $0.opened.first?.reason == .MESH_REASON_PRESENTATION_FAILED }
        #expect(b.report().tunnels.count == 1)
        // Its end of the control socket can be made again.
        b.dropConnection()
        try b.wait("second hello") { $0.hellos.count == 2 }
        #expect(b.report().counters.handshakesTotal == 1)
        #expect(kill(b.process, 0) == 0)
    }

    @Test func itsFilterRefusesFilesNetworkSocketsAndProcesses() throws {
        for call in [
            "open", "create", "inet", "inet6", "packet", "netlink", "unix-stream", "kill", "clone",
        ] {
            #expect(try attempt(call) == EPERM << 8, "\(call)")
        }
        // The control socket, and the only kind of socket that it may make.
        #expect(try attempt("unix-seqpacket") == 0)
    }

    @Test func itsFilterEndsAProcessThatTriesToLeaveItsCage() throws {
        for call in ["execve", "bpf", "setns", "unshare", "ptrace", "mount", "io-uring"] {
            let status = try attempt(call)
            #expect(status.map { $0 & 0x7f } == SIGSYS, "\(call): \(String(describing: status))")
        }
    }

    private final class Held {
        let socket: SeqpacketSocket
        init(_ socket: consuming SeqpacketSocket) { self.socket = socket }
    }

    @Test func aProxyThatCannotBeConfinedEndsBeforeItServes() throws {
        let path = "@culvert-unconfined-\(getpid())"
        let listener = try SeqpacketSocket.listen(path: path)
        let pid = try spawn([Self.fixture, "without-seccomp", Self.program, "proxy", "--control", path])
        var held: Held?
        for _ in 0..<2_000 where held == nil {
            if let connection = try listener.accept() { held = Held(connection) }
            usleep(10_000)
        }
        #expect(held != nil, "it has not come to meshd")
        _ = try held?.socket.send(SupervisorMessage.welcome(ProxySettings()).encode())
        let status = end(of: pid)
        #expect(status == 1 << 8, "it serves without a filter: \(String(describing: status))")
    }
}
