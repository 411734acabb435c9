import Glibc
import LinuxIO
import MeshModel
import Testing

/// A network namespace made by iproute2, removed at the end.
final class TestNamespace {
    let name: String

    init(_ suffix: String) throws {
        name = "culvert-i\(getpid())-\(suffix)"
        try command("/usr/sbin/ip", "netns", "add", name)
    }

    /// Some tests delete it themselves.
    deinit {
        guard access("/run/netns/" + name, F_OK) == 0 else { return }
        _ = try? run(["/usr/sbin/ip", "netns", "del", name])
    }
}

/// The calling thread in a network namespace of its own while this lives, so that a test neither changes the machine's
/// nor meets others' listeners. To be made and dropped on one thread, as synchronous tests do.
final class OwnNetwork {
    private let home: NetworkNamespace
    let named: TestNamespace

    init(_ suffix: String) throws {
        home = try NetworkNamespace.current()
        named = try TestNamespace(suffix + "-node")
        try NetworkNamespace(name: named.name).enter()
    }

    deinit {
        do { try home.enter() } catch { preconditionFailure("\(error)") }
    }
}

/// A cgroup subtree, emptied and removed at the end.
final class TestCgroup {
    let hierarchy: CgroupHierarchy
    let path: String

    init(_ suffix: String) throws {
        hierarchy = try CgroupHierarchy.locate()
        path = "/culvert-i\(getpid())-\(suffix)"
        try hierarchy.create(path)
    }

    deinit { remove(path) }

    private func remove(_ path: String) {
        for child in (try? hierarchy.children(of: path)) ?? [] { remove(child) }
        for _ in 0..<50 {
            for pid in (try? hierarchy.processes(in: path)) ?? [] where pid > 0 && pid != getpid() {
                kill(pid, SIGKILL)
            }
            do {
                try hierarchy.remove(path)
                return
            } catch { usleep(20_000) }
        }
    }
}

func command(_ arguments: String...) throws {
    let end = try run(arguments)
    try #require(end == .exited(code: 0), "\(arguments)")
}

private func run(_ arguments: [String]) throws -> ProcessEnd? {
    var spawn = ProcessSpawn(path: arguments[0], arguments: arguments)
    spawn.environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    let child = try spawn.start(passing: DescriptorBatch())
    return child.awaitEnd(milliseconds: 10_000) ? child.reap() : nil
}

/// The meshd that was built beside these tests.
func meshdPath() throws -> String {
    let own = try OwnProcess.executablePath()
    let directory = own.split(separator: "/").dropLast().joined(separator: "/")
    let path = "/\(directory)/meshd"
    try #require(access(path, X_OK) == 0, "no meshd at \(path): run swift build")
    return path
}

/// A listener as an application has it, without SO_REUSEPORT, in the calling thread's network namespace.
final class PlainListener {
    private let descriptor: FileDescriptor

    init(_ address: SocketAddress) throws {
        let number = socket(AF_INET, 1, 0)
        try #require(number >= 0)
        descriptor = FileDescriptor(owning: number)
        withTarget(address) { #expect(bind(number, $0, $1) == 0) }
        #expect(listen(number, 1) == 0)
    }
}

func withTarget<Result>(
    _ address: SocketAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_port = address.port.bigEndian
    target.sin_addr.s_addr = address.address.ipv4.bigEndian
    return withUnsafePointer(to: &target) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
    }
}
