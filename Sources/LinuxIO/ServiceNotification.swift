import CLinux
import Glibc

/// Tells the service manager about the state of this process (sd_notify(3)); does nothing without one.
package struct ServiceNotification: Sendable {
    private let path: String?

    /// `path` is the value of NOTIFY_SOCKET, which only main reads.
    package init(socketPath path: String?) { self.path = path }

    package func ready(status: String) throws(IOError) { try send("READY=1\nSTATUS=\(status)\n") }
    package func status(_ text: String) throws(IOError) { try send("STATUS=\(text)\n") }
    package func watchdog() throws(IOError) { try send("WATCHDOG=1\n") }
    package func stopping() throws(IOError) { try send("STOPPING=1\n") }
    package func mainProcess(pid: Int32) throws(IOError) { try send("MAINPID=\(pid)\n") }

    package func send(_ state: String) throws(IOError) {
        guard let path else { return }
        let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard number >= 0 else { throw .last("socket") }
        let socket = FileDescriptor(owning: number)
        let bytes = Array(state.utf8)
        let sent = try withUnixAddress(path) { address, length in
            Int32(sendto(socket.number, bytes, bytes.count, Int32(MSG_NOSIGNAL), address, length))
        }
        guard sent >= 0 else { throw .last("sendto", object: path) }
    }
}
