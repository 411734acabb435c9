import Glibc
import LinuxIO
import Testing

/// A namespace made by iproute2, removed at the end.
final class NamedNamespace {
    let name: String

    init(_ suffix: String) throws {
        name = "culvert-t\(getpid())-\(suffix)"
        try run("/usr/sbin/ip", "netns", "add", name)
    }

    deinit { try? run("/usr/sbin/ip", "netns", "del", name) }

    func run(_ arguments: String...) throws {
        let spawn = ProcessSpawn(path: arguments[0], arguments: arguments)
        let child = try spawn.start(passing: DescriptorBatch())
        let ended = child.awaitEnd(milliseconds: 10_000) ? child.reap() : nil
        #expect(ended == .exited(code: 0), "\(arguments)")
    }
}

@Suite struct NetworkNamespaceTests {
    @Test func workInsideReturnsHome() throws {
        let named = try NamedNamespace("home")
        let home = try NetworkNamespace.current().identity()
        let namespace = try NetworkNamespace(name: named.name)
        let identity = try namespace.inside { () throws(IOError) in try NetworkNamespace.current().identity() }
        let expected = try namespace.identity()
        #expect(identity == expected)
        #expect(try NetworkNamespace.current().identity() == home)
        #expect(identity != home)
    }

    @Test func cookiesDifferAndStay() throws {
        let named = try NamedNamespace("cookie")
        let namespace = try NetworkNamespace(name: named.name)
        let cookie = try namespace.cookie()
        let again = try namespace.cookie()
        let own = try NetworkNamespace.cookieOfCallingThread()
        #expect(cookie != 0 && cookie == again && cookie != own)
    }

    @Test func namesAreNotPaths() {
        for name in ["", "..", "a/b", "/proc/self/ns/net"] {
            #expect(throws: IOError.self, "\(name)") { _ = try NetworkNamespace(name: name).identity() }
        }
    }

    @Test func theNamespaceOfAProcessIsFound() throws {
        #expect(try NetworkNamespace(pid: getpid()).identity() == NetworkNamespace.current().identity())
    }
}
