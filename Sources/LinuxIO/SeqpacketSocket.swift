import CLinux
import Glibc

/// A Unix SOCK_SEQPACKET socket: whole messages, in order, with descriptors beside them.
package struct SeqpacketSocket: ~Copyable {
    package let descriptor: FileDescriptor

    package init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }

    /// What a receive found.
    package enum Reception: ~Copyable {
        /// It would block.
        case nothing
        /// The other end is closed.
        case closed
        /// `count` bytes are in the caller's buffer.
        case message(count: Int, descriptors: DescriptorBatch)
    }

    /// Two connected ends.
    package struct Pair: ~Copyable {
        package let first: SeqpacketSocket
        package let second: SeqpacketSocket
    }

    /// Two connected ends, both non-blocking and closed on exec.
    package static func pair() throws(IOError) -> Pair {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, socketType(nonBlocking: true), 0, &ends) == 0 else { throw .last("socketpair") }
        return Pair(
            first: SeqpacketSocket(FileDescriptor(owning: ends[0])),
            second: SeqpacketSocket(FileDescriptor(owning: ends[1])))
    }

    /// Connects to the listener at `path`; the socket is non-blocking afterwards. Waits at most as long as the
    /// listener's backlog is full.
    package static func connect(path: String) throws(IOError) -> SeqpacketSocket {
        let socket = try make(nonBlocking: false)
        let result = try withUnixAddress(path) { Glibc.connect(socket.descriptor.number, $0, $1) }
        guard result == 0 else { throw .last("connect", object: path) }
        try socket.descriptor.setNonBlocking()
        return socket
    }

    /// A listener at `path`, which must not exist. The caller sets owner and mode; between bind and chmod nobody may
    /// pass the directory.
    package static func listen(path: String, backlog: Int32 = 16) throws(IOError) -> SeqpacketSocket {
        let socket = try make(nonBlocking: true)
        let result = try withUnixAddress(path) { Glibc.bind(socket.descriptor.number, $0, $1) }
        guard result == 0 else { throw .last("bind", object: path) }
        guard Glibc.listen(socket.descriptor.number, backlog) == 0 else { throw .last("listen", object: path) }
        return socket
    }

    /// The next connection, non-blocking; nil when there is none.
    package borrowing func accept() throws(IOError) -> SeqpacketSocket? {
        while true {
            let number = clinux_accept(descriptor.number)
            if number >= 0 { return SeqpacketSocket(FileDescriptor(owning: number)) }
            switch errno {
            case EINTR, ECONNABORTED: continue
            case EAGAIN: return nil
            default: throw .last("accept4")
            }
        }
    }

    /// Sends one whole message; false when it would block. The kernel duplicates the descriptors: the batch stays the
    /// caller's.
    package borrowing func send(
        _ bytes: UnsafeRawBufferPointer, descriptors: borrowing DescriptorBatch
    ) throws(IOError) -> Bool {
        let sent = descriptors.withNumbers { numbers in
            clinux_send_message(
                descriptor.number, bytes.baseAddress, bytes.count, numbers.baseAddress, Int32(numbers.count), 0)
        }
        if sent >= 0 { return true }
        if errno == EAGAIN { return false }
        throw .last("sendmsg")
    }

    package borrowing func send(_ bytes: [UInt8]) throws(IOError) -> Bool {
        try send(bytes, descriptors: DescriptorBatch())
    }

    package borrowing func send(
        _ bytes: [UInt8], descriptors: borrowing DescriptorBatch
    ) throws(IOError) -> Bool {
        let sent = bytes.withUnsafeBytes { buffer in
            descriptors.withNumbers { numbers in
                clinux_send_message(
                    descriptor.number, buffer.baseAddress, buffer.count, numbers.baseAddress, Int32(numbers.count), 0)
            }
        }
        if sent >= 0 { return true }
        if errno == EAGAIN { return false }
        throw .last("sendmsg")
    }

    /// Receives one whole message. One that is longer than `buffer`, or has more than `descriptorsMax` descriptors, is
    /// an EMSGSIZE error.
    package borrowing func receive(
        into buffer: UnsafeMutableRawBufferPointer, descriptorsMax: Int = Int(CLINUX_DESCRIPTORS_MAX)
    ) throws(IOError) -> Reception {
        var numbers = [Int32](repeating: -1, count: descriptorsMax)
        var count = Int32(descriptorsMax)
        var truncated: Int32 = 0
        var received = clinux_receive_message(
            descriptor.number, buffer.baseAddress, buffer.count, &numbers, &count, &truncated, 0)
        if received < 0, errno == ECONNRESET {
            // The other end left something of ours unread. What it said before it went is still there.
            count = Int32(descriptorsMax)
            received = clinux_receive_message(
                descriptor.number, buffer.baseAddress, buffer.count, &numbers, &count, &truncated, 0)
        }
        if received < 0 {
            switch errno {
            case EAGAIN: return .nothing
            case ECONNRESET: return .closed
            default: throw .last("recvmsg")
            }
        }
        let batch = DescriptorBatch(owning: Array(numbers[..<Int(count)]))
        guard truncated == 0 else { throw IOError("recvmsg", code: EMSGSIZE) }
        // No end of ours sends empty messages.
        return received == 0 ? .closed : .message(count: received, descriptors: batch)
    }

    /// Who connected (or who listens), as the kernel noted it then.
    package borrowing func peer() throws(IOError) -> UnixPeer { try UnixPeer(of: descriptor) }

    // MARK: private

    private static func socketType(nonBlocking: Bool) -> Int32 {
        Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | (nonBlocking ? SOCK_NONBLOCK.rawValue : 0))
    }

    private static func make(nonBlocking: Bool) throws(IOError) -> SeqpacketSocket {
        let number = socket(AF_UNIX, socketType(nonBlocking: nonBlocking), 0)
        guard number >= 0 else { throw .last("socket") }
        return SeqpacketSocket(FileDescriptor(owning: number))
    }
}

/// The process at the other end of a Unix socket.
package struct UnixPeer: Equatable, Sendable {
    package var pid: Int32
    package var uid: UInt32
    package var gid: UInt32

    package init(of descriptor: borrowing FileDescriptor) throws(IOError) {
        var peer = clinux_peer()
        guard clinux_peer_credentials(descriptor.number, &peer) == 0 else { throw .last("getsockopt") }
        (pid, uid, gid) = (peer.pid, peer.uid, peer.gid)
    }
}

/// Calls `body` with the address of the Unix socket at `path`; a leading `@` is the abstract namespace.
func withUnixAddress(
    _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
) throws(IOError) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let utf8 = Array(path.utf8)
    let room = MemoryLayout.size(ofValue: address.sun_path)
    guard !utf8.isEmpty, utf8.count < room else { throw IOError("socket path", code: ENAMETOOLONG, object: path) }
    withUnsafeMutableBytes(of: &address.sun_path) { bytes in
        bytes.copyBytes(from: utf8)
        if utf8[0] == UInt8(ascii: "@") { bytes[0] = 0 }
    }
    let isAbstract = utf8[0] == UInt8(ascii: "@")
    // The length of an abstract name is part of it; a path ends with its NUL.
    let length = MemoryLayout<sa_family_t>.size + utf8.count + (isAbstract ? 0 : 1)
    return withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
    }
}
