import Glibc
import Interception
import MeshConfig

/// meshd's log on standard error, one line an event.
final class DaemonLog {
    private let level: Configuration.LogLevel

    init(_ configuration: Configuration.Log, node: String) { level = configuration.level }

    func error(_ text: String) { write("error", text) }
    func warning(_ text: String) { write("warn", text) }
    func info(_ text: String) { write("info", text) }

    func take(_ report: InterceptionReport) {
        switch report.level {
        case .debug: break
        case .info: info(report.text)
        case .warning: warning(report.text)
        case .error: error(report.text)
        }
    }

    private func write(_ level: String, _ text: String) { Meshd.complain("level=\(level) msg=\"\(text)\"") }
}
