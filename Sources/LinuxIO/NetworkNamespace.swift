import CLinux
import Glibc

/// A network namespace, kept alive while this value lives: close it soon, or a deleted namespace stays with its
/// devices.
package struct NetworkNamespace: ~Copyable {
    private let descriptor: FileDescriptor

    /// Which namespace a path or process is in, comparable while somebody keeps the namespace alive.
    package struct Identity: Hashable, Sendable {
        package var device: UInt64
        package var inode: UInt64
    }

    package init(path: String) throws(IOError) {
        let number = open(path, O_RDONLY | O_CLOEXEC)
        guard number >= 0 else { throw .last("open", object: path) }
        descriptor = FileDescriptor(owning: number)
    }

    /// The namespace that `ip netns` calls `name`.
    package init(name: String) throws(IOError) {
        guard !name.isEmpty, !name.contains("/"), name != ".", name != ".." else {
            throw IOError("network namespace", code: EINVAL, object: name)
        }
        try self.init(path: "/run/netns/\(name)")
    }

    package init(pid: Int32) throws(IOError) { try self.init(path: "/proc/\(pid)/ns/net") }

    package init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }

    /// That of the calling thread.
    package static func current() throws(IOError) -> NetworkNamespace {
        try NetworkNamespace(path: "/proc/thread-self/ns/net")
    }

    package borrowing func identity() throws(IOError) -> Identity {
        var status = stat()
        guard fstat(descriptor.number, &status) == 0 else { throw .last("fstat") }
        return Identity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }

    /// Moves the calling thread, and what it creates from now on, into this namespace (CAP_SYS_ADMIN).
    package borrowing func enter() throws(IOError) {
        guard clinux_enter_network_namespace(descriptor.number) == 0 else { throw .last("setns") }
    }

    /// Runs `body` inside and returns. A thread that can't return would work in the wrong namespace from then on, so
    /// that ends the process.
    package borrowing func inside<Result: ~Copyable>(
        _ body: () throws(IOError) -> Result
    ) throws(IOError) -> Result {
        let home = try NetworkNamespace.current()
        try enter()
        defer { home.mustEnter() }
        return try body()
    }

    /// The kernel's number of the namespace, unique until reboot: what BPF programs see (Linux 5.14).
    package borrowing func cookie() throws(IOError) -> UInt64 {
        try inside { () throws(IOError) in try NetworkNamespace.cookieOfCallingThread() }
    }

    package static func cookieOfCallingThread() throws(IOError) -> UInt64 {
        let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { throw .last("socket") }
        let probe = FileDescriptor(owning: number)
        var cookie: UInt64 = 0
        guard clinux_network_namespace_cookie(probe.number, &cookie) == 0 else {
            throw .last("getsockopt", object: "SO_NETNS_COOKIE")
        }
        return cookie
    }

    /// A copy to hand to another process.
    package borrowing func duplicate() throws(IOError) -> FileDescriptor { try descriptor.duplicate() }

    private borrowing func mustEnter() {
        precondition(
            clinux_enter_network_namespace(descriptor.number) == 0, "can't return to the own network namespace")
    }
}
