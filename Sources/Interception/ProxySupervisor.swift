import Glibc
package import LinuxIO
package import ProxyControl

/// Keeps one proxy process at work: adopts one that runs already, starts one where none does, starts it again with
/// growing pauses when it ends. One of another binary, and one that answers no question, is replaced: the next one is
/// given everything before the old one is told to finish what it has. No proxy is a child that dies with meshd.
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
        /// How long one that was replaced finishes what is open; 0: as long as that takes.
        package var drainMilliseconds: UInt32 = 0
        /// A proxy with this process id is to be replaced though it runs our binary.
        package var replacedPID: Int32?

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
        /// A proxy said hello: send it the welcome and everything else that its role needs.
        package var connected: (ProxyHello, ProxyProcess) -> Void
        /// Every message but the hello.
        package var message: (ProxyMessage, ProxyProcess) -> Void
        /// Descriptors came with a message.
        package var listenerGiven: (ListenerDescription, consuming FileDescriptor) -> Void
        /// The second one serves now. The first, if there is one, is about to be told to finish; whether the second has
        /// every listening socket of it.
        package var replaced: (ProxyProcess?, ProxyProcess) -> Bool
        /// The process is gone, with all its sockets; its role is its last one.
        package var ended: (ProxyProcess) -> Void
        package var report: InterceptionReporter

        package init(
            connected: @escaping (ProxyHello, ProxyProcess) -> Void,
            message: @escaping (ProxyMessage, ProxyProcess) -> Void,
            listenerGiven: @escaping (ListenerDescription, consuming FileDescriptor) -> Void = { _, _ in },
            replaced: @escaping (ProxyProcess?, ProxyProcess) -> Bool = { _, _ in true },
            ended: @escaping (ProxyProcess) -> Void, report: @escaping InterceptionReporter
        ) {
            self.connected = connected
            self.message = message
            self.listenerGiven = listenerGiven
            self.replaced = replaced
            self.ended = ended
            self.report = report
        }
    }

    /// Those that drain, with the one that serves and the next one. While so many are there, none is replaced.
    package static let processesMax = 18
    /// Questions without an answer after which the proxy is replaced, and after which one that drains is ended.
    static let silenceMax = 5
    static let silenceOfDrainingMax = 60

    package let configuration: Configuration
    let reactor: Reactor
    let callbacks: Callbacks
    private let launcher: ProxyLauncher
    private var listener: ControlListener?
    package private(set) var processes: [ProxyProcess] = []
    /// One is started and has not come yet: when it was.
    var awaitedSince: UInt64?
    /// Why the serving one is to be replaced; nil: it is not.
    package internal(set) var replacementReason: String?
    private var timer: Reactor.TimerID?
    var replacedPID: Int32?
    var pauseMilliseconds: UInt64
    /// Starts since meshd started, adoption not counted.
    package private(set) var startCount = 0
    var isStopped = false

    package init(_ configuration: Configuration, reactor: Reactor, callbacks: Callbacks) {
        self.configuration = configuration
        self.reactor = reactor
        self.callbacks = callbacks
        launcher = ProxyLauncher(configuration)
        replacedPID = configuration.replacedPID
        pauseMilliseconds = configuration.pauseFirstMilliseconds
    }

    package var serving: ProxyProcess? { processes.first { $0.role == .serving } }
    var next: ProxyProcess? { processes.first { $0.role == .next } }
    package var pid: Int32? { serving?.pid ?? processes.first { $0.role == .unknown }?.pid }
    package var channel: ProxyChannel? { serving?.channel }
    package var drainingCount: Int { processes.count { $0.role == .draining } }

    /// Listens, then waits for a proxy that runs already or starts one.
    package func start() throws(IOError) {
        // A proxy that ends is then ours to reap, whoever started it below us.
        try OwnProcess.becomeSubreaper()
        listener = try ControlListener(
            directory: configuration.controlDirectory, group: configuration.gid, reactor: reactor
        ) { [weak self] connection in self?.accept(connection) }
        if configuration.startsProxy, try leftovers().isEmpty {
            spawn()
        } else {
            if configuration.startsProxy {
                callbacks.report(.init(.info, "a proxy runs already: waiting for it to come back"))
            }
            arm(configuration.reconnectMilliseconds) { $0.replaceSilentProxy() }
        }
    }

    /// Leaves the proxies running and stops caring.
    package func stop() {
        isStopped = true
        listener?.close()
        for process in processes { process.channel?.readRest() }
        disarm()
        for process in processes {
            if let watch = process.watch { reactor.remove(watch) }
            if let timer = process.timer { reactor.cancel(timer) }
            process.channel?.close()
            process.candidate?.close()
        }
        processes = []
    }

    /// Ends the proxies and every process in their cgroup (for uninstall). Blocks until they are gone, two seconds at
    /// most.
    package func endProxy() {
        let known = processes.map(\.pid)
        // Nobody wants to know any more what they say.
        for process in processes { process.channel?.close() }
        stop()
        killAll(known: known)
        unlink(configuration.controlDirectory + "/control.sock")
        rmdir(configuration.controlDirectory)
    }

    /// To every proxy that has said hello.
    package func broadcast(_ message: SupervisorMessage) {
        for process in processes { process.send(message) }
    }

    /// Asks every proxy for its figures. Call it once a second: one that does not answer several times is replaced.
    package func askAll() {
        for process in processes where process.channel != nil && !process.isConfirming {
            process.silence += 1
            process.send(.report)
        }
        for process in processes { judgeSilence(process) }
    }

    /// All that the next proxy needs is on its way: once it has it, it serves.
    package func confirm(_ process: ProxyProcess) {
        process.isConfirming = true
        process.send(.report)
        arm(process, configuration.helloMilliseconds) { $0.kill($1, "did not take over") }
    }

    // MARK: starting

    func spawn() {
        guard !isStopped, awaitedSince == nil, next == nil else { return }
        guard processes.count < Self.processesMax else {
            callbacks.report(.init(.error, "\(drainingCount) proxies still drain: no other one is started yet"))
            return pauseThenSpawn()
        }
        do throws(IOError) {
            let process = try launcher.start(taken: processes.map(\.cgroup))
            startCount += 1
            awaitedSince = BootClock.nanoseconds()
            if let process {
                callbacks.report(.init(.info, "proxy started, pid \(process.pid)"))
                supervise(ProxyProcess(process, cgroup: configuration.cgroup))
            } else {
                callbacks.report(.init(.info, "the service manager starts a proxy"))
            }
            arm(configuration.helloMilliseconds) { $0.startFailed() }
        } catch {
            let hint = error.code == EACCES ? " (the proxy's user must be able to reach and execute it)" : ""
            callbacks.report(.init(.error, "can't start the proxy: \(error)\(hint)"))
            pauseThenSpawn()
        }
    }

    private func startFailed() {
        awaitedSince = nil
        for process in processes where process.role == .unknown { kill(process, "said no hello") }
        pauseThenSpawn()
    }

    @discardableResult
    func supervise(_ process: ProxyProcess) -> ProxyProcess {
        processes.append(process)
        do throws(IOError) {
            process.watch = try reactor.watch(process.process.descriptor) { [weak self, weak process] _ in
                if let process { self?.processEnded(process) }
            }
        } catch {
            callbacks.report(.init(.error, "can't watch the proxy: \(error)"))
        }
        return process
    }

    private func processEnded(_ process: ProxyProcess) {
        if let watch = process.watch { reactor.remove(watch) }
        if let timer = process.timer { reactor.cancel(timer) }
        let end = process.process.reap()
        let isOrderly = process.role == .draining && (end == nil || end == .exited(code: 0))
        // What it said last may still be in the socket.
        process.channel?.readRest()
        processes.removeAll { $0 === process }
        process.channel?.close()
        process.candidate?.close()
        callbacks.report(
            .init(
                isOrderly ? .info : .error,
                "proxy \(process.pid) \(isOrderly ? "has finished" : "ended")\(end.map { ": \($0)" } ?? "")"))
        callbacks.ended(process)
        if isStopped { return }
        switch process.role {
        case .draining: break
        case .serving:
            if let next {
                serve(next)
            } else if awaitedSince == nil {
                restart(process)
            }
        case .unknown, .next:
            awaitedSince = nil
            restart(process)
        }
    }

    private func restart(_ ended: ProxyProcess) {
        if BootClock.nanoseconds() - ended.startedNanoseconds > 30_000_000_000 {
            pauseMilliseconds = configuration.pauseFirstMilliseconds
        }
        // The service manager starts one that ended again, in about a second.
        if !configuration.startsProxy {
            pauseMilliseconds = max(pauseMilliseconds, configuration.reconnectMilliseconds)
        }
        pauseThenSpawn()
    }

    func pauseThenSpawn() {
        let pause = pauseMilliseconds
        pauseMilliseconds = min(pause * 2, configuration.pauseMaxMilliseconds)
        arm(pause) { $0.spawnIfNeeded() }
    }

    func spawnIfNeeded() {
        if serving == nil || replacementReason != nil { spawn() }
    }

    private func replaceSilentProxy() {
        guard serving == nil, !isStopped else { return }
        if configuration.startsProxy {
            callbacks.report(.init(.warning, "the proxy that ran already did not come back: ending it"))
            killAll(except: Set(processes.filter { $0.channel != nil }.map(\.pid)))
        }
        spawn()
    }

    func kill(_ process: ProxyProcess, _ fault: String) {
        callbacks.report(.init(.error, "proxy \(process.pid) \(fault): ending it"))
        // Its end is seen by the watch, which starts the next.
        do throws(IOError) { try process.process.signal(SIGKILL) } catch {
            callbacks.report(.init(.error, "can't end proxy \(process.pid): \(error)"))
        }
    }

    func isProxyCgroup(_ path: String) -> Bool {
        configuration.startsProxy
            ? path == configuration.cgroup : CgroupPattern(absolute: configuration.cgroup).matches(path)
    }

    private func leftovers() throws(IOError) -> [Int32] {
        if !configuration.startsProxy { return [] }
        do throws(IOError) {
            return try configuration.hierarchy.processes(in: configuration.cgroup).filter { $0 > 0 }
        } catch {
            if error.code == ENOENT { return [] }
            throw error
        }
    }

    private func killAll(known: [Int32] = [], except answering: Set<Int32> = []) {
        for _ in 0..<100 {
            let pids = Set(known).union((try? leftovers()) ?? []).subtracting(answering)
                .filter { access("/proc/\($0)", F_OK) == 0 }
            if pids.isEmpty { return }
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

    // MARK: timers

    func arm(_ milliseconds: UInt64, _ body: @escaping (ProxySupervisor) -> Void) {
        disarm()
        timer = reactor.schedule(afterMilliseconds: milliseconds) { [weak self] in
            guard let self else { return }
            self.timer = nil
            body(self)
        }
    }

    func disarm() {
        if let timer { reactor.cancel(timer) }
        timer = nil
    }

    /// Each process has one of its own.
    func arm(
        _ process: ProxyProcess, _ milliseconds: UInt64, _ body: @escaping (ProxySupervisor, ProxyProcess) -> Void
    ) {
        disarm(process)
        process.timer = reactor.schedule(afterMilliseconds: milliseconds) { [weak self, weak process] in
            guard let self, let process else { return }
            process.timer = nil
            body(self, process)
        }
    }

    func disarm(_ process: ProxyProcess) {
        if let timer = process.timer { reactor.cancel(timer) }
        process.timer = nil
    }
}
