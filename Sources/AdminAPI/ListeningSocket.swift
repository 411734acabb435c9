import CLinux
import Glibc
package import LinuxIO
package import MeshModel

/// Makes the stream sockets that the servers listen on.
package enum ListeningSocket {
    private static let backlog: Int32 = 64

    /// Listens on a TCP address. An unspecified IPv6 address takes IPv4 too.
    package static func tcp(_ address: SocketAddress) throws(IOError) -> FileDescriptor {
        let isIPv4 = address.address.isIPv4
        let number = socket(isIPv4 ? AF_INET : AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
        guard number >= 0 else { throw .last("socket") }
        let listener = FileDescriptor(owning: number)
        try configure(listener)
        var yes: Int32 = 1
        _ = setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var result: Int32
        if isIPv4 {
            var name = sockaddr_in()
            name.sin_family = sa_family_t(AF_INET)
            name.sin_port = address.port.bigEndian
            name.sin_addr.s_addr = address.address.ipv4.bigEndian
            result = withUnsafeBytes(of: &name) { bindName(number, $0) }
        } else {
            var name = sockaddr_in6()
            name.sin6_family = sa_family_t(AF_INET6)
            name.sin6_port = address.port.bigEndian
            withUnsafeMutableBytes(of: &name.sin6_addr) { bytes in
                bytes.storeBytes(of: address.address.high.bigEndian, as: UInt64.self)
                bytes.storeBytes(of: address.address.low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            result = withUnsafeBytes(of: &name) { bindName(number, $0) }
        }
        guard result == 0 else { throw .last("bind", object: "\(address)") }
        guard listen(number, backlog) == 0 else { throw .last("listen", object: "\(address)") }
        return listener
    }

    /// Listens on a Unix socket that its owner and `group` (empty: the owner's) may use; replaces one left behind.
    package static func unix(path: String, group: String) throws(IOError) -> FileDescriptor {
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard number >= 0 else { throw .last("socket") }
        let listener = FileDescriptor(owning: number)
        try configure(listener)
        guard var name = unixName(path) else { throw IOError("bind", code: ENAMETOOLONG, object: path) }
        // A socket of the same name that someone serves is another meshd's, not ours to take.
        guard !isServed(&name) else { throw IOError("bind", code: EADDRINUSE, object: path) }
        unlink(path)
        let mask = umask(0o177)
        let result = withUnsafeBytes(of: &name) { bindName(number, $0) }
        let code = errno
        umask(mask)
        guard result == 0 else { throw IOError("bind", code: code, object: path) }
        if !group.isEmpty {
            guard let entry = getgrnam(group) else { throw IOError("getgrnam", code: ENOENT, object: group) }
            guard chown(path, uid_t.max, entry.pointee.gr_gid) == 0 else { throw .last("chown", object: path) }
            guard chmod(path, 0o660) == 0 else { throw .last("chmod", object: path) }
        }
        guard listen(number, backlog) == 0 else { throw .last("listen", object: path) }
        return listener
    }

    /// The next connection, non-blocking; nil when there is none.
    package static func accept(_ listener: borrowing FileDescriptor) throws(IOError) -> FileDescriptor? {
        let number = clinux_accept(listener.number)
        if number >= 0 { return FileDescriptor(owning: number) }
        switch errno {
        case EAGAIN, ECONNABORTED, EINTR: return nil
        default: throw .last("accept4")
        }
    }

    /// Where a socket with port 0 ended up.
    package static func port(of listener: borrowing FileDescriptor) throws(IOError) -> UInt16 {
        var name = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let result = withUnsafeMutableBytes(of: &name) { bytes in
            getsockname(listener.number, bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self), &length)
        }
        guard result == 0 else { throw .last("getsockname") }
        return UInt16(bigEndian: name.sin6_port)  // sin_port has the same place
    }

    // MARK: private

    static func unixName(_ path: String) -> sockaddr_un? {
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard !bytes.isEmpty, bytes.count < MemoryLayout.size(ofValue: name.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: bytes) }
        return name
    }

    private static func configure(_ socket: borrowing FileDescriptor) throws(IOError) {
        guard fcntl(socket.number, F_SETFD, FD_CLOEXEC) == 0 else { throw .last("fcntl") }
        try socket.setNonBlocking()
    }

    private static func bindName(_ socket: Int32, _ name: UnsafeRawBufferPointer) -> Int32 {
        bind(socket, name.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t(name.count))
    }

    private static func isServed(_ name: inout sockaddr_un) -> Bool {
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard number >= 0 else { return false }
        defer { close(number) }
        return withUnsafeBytes(of: &name) { bytes in
            connect(number, bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count)) == 0
        }
    }
}
