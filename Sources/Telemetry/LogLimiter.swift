/// Lets through so many lines of one kind in an interval and counts the others: what a peer can trigger must not fill
/// a disk. Times are CLOCK_BOOTTIME nanoseconds.
package struct LogLimiter: Sendable {
    package struct Settings: Sendable {
        package var linesPerInterval = 5
        package var intervalNanoseconds: UInt64 = 10_000_000_000
        /// Kinds known at once; all others share one.
        package var keysMax = 512
        package init() {}
    }

    package enum Verdict: Equatable, Sendable {
        /// Write it; so many of its kind were left out since the last one.
        case write(suppressed: UInt64)
        case suppress
    }

    private struct Window {
        var began: UInt64
        var lines: Int
        var suppressed: UInt64
    }

    private let settings: Settings
    private var windows: [String: Window] = [:]
    /// Lines left out since the start.
    package private(set) var suppressedTotal: UInt64 = 0

    package init(_ settings: Settings = Settings()) { self.settings = settings }

    package mutating func admit(_ wanted: String, now: UInt64) -> Verdict {
        let key = windows[wanted] != nil || windows.count < settings.keysMax ? wanted : ""
        var window = windows[key] ?? Window(began: now, lines: 0, suppressed: 0)
        defer { windows[key] = window }
        if now >= window.began &+ settings.intervalNanoseconds {
            let suppressed = window.suppressed
            window = Window(began: now, lines: 1, suppressed: 0)
            return .write(suppressed: suppressed)
        }
        window.lines += 1
        if window.lines <= settings.linesPerInterval { return .write(suppressed: 0) }
        window.suppressed += 1
        suppressedTotal += 1
        return .suppress
    }

    /// Call it every interval or so: the kinds whose interval is over, with what was left out of them.
    package mutating func expire(now: UInt64) -> [(key: String, suppressed: UInt64)] {
        var over: [(key: String, suppressed: UInt64)] = []
        for (key, window) in windows where now >= window.began &+ settings.intervalNanoseconds {
            if window.suppressed > 0 { over.append((key, window.suppressed)) }
            windows[key] = nil
        }
        return over.sorted { $0.key < $1.key }
    }
}
