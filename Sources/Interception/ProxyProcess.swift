import Glibc
package import LinuxIO
package import ProxyControl

/// One process of the proxy as meshd knows it. At most one serves; others may be on their way in (`next`) or out
/// (`draining`).
package final class ProxyProcess {
    package enum Role: Sendable {
        /// Has not said hello yet.
        case unknown
        /// Accepts.
        case serving
        /// Is given everything, and serves once it has it.
        case next
        /// Takes nothing new and finishes what is open.
        case draining
    }

    package let pid: Int32
    /// From the hierarchy's root; with a service manager it says which unit it is.
    let cgroup: String
    let process: ChildProcess
    package internal(set) var role = Role.unknown
    package internal(set) var channel: ProxyChannel?
    /// Open, but has not said hello yet.
    var candidate: ProxyChannel?
    var watch: Reactor.WatchID?
    var timer: Reactor.TimerID?
    /// Questions in a row that it has not answered; it is asked once a second.
    var silence = 0
    /// It is told that others serve once it answers this question.
    var isConfirming = false
    /// The snapshot that it was sent last on this channel.
    package var sentSnapshot: UInt64?
    let startedNanoseconds = BootClock.nanoseconds()

    init(_ process: consuming ChildProcess, cgroup: String) {
        pid = process.pid
        self.cgroup = cgroup
        self.process = process
    }

    /// Whether it runs the file that is at `path` now. What can't be looked at counts as if it did.
    func runs(_ path: String) -> Bool {
        var own = stat()
        var wanted = stat()
        guard stat("/proc/\(pid)/exe", &own) == 0, stat(path, &wanted) == 0 else { return true }
        return own.st_dev == wanted.st_dev && own.st_ino == wanted.st_ino
    }

    @discardableResult
    package func send(_ message: SupervisorMessage, _ descriptors: consuming DescriptorBatch = .init()) -> Bool {
        channel?.send(message, descriptors) ?? false
    }
}
