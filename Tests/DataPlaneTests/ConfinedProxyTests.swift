import CMeshABI
import Glibc
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// `meshd proxy` as a process: behind its seccomp filter it still does its work. Without the programs in bpf/ it can
/// present no client, so what it does for a stream is to refuse it by name.
@Suite(.serialized) struct ConfinedProxyTests {
    private static var executable: String {
        var path = [CChar](repeating: 0, count: 4_096)
        let count = max(readlink("/proc/self/exe", &path, path.count - 1), 0)
        let runner = String(decoding: path[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // The test bundle lies beside the executables; its runner may lie elsewhere.
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? runner
        return bundle.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
            + "/meshd"
    }

    private func status(_ pid: pid_t, _ key: String) -> String? {
        guard let file = fopen("/proc/\(pid)/status", "r") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 512)
        while fgets(&line, Int32(line.count), file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if text.hasPrefix(key) {
                return text.dropFirst(key.count).trimmingPrefix { $0 == ":" || $0.isWhitespace }
                    .split(whereSeparator: \.isWhitespace).first.map(String.init)
            }
        }
        return nil
    }

    @Test func confinedProxyServesAndComesBack() throws {
        let mesh = try TestMesh()
        defer { mesh.stop() }
        let a = try mesh.start("a")
        let b = try mesh.start("b", executable: Self.executable)
        #expect(status(b.process, "Seccomp") == "2")
        #expect(status(b.process, "NoNewPrivs") == "1")
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
}
