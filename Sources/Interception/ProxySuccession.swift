import Glibc
import LinuxIO
import ProxyControl

// Which proxy serves: roles are given at hello, and change when the next one has all it needs, or when the one that
// serves answers no more.
extension ProxySupervisor {
    func accept(_ connection: consuming SeqpacketSocket) {
        guard let peer = try? connection.peer(), let opened = try? ChildProcess(pid: peer.pid) else { return }
        let path = try? CgroupHierarchy.path(ofProcess: peer.pid)
        guard peer.uid == configuration.uid, let path, isProxyCgroup(path) else {
            return callbacks.report(
                .init(
                    .warning,
                    "refused a control connection of pid \(peer.pid): uid \(peer.uid) in cgroup \(path ?? "?")"))
        }
        let known = processes.first { $0.pid == peer.pid }
        guard known != nil || processes.count <= Self.processesMax else {
            return callbacks.report(.init(.warning, "refused one more proxy, pid \(peer.pid)"))
        }
        let process: ProxyProcess
        if let known { process = known } else { process = supervise(ProxyProcess(opened, cgroup: path)) }
        process.channel?.close()
        process.candidate?.close()
        do throws(IOError) {
            // Channel and supervisor refer to each other only weakly through these closures.
            process.candidate = try ProxyChannel(
                connection, reactor: reactor,
                onMessage: { [weak self, weak process] message, descriptors in
                    if let self, let process { self.received(message, descriptors, from: process) }
                },
                onEnd: { [weak self, weak process] end in
                    if let self, let process { self.channelEnded(end, of: process) }
                })
        } catch {
            return callbacks.report(.init(.error, "can't watch the proxy's control socket: \(error)"))
        }
        arm(process, configuration.helloMilliseconds) { $0.kill($1, "said no hello") }
    }

    private func received(
        _ message: ProxyMessage, _ descriptors: consuming DescriptorBatch, from process: ProxyProcess
    ) {
        switch message {
        case .hello(let hello): came(hello, process)
        case _ where process.channel == nil: cutOff(process, "the proxy's first message was no hello")
        case .listener(let listener):
            guard let descriptor = descriptors.takeFirst() else { return }
            if process.role == .serving { callbacks.listenerGiven(listener, descriptor) }
        case .counters:
            process.silence = 0
            callbacks.message(message, process)
            if process.isConfirming {
                process.isConfirming = false
                disarm(process)
                if process.role == .next { serve(process) }
            }
        default: callbacks.message(message, process)
        }
    }

    private func came(_ hello: ProxyHello, _ process: ProxyProcess) {
        guard let channel = process.candidate else { return cutOff(process, "the proxy said hello twice") }
        disarm(process)
        process.candidate = nil
        process.channel = channel
        process.silence = 0
        process.sentSnapshot = nil
        let isDismissed = giveRole(hello, process)
        callbacks.report(
            .init(
                .info,
                hello.listeners.isEmpty && hello.connections == 0
                    ? "proxy \(hello.pid) is here"
                    : "adopted proxy \(hello.pid): \(hello.connections) connections"
                        + (process.role == .draining ? ", finishing" : "")))
        callbacks.connected(hello, process)
        if isDismissed {
            process.send(.drain(deadlineMilliseconds: configuration.drainMilliseconds, listenersStay: false))
        }
        if process.role == .serving { judgeBinary(process) }
        // Only such are left of an earlier meshd's.
        if serving == nil, awaitedSince == nil, processes.allSatisfy({ $0.role == .draining }) {
            arm(100) { $0.spawnIfNeeded() }
        }
    }

    /// True where the process must be told that it has nothing to do here.
    private func giveRole(_ hello: ProxyHello, _ process: ProxyProcess) -> Bool {
        if hello.isDraining {
            process.role = .draining
            return false
        }
        switch process.role {
        case .serving, .next: return false
        case .draining: return true
        case .unknown: break
        }
        guard let serving else {
            (process.role, awaitedSince) = (.serving, nil)
            disarm()
            return false
        }
        let isWanted =
            awaitedSince != nil || replacementReason != nil
            || (process.runs(configuration.executable) && !serving.runs(configuration.executable))
        guard next == nil, isWanted, process.pid != replacedPID else {
            process.role = .draining
            return true
        }
        (process.role, awaitedSince) = (.next, nil)
        disarm()
        return false
    }

    /// A proxy of another binary has a successor as soon as it is here.
    private func judgeBinary(_ process: ProxyProcess) {
        if !process.runs(configuration.executable) {
            replacementReason = "proxy \(process.pid) runs another binary"
        } else if process.pid == replacedPID {
            replacementReason = "proxy \(process.pid) is to be replaced"
        }
        guard let reason = replacementReason, next == nil, awaitedSince == nil else { return }
        callbacks.report(.init(.info, "\(reason): starts the next one"))
        spawn()
    }

    func serve(_ process: ProxyProcess) {
        let former = serving
        former?.role = .draining
        process.role = .serving
        (replacementReason, replacedPID) = (nil, nil)
        pauseMilliseconds = configuration.pauseFirstMilliseconds
        let hasAllListeners = callbacks.replaced(former, process)
        guard let former else { return }
        callbacks.report(.init(.info, "proxy \(process.pid) serves; proxy \(former.pid) finishes what it has"))
        if former.silence >= Self.silenceMax, !hasAllListeners {
            // Half of the new connections would wait in its queues.
            return kill(former, "does not answer and holds listeners")
        }
        former.send(
            .drain(deadlineMilliseconds: configuration.drainMilliseconds, listenersStay: hasAllListeners))
    }

    func judgeSilence(_ process: ProxyProcess) {
        switch process.role {
        case .serving where process.silence >= Self.silenceMax && replacementReason == nil:
            replacementReason = "proxy \(process.pid) does not answer"
            callbacks.report(.init(.error, "proxy \(process.pid) does not answer: starts another one in its place"))
            spawn()
        case .draining where process.silence >= Self.silenceOfDrainingMax: kill(process, "does not answer")
        default: break
        }
    }

    // MARK: channels

    private func channelEnded(_ end: ProxyChannel.End, of process: ProxyProcess) {
        process.channel = nil
        process.candidate = nil
        guard !isStopped, end != .closedByUs else { return }
        // One that drains closes its end as it leaves, or comes back by itself; its deadline bounds it.
        if process.role == .draining { return }
        callbacks.report(.init(.warning, "\(end)"))
        awaitReconnect(process)
    }

    private func cutOff(_ process: ProxyProcess, _ fault: String) {
        process.channel?.close()
        process.candidate?.close()
        callbacks.report(.init(.error, fault))
        awaitReconnect(process)
    }

    private func awaitReconnect(_ process: ProxyProcess) {
        arm(process, configuration.reconnectMilliseconds) { supervisor, process in
            if process.channel == nil { supervisor.kill(process, "did not come back") }
        }
    }
}
