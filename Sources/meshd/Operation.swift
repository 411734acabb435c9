import AdminAPI
import Interception
import LinuxIO
import MeshConfig
import Telemetry

/// What operators and service managers see of the daemon: admin socket, metrics, readiness, notifications.
final class Operation {
    private let facts: DaemonFacts
    private let notification: ServiceNotification
    private let reactor: Reactor
    private var timers: [Reactor.TimerID] = []
    private var admin: AdminServer?
    private var metrics: MetricsServer?
    private var readiness: ReadinessServer?
    private var hasSaidReady = false
    private var hasSuccessor = false

    /// Half of the shortest watchdog interval that the unit may set.
    private static let watchdogMilliseconds: UInt64 = 5_000

    init(_ daemon: Daemon) throws {
        let configuration = daemon.file.configuration
        let facts = DaemonFacts(daemon)
        self.facts = facts
        reactor = daemon.reactor
        notification = ServiceNotification(socketPath: Environment.notifySocket)
        admin = try AdminServer(
            reactor: reactor, socket: configuration.admin.socket, group: configuration.admin.group, backend: facts)
        if let address = configuration.metricsAddress {
            metrics = try MetricsServer(reactor: reactor, address: address) { facts.metrics() }
        }
        if let address = configuration.readinessAddress {
            readiness = try ReadinessServer(reactor: reactor, address: address) { facts.readiness() }
        }
        timers = [
            reactor.schedule(afterMilliseconds: 100, every: 100) { [weak self] in self?.sayReadyOnce() },
            reactor.schedule(afterMilliseconds: 0, every: Self.watchdogMilliseconds) { [weak self] in
                try? self?.notification.watchdog()
            },
        ]
    }

    /// The service manager is not told of an end that is none.
    func prepareForSuccessor() { hasSuccessor = true }

    func stop() {
        for timer in timers { reactor.cancel(timer) }
        if !hasSuccessor { try? notification.stopping() }
        (admin, metrics, readiness) = (nil, nil, nil)
    }

    // MARK: private

    private func sayReadyOnce() {
        guard !hasSaidReady else { return }
        let state = facts.state
        guard state.hasStarted else { return }
        hasSaidReady = true
        reactor.cancel(timers.removeFirst())
        try? notification.ready(status: "carries connections of node \(facts.node)")
    }
}
