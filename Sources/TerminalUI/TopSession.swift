package import AdminAPI
import CLinux
import Glibc
package import LinuxIO
import Telemetry

/// `meshctl top` on a terminal: samples, keys and screen on one reactor. The terminal is given back however it ends.
package final class TopSession {
    private let client: AdminClient
    private let reactor: Reactor
    private let input: FileDescriptor
    private let signals: SignalDescriptor
    private var model: TopModel
    private let hasColour: Bool
    private let delayMilliseconds: UInt64

    package static var isPossible: Bool { isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 }

    package init(
        client: AdminClient, model: TopModel, delayMilliseconds: UInt64, hasColour: Bool
    ) throws(IOError) {
        self.client = client
        self.model = model
        self.hasColour = hasColour
        self.delayMilliseconds = delayMilliseconds
        reactor = try Reactor()
        signals = try SignalDescriptor([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH])
        let copy = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw .last("fcntl") }
        input = FileDescriptor(owning: copy)
    }

    /// Shows until the person quits or a signal comes.
    package func run() throws(IOError) {
        guard clinux_terminal_enter(STDIN_FILENO, STDOUT_FILENO) == 0 else { throw .last("tcsetattr") }
        defer { clinux_terminal_leave() }
        _ = try reactor.watch(input) { [unowned self] _ in readKeys() }
        _ = try reactor.watch(signals.descriptor) { [unowned self] _ in readSignals() }
        _ = reactor.schedule(afterMilliseconds: delayMilliseconds, every: delayMilliseconds) { [unowned self] in
            sample()
        }
        sample()
        try reactor.run()
    }

    // MARK: private

    private func sample() {
        do throws(AdminClientError) {
            let page = try client.flows()
            var node = page.flows.first?.node ?? model.node
            if node.isEmpty { node = try client.status().node }
            model.take(page, node: node, now: BootClock.nanoseconds())
        } catch {
            model.trouble = "\(error)"
        }
        draw()
    }

    private func readKeys() {
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = read(input.number, &bytes, bytes.count)
        // End of input: the terminal is gone.
        guard count > 0 else { return reactor.stop() }
        var needsDrawing = false
        for key in TopKey.keys(in: Array(bytes[..<count])) {
            switch model.press(key) {
            case .quit: return reactor.stop()
            case .redraw: needsDrawing = true
            case .none: break
            }
        }
        if needsDrawing { draw() }
    }

    private func readSignals() {
        while let signal = try? signals.next() {
            if signal != SIGWINCH { return reactor.stop() }
        }
        draw()
    }

    private func draw() {
        var (columns, rows): (UInt16, UInt16) = (80, 24)
        if clinux_terminal_size(STDOUT_FILENO, &columns, &rows) != 0 || columns == 0 || rows == 0 {
            (columns, rows) = (80, 24)
        }
        let view = TopView(columns: Int(columns), rows: Int(rows), hasColour: hasColour)
        var rest = Array(view.screen(model).utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0 && (errno == EINTR || errno == EAGAIN) { continue }
            guard count > 0 else { return reactor.stop() }
            rest = rest.dropFirst(count)
        }
    }
}
