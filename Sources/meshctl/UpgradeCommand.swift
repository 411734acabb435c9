import AdminAPI
import ArgumentParser
import Glibc
import LinuxIO
import TerminalUI

struct UpgradeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upgrade",
        abstract: "Replaces meshd and its proxy by the installed binary, cutting no connection.",
        discussion: """
            With BINARY, that file is installed first; the one that was there stays beside it as NAME.previous, to go \
            back to. Ends with 0 once the new proxy accepts connections; the old one finishes what it has. Needs root.
            """)

    @OptionGroup var daemon: DaemonOptions

    @Option(help: "Seconds that the new meshd and its proxy may take.")
    var timeout = 60

    @Flag(help: "If meshd runs the installed binary already, only waits until its proxy does.")
    var ifChanged = false

    @Argument(help: "A meshd to install; default: the installed one.")
    var binary: String?

    func run() throws {
        let before = try daemon.client.status()
        var previous: String?
        if let binary { previous = try Installation(of: binary, at: before.executable).perform() }
        if ifChanged, binary == nil, before.isInstalled { return try awaitProxy(of: before) }
        do throws(AdminClientError) {
            _ = try daemon.client.upgrade()
        } catch {
            if let previous, rename(previous, before.executable) == 0 {
                Terminal.complain("meshctl: the binary that was there is back in place")
            }
            throw error
        }
        Terminal.print("meshd \(before.version) (pid \(before.pid)) goes on as \(before.executable)\n")
        try awaitSuccessor(after: before, previous: previous)
    }

    // MARK: private

    private var deadline: UInt64 { BootClock.nanoseconds() + UInt64(max(timeout, 1)) * 1_000_000_000 }

    private func awaitProxy(of before: NodeStatus) throws {
        let end = deadline
        var last = before
        while !last.proxyReplacement.isEmpty {
            guard BootClock.nanoseconds() < end else { throw Failure(text: text(last, previous: nil)) }
            usleep(100_000)
            last = (try? daemon.client.status()) ?? last
        }
        Terminal.print("meshd and its proxy run \(before.executable) already\n")
    }

    private func awaitSuccessor(after before: NodeStatus, previous: String?) throws {
        let end = deadline
        var last: NodeStatus?
        while BootClock.nanoseconds() < end {
            usleep(50_000)
            guard let now = try? daemon.client.status(), now.startedNanoseconds != before.startedNanoseconds else {
                continue
            }
            if last == nil { Terminal.print("meshd \(now.version) runs\n") }
            last = now
            guard now.ready, now.proxyReplacement.isEmpty, now.proxyPid != before.proxyPid else { continue }
            let finishing =
                now.proxiesDraining.isEmpty
                ? "" : "; finishing: " + now.proxiesDraining.map { "\($0)" }.joined(separator: ", ")
            return Terminal.print("proxy \(now.proxyPid) accepts\(finishing)\n")
        }
        throw Failure(text: text(last, previous: previous))
    }

    private func text(_ last: NodeStatus?, previous: String?) -> String {
        let back = previous.map { "; to go back: meshctl upgrade \($0)" } ?? ""
        guard let last else {
            return "the new meshd does not answer on \(daemon.client.socket) yet: see its log\(back)"
        }
        let fault = last.ready ? last.proxyReplacement : last.readyReason
        return "the new proxy does not serve yet, the old one goes on (\(fault)): see meshd's log\(back)"
    }

    struct Failure: Error, CustomStringConvertible {
        let text: String
        var description: String { text }
    }
}

/// Puts a binary in the place of another at once: whoever starts the path gets the old or the new one.
private struct Installation {
    private let source: String
    private let target: String

    init(of source: String, at target: String) {
        self.source = source
        self.target = target
    }

    /// The path of what was there.
    func perform() throws -> String {
        let new = target + ".new"
        let previous = target + ".previous"
        try copy(to: new)
        unlink(previous)
        guard link(target, previous) == 0 else { throw IOError.last("link", object: previous) }
        guard rename(new, target) == 0 else { throw IOError.last("rename", object: target) }
        Terminal.print("installed \(source) as \(target); the former one is \(previous)\n")
        return previous
    }

    private func copy(to path: String) throws(IOError) {
        let from = open(source, O_RDONLY | O_CLOEXEC)
        guard from >= 0 else { throw .last("open", object: source) }
        let input = FileDescriptor(owning: from)
        unlink(path)
        let to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o755)
        guard to >= 0 else { throw .last("open", object: path) }
        let output = FileDescriptor(owning: to)
        while true {
            let count = sendfile(output.number, input.number, nil, 1 << 24)
            if count == 0 { break }
            if count < 0 && errno != EINTR { throw .last("sendfile", object: path) }
        }
        guard fchmod(output.number, 0o755) == 0, fsync(output.number) == 0 else { throw .last("fsync", object: path) }
    }
}
