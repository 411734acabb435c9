import Glibc
import LinuxIO
import Testing

/// A network namespace made by iproute2, removed at the end.
final class TestNamespace {
    let name: String

    init(_ suffix: String) throws {
        name = "culvert-i\(getpid())-\(suffix)"
        try command("/usr/sbin/ip", "netns", "add", name)
    }

    deinit { try? command("/usr/sbin/ip", "netns", "del", name) }
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
    var spawn = ProcessSpawn(path: arguments[0], arguments: arguments)
    spawn.environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    let child = try spawn.start(passing: DescriptorBatch())
    let end = child.awaitEnd(milliseconds: 10_000) ? child.reap() : nil
    try #require(end == .exited(code: 0), "\(arguments)")
}

/// The meshd that was built beside these tests.
func meshdPath() throws -> String {
    let own = try OwnProcess.executablePath()
    let directory = own.split(separator: "/").dropLast().joined(separator: "/")
    let path = "/\(directory)/meshd"
    try #require(access(path, X_OK) == 0, "no meshd at \(path): run swift build")
    return path
}
