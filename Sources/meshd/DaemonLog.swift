import Glibc
import Interception
import LinuxIO
import MeshConfig
import MeshModel
import ProxyControl
import Telemetry

/// meshd's log on standard error: one structured line an event. Refusals, warnings and errors are limited by what they
/// say, with a count of the suppressed: whatever brings them about may go on for long.
final class DaemonLog {
    private let level: Telemetry.LogLevel
    private let format: Telemetry.LogFormat
    private let node: String
    private var limiter = LogLimiter()

    init(_ configuration: Configuration.Log, node: String) {
        level = Telemetry.LogLevel(rawValue: configuration.level.rawValue) ?? .info
        format = configuration.format == .json ? .json : .text
        self.node = node
    }

    var suppressedTotal: UInt64 { limiter.suppressedTotal }

    func error(_ text: String) { limited(.error, text, key: text) }
    func warning(_ text: String) { limited(.warn, text, key: text) }
    func info(_ text: String) { write(.info, text) }

    func take(_ report: InterceptionReport) {
        switch report.level {
        case .debug: write(.debug, report.text)
        case .info: write(.info, report.text)
        case .warning: warning(report.text)
        case .error: error(report.text)
        }
    }

    /// A connect() that the kernel side refused, or plain text that came to a workload.
    func refusal(_ flow: KernelFlowEvent) {
        if flow.role == .plain {
            return limited(
                .warn, "plain text refused", key: "plain \(flow.reason.name) \(flow.source.address)",
                [
                    ("reason", flow.reason.name), ("source", "\(flow.source)"),
                    ("workload", "\(flow.workload.rawValue)"), ("destination", "\(flow.destination)"),
                ])
        }
        limited(
            .warn, "connect refused", key: "connect \(flow.reason.name) \(flow.workload.rawValue)",
            [
                ("reason", flow.reason.name), ("workload", "\(flow.workload.rawValue)"),
                ("destination", "\(flow.destination)"), ("pid", "\(flow.pid)"), ("command", flow.command),
            ])
    }

    /// A captured connection or a stream that the proxy refused.
    func refusal(_ opened: ConnectionOpened) {
        limited(
            .warn, "connection refused", key: "connection \(opened.reason.name) \(opened.sourcePrincipal)",
            [
                ("reason", opened.reason.name), ("source", opened.sourcePrincipal),
                ("destination", opened.destinationPrincipal), ("authority", "\(opened.originalDestination)"),
                ("policy", opened.decidedBy.policy), ("rule", opened.decidedBy.rule),
            ])
    }

    /// A tunnel peer that was turned away.
    func refusal(_ peer: PeerRefusal) {
        limited(
            .warn, "peer refused", key: "peer \(peer.reason.name) \(peer.peer.address)",
            [
                ("reason", peer.reason.name), ("peer", "\(peer.peer)"), ("principal", peer.principal),
                ("subject", peer.subject),
            ])
    }

    // MARK: what was left out

    /// How often `tellSuppressed` is due.
    static let intervalMilliseconds = LogLimiter.Settings().intervalNanoseconds / 1_000_000

    /// Tells of what was left out of kinds that have fallen silent. `isLast`: of all kinds.
    func tellSuppressed(isLast: Bool = false) {
        for (key, suppressed) in limiter.expire(now: isLast ? .max : BootClock.nanoseconds()) {
            write(.warn, "lines left out", [("like", key), ("suppressed", "\(suppressed)")])
        }
    }

    // MARK: private

    private func limited(
        _ level: Telemetry.LogLevel, _ message: String, key: String, _ fields: [(key: String, value: String)] = []
    ) {
        guard level <= self.level,
            case .write(let suppressed) = limiter.admit(key, now: BootClock.nanoseconds())
        else { return }
        write(level, message, suppressed > 0 ? fields + [("suppressed", "\(suppressed)")] : fields)
    }

    private func write(
        _ level: Telemetry.LogLevel, _ message: String, _ fields: [(key: String, value: String)] = []
    ) {
        guard level <= self.level else { return }
        let line = LogLine(level, message, [("node", node)] + fields)
        let text = Array(line.text(format: format, wallMilliseconds: WallClock.milliseconds()).utf8)
        _ = Glibc.write(STDERR_FILENO, text, text.count)
    }
}
