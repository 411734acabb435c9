import Glibc

// The end-to-end suite: real applications in the lab's two nodes (tools/lab), driven from outside as a person would.
// It knows no module of the product; what it asserts is what applications, meshctl and /metrics show. Run by tools/test
// in the usual lab and once more in one with IPv6 alone; alone it brings the lab up and takes it down again.

/// What a command left: its exit code (124 when it ran over its time) and its standard output.
struct CommandResult {
    let status: Int32
    let output: String

    var lines: [Substring] { output.split(separator: "\n") }
}

/// A command that did not do what the test takes for granted.
struct CommandFailure: Error, CustomStringConvertible {
    let command: String
    let result: CommandResult

    var description: String { "`\(command)` ended with \(result.status): \(result.output.suffix(2_000))" }
}

enum Shell {
    /// Runs `command` with sh; standard error goes to the test's own. Ended after `seconds`.
    static func run(_ command: String, seconds: Int = 60) throws -> CommandResult {
        let line = "exec timeout -k 5 \(seconds) bash -c \(quoted(command)) </dev/null"
        guard let pipe = open(line) else {
            throw CommandFailure(command: command, result: CommandResult(status: -1, output: "popen: \(errno)"))
        }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = fread(&buffer, 1, buffer.count, pipe)
            guard count > 0 else { break }
            bytes += buffer[..<count]
        }
        let status = pclose(pipe)
        let code = status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
        return CommandResult(status: code, output: String(decoding: bytes, as: UTF8.self))
    }

    /// popen with no signal blocked: worker threads block them all, and a child inherits that, so that it could not be
    /// ended by SIGTERM.
    private static func open(_ line: String) -> UnsafeMutablePointer<FILE>? {
        var none = sigset_t()
        var own = sigset_t()
        sigemptyset(&none)
        pthread_sigmask(SIG_SETMASK, &none, &own)
        defer { pthread_sigmask(SIG_SETMASK, &own, nil) }
        return popen(line, "r")
    }

    /// The same for a command that must succeed: its output.
    @discardableResult
    static func output(_ command: String, seconds: Int = 60) throws -> String {
        let result = try run(command, seconds: seconds)
        guard result.status == 0 else { throw CommandFailure(command: command, result: result) }
        return result.output
    }

    static func quoted(_ text: String) -> String {
        "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }

    /// Polls until `condition` holds; whether it did within `seconds`.
    static func waits(_ seconds: Double, until condition: () throws -> Bool) rethrows -> Bool {
        let end = ContinuousClock.now + .seconds(seconds)
        while ContinuousClock.now < end {
            if try condition() { return true }
            usleep(100_000)
        }
        return try condition()
    }
}
