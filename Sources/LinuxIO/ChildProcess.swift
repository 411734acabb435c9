import CLinux
import Glibc

/// How to start a program. Everything that is not named is closed or reset: descriptors, signal mask, environment.
package struct ProcessSpawn {
    package var path: String
    /// With argv[0].
    package var arguments: [String]
    package var environment: [String] = []
    /// The `cgroup.procs` to join before exec, so that the program's first instruction runs there.
    package var cgroupProcs: String?
    package var uid: UInt32?
    package var gid: UInt32?
    package var noNewPrivileges = false
    /// Forked twice, in a session of its own: it outlives the caller.
    package var isDetached = false
    /// Killed when the calling thread ends.
    package var diesWithParent = false

    package init(path: String, arguments: [String]) {
        self.path = path
        self.arguments = arguments
    }

    /// Starts it. `descriptors` become 3, 4, … of the new process (copies: the batch stays the caller's; at most 16).
    /// An error of any step up to and including execve is thrown, named by the step.
    package func start(passing descriptors: borrowing DescriptorBatch) throws(IOError) -> ChildProcess {
        var step: UnsafePointer<CChar>?
        let pid = withCStrings(arguments) { arguments in
            withCStrings(environment) { environment in
                path.withCString { path in
                    withOptionalCString(cgroupProcs) { procs in
                        descriptors.withNumbers { numbers in
                            var spawn = clinux_spawn()
                            spawn.path = path
                            spawn.arguments = arguments
                            spawn.environment = environment
                            spawn.cgroup_procs = procs
                            spawn.descriptors = numbers.baseAddress
                            spawn.descriptor_count = Int32(numbers.count)
                            spawn.uid = uid ?? .max
                            spawn.gid = gid ?? .max
                            spawn.no_new_privileges = noNewPrivileges ? 1 : 0
                            spawn.detached = isDetached ? 1 : 0
                            spawn.dies_with_parent = diesWithParent ? 1 : 0
                            return clinux_spawn_process(&spawn, &step)
                        }
                    }
                }
            }
        }
        guard pid >= 0 else { throw .last(step.map { String(cString: $0) } ?? "fork", object: path) }
        return try ChildProcess(pid: pid)
    }
}

/// A process held by pidfd, so that its number can't come to mean another. It need not be our child: dropping this
/// value leaves it running.
package struct ChildProcess: ~Copyable {
    package let pid: Int32
    /// Readable when the process has ended.
    package let descriptor: FileDescriptor

    /// Opens the process that has `pid` now.
    package init(pid: Int32) throws(IOError) {
        let number = clinux_pidfd_open(pid)
        guard number >= 0 else { throw .last("pidfd_open", object: "\(pid)") }
        descriptor = FileDescriptor(owning: number)
        self.pid = pid
    }

    package borrowing func signal(_ number: Int32) throws(IOError) {
        guard clinux_pidfd_signal(descriptor.number, number) == 0 else {
            throw .last("pidfd_send_signal", object: "\(pid)")
        }
    }

    /// Whether it has ended; does not wait. Works for any process.
    package borrowing func hasEnded() -> Bool {
        var poll = pollfd(fd: descriptor.number, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, 0) > 0
    }

    /// Waits for its end.
    package borrowing func awaitEnd(milliseconds: Int32) -> Bool {
        var poll = pollfd(fd: descriptor.number, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, milliseconds) > 0
    }

    /// How it ended, and the end of its zombie; nil when it runs, or when another process is the one to reap it.
    package borrowing func reap() -> ProcessEnd? {
        var status: Int32 = 0
        guard clinux_pidfd_reap(descriptor.number, &status) == 1 else { return nil }
        return status & 0x7f == 0 ? .exited(code: status >> 8 & 0xff) : .killed(signal: status & 0x7f)
    }
}

package enum ProcessEnd: Equatable, Sendable {
    case exited(code: Int32)
    case killed(signal: Int32)
}

/// Attributes of the calling process.
package enum OwnProcess {
    /// Orphans among the descendants become our children and can be reaped by us.
    package static func becomeSubreaper() throws(IOError) {
        guard clinux_set_child_subreaper() == 0 else { throw .last("prctl", object: "PR_SET_CHILD_SUBREAPER") }
    }

    /// No core dump, no ptrace, /proc/self owned by root: it holds private keys.
    package static func becomeUndumpable() throws(IOError) {
        guard clinux_set_undumpable() == 0 else { throw .last("prctl", object: "PR_SET_DUMPABLE") }
        var none = rlimit(rlim_cur: 0, rlim_max: 0)
        guard setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none) == 0 else { throw .last("setrlimit") }
    }

    /// Gives back the memory of code that only starting up ran (decision 0090): call it once everything is set up.
    package static func forgetStartUpCode() { _ = clinux_forget_start_up_code() }

    /// The same at rest, when work is over that is rare: its code, and what the heap has freed.
    package static func giveBackMemory() { clinux_give_back_memory() }

    /// Goes on as another program in the same process: every descriptor of ours is closed, the environment stays. Returns
    /// only when that failed.
    package static func become(_ path: String, arguments: [String]) -> IOError {
        withCStrings(arguments) { arguments in
            _ = execv(path, arguments)
            return .last("execve", object: path)
        }
    }

    package static func executablePath() throws(IOError) -> String {
        var buffer = [UInt8](repeating: 0, count: 4_096)
        let count = buffer.withUnsafeMutableBytes { bytes in
            clinux_executable_path(bytes.baseAddress, bytes.count)
        }
        guard count > 0 else { throw .last("readlink", object: "/proc/self/exe") }
        let path = String(decoding: buffer[..<count], as: UTF8.self)
        // After an upgrade in place the link says so; the path then names the new binary, which is what is wanted.
        return path.hasSuffix(" (deleted)") ? String(path.dropLast(" (deleted)".count)) : path
    }
}

// MARK: C strings

private func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    return pointers.withUnsafeBufferPointer { buffer in
        withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<CChar>?.self, capacity: buffer.count) { copy in
            _ = copy.initialize(from: buffer)
            guard let base = copy.baseAddress else { preconditionFailure("an empty allocation of one element") }
            return body(UnsafePointer(base))
        }
    }
}

private func withOptionalCString<Result>(_ string: String?, _ body: (UnsafePointer<CChar>?) -> Result) -> Result {
    guard let string else { return body(nil) }
    return string.withCString(body)
}
