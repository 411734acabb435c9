import AdminAPI
import CMeshABI
import Glibc
import Interception
import LinuxIO
import MeshConfig
import MeshDiscovery
import MeshModel
import OpenSSLTLS
import ProxyControl
import Telemetry

/// The node daemon: one reactor thread, on which every feature does its work. This type wires them to each other, and
/// says in which order they start and stop; each knows only what it is given here.
final class Daemon {
    let file: ConfigurationFile
    let reactor: Reactor
    let log: DaemonLog
    let kernel: NodeKernel
    let interceptor: Interceptor
    let resources: ResourceState
    let source: FileSource
    let identity: IdentityFeed
    let flows: FlowFeed
    private var watches: [Reactor.WatchID] = []
    private(set) var operation: Operation?
    let upgradeTarget: Upgrade
    var isBeingUpgraded = false
    /// After resources were read; 0: at rest.
    private var secondsUntilRest = 0
    private var timers: [Reactor.TimerID] = []
    private var clock = ClockWatch(wallMilliseconds: WallClock.milliseconds(), bootNanoseconds: BootClock.nanoseconds())
    private let signals: SignalDescriptor

    static func run(_ file: ConfigurationFile) -> Int32 {
        do {
            // Blocked before anything else runs, so that none is lost.
            let signals = try SignalDescriptor([SIGTERM, SIGINT, SIGHUP])
            try OwnProcess.becomeUndumpable()
            try TLSLibrary.cleanseKeys()
            let daemon = try Daemon(file, signals: signals)
            try daemon.start()
            try daemon.reactor.run()
            daemon.stop()
            return 0
        } catch {
            Meshd.complain("meshd: \(error)")
            return 1
        }
    }

    private init(_ file: ConfigurationFile, signals: consuming SignalDescriptor) throws {
        let configuration = file.configuration
        self.file = file
        self.signals = signals
        let reactor = try Reactor()
        let log = DaemonLog(configuration.log, node: configuration.node)
        self.reactor = reactor
        self.log = log
        for directory in [configuration.runtimeDirectory, configuration.stateDirectory] {
            try TextFile.createDirectory(directory)
        }
        upgradeTarget = try Upgrade(configuration, configurationPath: file.path)
        kernel = try NodeKernel(file.interceptor, movesCaller: configuration.proxy.launch == .process)

        // The features call each other through this, once all of them exist.
        let wiring = Wiring()
        var interception = try file.interceptor
        interception.replacedProxyPID = upgradeTarget.takeReplacedProxy()
        interceptor = try Interceptor(
            interception, tables: kernel.tables, reactor: reactor,
            callbacks: .init(
                instancesChanged: { wiring.daemon?.resources.set($0) },
                proxyConnected: { wiring.daemon?.firstMessages($0, $1) ?? [] },
                proxyEnded: { wiring.daemon?.flows.proxyEnded($0.pid) },
                proxyMessage: { wiring.daemon?.flows.take($0, from: $1.pid) }, report: { log.take($0) },
                olderConnection: { wiring.daemon?.flows.take($0) },
                readLive: { body in
                    do { try wiring.daemon?.kernel.readLiveFlows(body) } catch {
                        log.error("live connections are not read: \(error)")
                    }
                }, connectionEnded: { wiring.daemon?.flows.end($0, $1) }))
        kernel.namespaces = interceptor.namespaces
        resources = ResourceState(configuration, log: log) { snapshot throws(IOError) in
            try wiring.daemon?.putInForce(snapshot)
        }
        source = try FileSource(
            directory: configuration.resourcesDirectory, localNode: configuration.node, names: MeshNames(configuration),
            lastGood: resources.lastGoodResources, reactor: reactor
        ) { wiring.daemon?.discovered($0) }
        identity = try IdentityFeed(configuration, reactor: reactor, log: log)
        let records = RecordLog(directory: configuration.stateDirectory, bytesMax: configuration.recordsBytesMax)
        let succession = FlowSuccession(runtimeDirectory: configuration.runtimeDirectory)
        flows = FlowFeed(
            cluster: configuration.cluster, log: log, records: records, succession: succession, kernel: kernel,
            reactor: reactor
        ) {
            wiring.daemon?.interceptor.askProxies()
        }
        flows.ruling = { wiring.daemon?.interceptor.ruling(on: $0) }
        flows.plaintextRuling = { wiring.daemon?.interceptor.plaintextRuling(on: $0) }
        flows.sawLive = { wiring.daemon?.interceptor.sawLive($0) }
        wiring.daemon = self
    }

    private final class Wiring {
        weak var daemon: Daemon?
    }

    private func start() throws {
        let configuration = file.configuration
        try kernel.watchEvents(on: reactor) { [weak self] event in
            // First: what is ended for being denied is a flow by then.
            self?.flows.take(event)
            self?.interceptor.handle(event)
        }
        watches.append(try reactor.watch(signals.descriptor) { [weak self] _ in self?.readSignals() })
        timers = [
            reactor.schedule(
                afterMilliseconds: DaemonLog.intervalMilliseconds, every: DaemonLog.intervalMilliseconds
            ) { [log] in log.tellSuppressed() },
            reactor.schedule(afterMilliseconds: 1_000, every: 1_000) { [weak self] in
                self?.lookAtClock()
                self?.rest()
            },
        ]
        let operation = try Operation(self)
        self.operation = operation
        identity.onChange = { [weak self] messages in
            for message in messages { self?.interceptor.broadcast(message) }
        }
        try identity.start()
        discovered(try source.start())
        try interceptor.start()
        OwnProcess.forgetStartUpCode()
        log.info("meshd \(Meshd.version) runs on node \(configuration.node)")
    }

    /// Leaves programs, pins and proxy at work: connections go on until the next meshd comes.
    func stop() {
        log.info("meshd ends; capture, proxy and connections go on")
        operation?.stop()
        source.stop()
        interceptor.shutdown()
        flows.stop()
        for timer in timers { reactor.cancel(timer) }
        log.tellSuppressed(isLast: true)
    }

    // MARK: what happens

    private func discovered(_ status: DiscoveryStatus) {
        for problem in status.problems {
            if problem.severity == .error { log.error(problem.description) } else { log.warning(problem.description) }
        }
        do {
            let node = file.configuration.node
            try interceptor.setWorkloads(status.resources.workloads.filter { $0.node == node })
        } catch {
            log.error("workloads not taken over: \(error)")
        }
        resources.set(status.resources)
        secondsUntilRest = 2
    }

    /// Reading resources takes several times what is kept of them.
    private func rest() {
        guard secondsUntilRest > 0 else { return }
        secondsUntilRest -= 1
        if secondsUntilRest == 0 { OwnProcess.giveBackMemory() }
    }

    private func putInForce(_ snapshot: Snapshot) throws(IOError) {
        flows.snapshot = snapshot
        identity.setLocalPrincipals(of: snapshot)
        try interceptor.apply(snapshot)
    }

    private func firstMessages(_ hello: ProxyHello, _ process: ProxyProcess) -> [SupervisorMessage] {
        flows.proxyConnected(process.pid, isFresh: hello.snapshotVersion == 0)
        return [.welcome(file.proxySettings)] + identity.messagesForNewProxy
    }

    /// Timers don't go by the time of day, but certificates do, and people who read logs and records.
    private func lookAtClock() {
        let jump = clock.jump(wallMilliseconds: WallClock.milliseconds(), bootNanoseconds: BootClock.nanoseconds())
        guard let jump else { return }
        log.warning("the time of day was set \(jump > 0 ? "forward" : "back") by \(abs(jump)) ms")
        identity.reload()
    }

    private func readSignals() {
        while let signal = try? signals.next() {
            if signal == SIGHUP {
                log.info("reads resources and certificates again (SIGHUP)")
                source.reload()
                identity.reload()
            } else {
                reactor.stop()
            }
        }
    }
}
