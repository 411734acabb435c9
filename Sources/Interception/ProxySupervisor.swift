import Glibc
package import LinuxIO
package import ProxyControl

/// Keeps one proxy process at work: adopts one that runs already, starts one where none does, starts it again with
/// growing pauses when it ends, and ends one that stays silent. The proxy is no child that dies with meshd.
package final class ProxySupervisor {
    package struct Configuration {
        /// Of meshd; must be executable by `uid`.
        package var executable: String
        /// A directory for the control socket alone.
        package var controlDirectory: String
        package var uid: UInt32
        package var gid: UInt32
        /// Absolute from the hierarchy's root; only a process in it is taken for the proxy. A `CgroupPattern` where a
        /// service manager starts the proxy.
        package var cgroup: String
        package var hierarchy: CgroupHierarchy
        package var environment: [String] = []
        /// False where a service manager starts the proxy: then it is only awaited and adopted.
        package var startsProxy = true
        /// How long a running proxy may take to come to a new meshd, or back to this one.
        package var reconnectMilliseconds: UInt64 = 5_000
        package var helloMilliseconds: UInt64 = 10_000
        package var pauseFirstMilliseconds: UInt64 = 100
        package var pauseMaxMilliseconds: UInt64 = 10_000

        package init(
            executable: String, controlDirectory: String, uid: UInt32, gid: UInt32, cgroup: String,
            hierarchy: CgroupHierarchy
        ) {
            self.executable = executable
            self.controlDirectory = controlDirectory
            self.uid = uid
            self.gid = gid
            self.cgroup = cgroup
            self.hierarchy = hierarchy
        }
    }

    /// What the owner is told. All on the reactor's thread.
    package struct Callbacks {
        /// A proxy said hello: send it the welcome and everything else.
        package var connected: (ProxyHello, ProxyChannel) -> Void
        /// Every message but the hello.
        package var message: (ProxyMessage) -> Void
        /// The proxy's process is gone, with all its sockets.
        package var ended: () -> Void
        package var report: InterceptionReporter

        package init(
            connected: @escaping (ProxyHello, ProxyChannel) -> Void, message: @escaping (ProxyMessage) -> Void,
            ended: @escaping () -> Void, report: @escaping InterceptionReporter
        ) {
            self.connected = connected
            self.message = message
            self.ended = ended
            self.report = report
        }
    }

    /// The process that is, or is about to become, our proxy.
    private final class Running {
        let process: ChildProcess
        var watch: Reactor.WatchID?
        let startedNanoseconds = BootClock.nanoseconds()

        init(_ process: consuming ChildProcess) { self.process = process }
    }

    package let configuration: Configuration
    private let reactor: Reactor
    private let callbacks: Callbacks
    private var listener: ControlListener?
    private var running: Running?
    /// Open, but has not said hello yet.
    private var candidate: ProxyChannel?
    package private(set) var channel: ProxyChannel?
    private var timer: Reactor.TimerID?
    private var pauseMilliseconds: UInt64
    /// Starts since meshd started, adoption not counted.
    package private(set) var startCount = 0
    private var isStopped = false

    package init(_ configuration: Configuration, reactor: Reactor, callbacks: Callbacks) {
        self.configuration = configuration
        self.reactor = reactor
        self.callbacks = callbacks
        pauseMilliseconds = configuration.pauseFirstMilliseconds
    }

    package var pid: Int32? { running?.process.pid }

    /// Listens, then waits for a proxy that runs already or starts one.
    package func start() throws(IOError) {
        // A proxy that ends is then ours to reap, whoever started it below us.
        try OwnProcess.becomeSubreaper()
        if configuration.startsProxy { try configuration.hierarchy.create(configuration.cgroup) }
        listener = try ControlListener(
            directory: configuration.controlDirectory, group: configuration.gid, reactor: reactor
        ) { [weak self] connection in self?.accept(connection) }
        if !configuration.startsProxy { return }
        if try leftovers().isEmpty {
            spawn()
        } else {
            callbacks.report(.init(.info, "a proxy runs already: waiting for it to come back"))
            arm(configuration.reconnectMilliseconds) { $0.replaceSilentProxy() }
        }
    }

    /// Leaves the proxy running and stops caring.
    package func stop() {
        isStopped = true
        disarm()
        if let running, let watch = running.watch { reactor.remove(watch) }
        channel?.close()
        candidate?.close()
        listener?.close()
        running = nil
    }

    /// Ends the proxy and every process in its cgroup (for uninstall). Blocks until they are gone, two seconds at most.
    package func endProxy() {
        stop()
        killAll()
        unlink(configuration.controlDirectory + "/control.sock")
        rmdir(configuration.controlDirectory)
    }

    // MARK: starting

    private func spawn() {
        var spawn = ProcessSpawn(
            path: configuration.executable,
            arguments: [
                configuration.executable, "proxy", "--control", configuration.controlDirectory + "/control.sock",
            ]
        )
        spawn.environment = configuration.environment
        spawn.cgroupProcs = configuration.hierarchy.procsFile(configuration.cgroup)
        (spawn.uid, spawn.gid) = (configuration.uid, configuration.gid)
        spawn.noNewPrivileges = true
        spawn.isDetached = true
        do throws(IOError) {
            let process = try spawn.start(passing: DescriptorBatch())
            startCount += 1
            callbacks.report(.init(.info, "proxy started, pid \(process.pid)"))
            supervise(Running(process))
            arm(configuration.helloMilliseconds) { $0.endSilentProxy("said no hello") }
        } catch {
            let hint = error.code == EACCES ? " (the proxy's user must be able to reach and execute it)" : ""
            callbacks.report(.init(.error, "can't start the proxy: \(error)\(hint)"))
            pauseThenSpawn()
        }
    }

    private func supervise(_ next: Running) {
        if let running, let watch = running.watch { reactor.remove(watch) }
        running = next
        do throws(IOError) {
            next.watch = try reactor.watch(next.process.descriptor) { [weak self] _ in self?.processEnded() }
        } catch {
            callbacks.report(.init(.error, "can't watch the proxy: \(error)"))
        }
    }

    private func processEnded() {
        guard let ended = running else { return }
        if let watch = ended.watch { reactor.remove(watch) }
        let how = ended.process.reap().map { ": \($0)" } ?? ""
        callbacks.report(.init(.error, "proxy \(ended.process.pid) ended\(how)"))
        running = nil
        channel?.close()
        channel = nil
        candidate?.close()
        candidate = nil
        disarm()
        if BootClock.nanoseconds() - ended.startedNanoseconds > 30_000_000_000 {
            pauseMilliseconds = configuration.pauseFirstMilliseconds
        }
        callbacks.ended()
        if !isStopped && configuration.startsProxy { pauseThenSpawn() }
    }

    private func pauseThenSpawn() {
        let pause = pauseMilliseconds
        pauseMilliseconds = min(pause * 2, configuration.pauseMaxMilliseconds)
        arm(pause) { $0.spawn() }
    }

    private func replaceSilentProxy() {
        guard channel == nil, !isStopped else { return }
        callbacks.report(.init(.warning, "the proxy that ran already did not come back: ending it"))
        killAll()
        spawn()
    }

    private func endSilentProxy(_ fault: String) {
        guard channel == nil, let running else { return }
        callbacks.report(.init(.error, "proxy \(running.process.pid) \(fault): ending it"))
        // Its end is seen by the watch, which starts the next.
        do throws(IOError) { try running.process.signal(SIGKILL) } catch {
            callbacks.report(.init(.error, "can't end proxy \(running.process.pid): \(error)"))
            awaitReconnect()
        }
    }

    private func isProxyCgroup(_ path: String) -> Bool {
        configuration.startsProxy
            ? path == configuration.cgroup : CgroupPattern(absolute: configuration.cgroup).matches(path)
    }

    private func leftovers() throws(IOError) -> [Int32] {
        if !configuration.startsProxy { return running.map { [$0.process.pid] } ?? [] }
        return try configuration.hierarchy.processes(in: configuration.cgroup).filter { $0 > 0 }
    }

    private func killAll() {
        for _ in 0..<100 {
            guard let pids = try? leftovers(), !pids.isEmpty else { return }
            for pid in pids {
                guard let process = try? ChildProcess(pid: pid) else { continue }
                // Between reading the list and opening it, the number may have come to mean another process.
                guard let path = try? CgroupHierarchy.path(ofProcess: pid), isProxyCgroup(path) else { continue }
                try? process.signal(SIGKILL)
                _ = process.awaitEnd(milliseconds: 20)
                _ = process.reap()
            }
        }
    }

    // MARK: connections

    private func accept(_ connection: consuming SeqpacketSocket) {
        guard let peer = try? connection.peer(), let process = try? ChildProcess(pid: peer.pid) else { return }
        let cgroup = try? CgroupHierarchy.path(ofProcess: peer.pid)
        guard peer.uid == configuration.uid, let cgroup, isProxyCgroup(cgroup) else {
            return callbacks.report(
                .init(
                    .warning,
                    "refused a control connection of pid \(peer.pid): uid \(peer.uid) in cgroup \(cgroup ?? "?")"))
        }
        guard channel == nil || running?.process.pid == peer.pid else {
            return callbacks.report(.init(.warning, "refused a second proxy, pid \(peer.pid)"))
        }
        channel?.close()
        candidate?.close()
        if running?.process.pid != peer.pid { supervise(Running(process)) }
        do throws(IOError) {
            // Channel and supervisor refer to each other only weakly through these closures.
            candidate = try ProxyChannel(
                connection, reactor: reactor, onMessage: { [weak self] in self?.received($0) },
                onEnd: { [weak self] in self?.channelEnded($0) })
        } catch {
            return callbacks.report(.init(.error, "can't watch the proxy's control socket: \(error)"))
        }
        arm(configuration.helloMilliseconds) { $0.endSilentProxy("said no hello") }
    }

    private func received(_ message: ProxyMessage) {
        guard case .hello(let hello) = message else {
            if channel != nil { return callbacks.message(message) }
            return cutOff("the proxy's first message was no hello")
        }
        guard let next = candidate else { return cutOff("the proxy said hello twice") }
        disarm()
        candidate = nil
        channel = next
        callbacks.report(
            .init(
                .info,
                hello.listeners.isEmpty && hello.connections == 0
                    ? "proxy \(hello.pid) is here" : "adopted proxy \(hello.pid): \(hello.connections) connections"))
        callbacks.connected(hello, next)
    }

    private func channelEnded(_ end: ProxyChannel.End) {
        channel = nil
        candidate = nil
        guard !isStopped, end != .closedByUs else { return }
        callbacks.report(.init(.warning, "\(end)"))
        awaitReconnect()
    }

    private func cutOff(_ fault: String) {
        channel?.close()
        candidate?.close()
        callbacks.report(.init(.error, fault))
        awaitReconnect()
    }

    private func awaitReconnect() {
        arm(configuration.reconnectMilliseconds) { $0.endSilentProxy("did not come back") }
    }

    // MARK: the one timer

    private func arm(_ milliseconds: UInt64, _ body: @escaping (ProxySupervisor) -> Void) {
        disarm()
        timer = reactor.schedule(afterMilliseconds: milliseconds) { [weak self] in
            guard let self else { return }
            self.timer = nil
            body(self)
        }
    }

    private func disarm() {
        if let timer { reactor.cancel(timer) }
        timer = nil
    }
}
