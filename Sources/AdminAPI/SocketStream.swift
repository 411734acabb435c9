import Glibc
import LinuxIO

/// Writing to a stream socket whose peer may be gone: no SIGPIPE, an error instead.
enum SocketStream {
    /// Nil when it would block.
    static func send(_ socket: borrowing FileDescriptor, _ bytes: ArraySlice<UInt8>) throws(IOError) -> Int? {
        while true {
            let count = bytes.withUnsafeBytes { buffer in
                Glibc.send(socket.number, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL))
            }
            if count >= 0 { return count }
            switch errno {
            case EINTR: continue
            case EAGAIN: return nil
            default: throw .last("send")
            }
        }
    }

    static func shutDown(_ socket: borrowing FileDescriptor) { _ = shutdown(socket.number, Int32(SHUT_WR)) }
}
