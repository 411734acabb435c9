import CLinux
import CMeshABI
import Glibc
import MeshModel
import ProxyControl

// What comes to a loop from outside: connections at its listeners, and messages from the control thread.

extension UnsafeMutablePointer<LoopState> {
    private static var acceptsPerTurn: Int { 64 }

    /// Something came at a listener.
    func serve(_ listener: ListenerPointer) {
        if listener.pointee.description.kind == .names { receiveQuestions(listener) } else { acceptAll(listener) }
    }

    /// Takes what waits at a listener. A connection without what must come with it is closed, never guessed.
    func acceptAll(_ listener: ListenerPointer) {
        for _ in 0..<Self.acceptsPerTurn {
            guard !listener.pointee.isClosed, !pointee.isOverloaded else { return }
            let descriptor = clinux_accept(listener.pointee.descriptor)
            guard descriptor >= 0 else {
                switch errno {
                case EINTR, ECONNABORTED: continue
                case EMFILE, ENFILE, ENOBUFS, ENOMEM:
                    // The connection stays in the backlog: taking it can't be tried again and again.
                    pointee.counters.count(.MESH_REASON_DESCRIPTOR_LIMIT)
                    pointee.isOverloaded = true
                    for listener in pointee.listeners { setWatched(listener, false) }
                    return beat()
                default:
                    listener.pointee.isPassingOptions = true
                    return
                }
            }
            pointee.shared.descriptors.add()
            let kind = listener.pointee.description.kind
            if kind.isApplications && !listener.pointee.isPassingOptions { Socket.prepareApplication(descriptor) }
            switch kind {
            case .outbound: outboundAccepted(descriptor)
            case .tunnel: tunnelAccepted(descriptor)
            case .names: close(descriptor, resets: true)
            case .inbound: plaintextCame(descriptor)
            }
            if pointee.shared.isOverloaded { return judgeOverload() }
        }
    }

    /// In overload: the connect hook refuses what comes from now on, but what had passed it waits in the backlog, maybe
    /// for the very ones that hold the memory. It is told now.
    func refuseBacklog() {
        for listener in pointee.listeners where listener.pointee.description.kind == .outbound {
            for _ in 0..<Self.acceptsPerTurn where !listener.pointee.isClosed {
                let descriptor = clinux_accept(listener.pointee.descriptor)
                guard descriptor >= 0 else { break }
                pointee.shared.descriptors.add()
                guard let captured = pointee.shared.kernel.accepted(descriptor) else {
                    pointee.counters.count(.MESH_REASON_HANDOVER_MISSING)
                    close(descriptor, resets: true)
                    continue
                }
                refuseCaptured(descriptor, openRecord(captured), .MESH_REASON_PROXY_OVERLOADED)
            }
        }
    }

    private func outboundAccepted(_ descriptor: Int32) {
        guard let captured = pointee.shared.kernel.accepted(descriptor) else {
            pointee.counters.count(.MESH_REASON_HANDOVER_MISSING)
            return close(descriptor, resets: true)
        }
        capturedCame(descriptor, captured, isHandedOver: false)
    }

    private func tunnelAccepted(_ descriptor: Int32) {
        guard let peer = Socket.peer(of: descriptor) else { return close(descriptor, resets: true) }
        tunnelCame(descriptor, peer)
    }

    func close(_ listener: ListenerPointer) {
        guard !listener.pointee.isClosed else { return }
        setWatched(listener, false)
        listener.pointee.isClosed = true
        _ = Glibc.close(listener.pointee.descriptor)
        pointee.shared.descriptors.remove()
        pointee.endedListeners.append(listener)
    }

    // MARK: messages

    func readMailbox() {
        for message in pointee.mailbox.takeAll() { take(message) }
    }

    private func take(_ message: LoopMessage) {
        switch message {
        case .settings(let settings):
            pointee.settings = settings
            pointee.peerNames = PeerNames()
        case .snapshot(let snapshot): takeSnapshot(snapshot)
        case .identities(let identities): pointee.identities = identities
        case .listener(let description, let descriptor): addListener(description, descriptor)
        case .closeListener(let id): closeListeners { $0.id == id }
        case .dialSocketsArrived: dialSocketsArrived()
        case .handOver(let descriptor, let captured): capturedCame(descriptor, captured, isHandedOver: true)
        case .workloadGone(let workload): workloadGone(workload)
        case .networkNamespaceGone(let namespace):
            closeListeners { $0.networkNamespace == namespace }
            endNames(in: namespace)
        case .nodeReachable(let node): pointee.nodes[node] = nil
        case .nameAdmitted(let token): nameAdmitted(token)
        case .drain(let deadline, let listenersStay): drain(deadline, listenersStay: listenersStay)
        case .giveListeners: giveListeners()
        case .report: reportNow()
        case .announce: announceAll()
        case .stop: pointee.isStopped = true
        }
    }

    private func takeSnapshot(_ snapshot: Snapshot) {
        let before = pointee.snapshot
        pointee.snapshot = snapshot
        pointee.peerNames = PeerNames()
        pointee.ruleNames.removeAll(keepingCapacity: true)
        judgeTunnelsAgain(snapshot)
        guard let before, before.policyGeneration == snapshot.policyGeneration,
            before.policyDigest == snapshot.policyDigest
        else { return judgeConnectionsAgain(snapshot) }
    }

    private func addListener(_ description: ListenerDescription, _ descriptor: Int32) {
        Socket.setNonBlocking(descriptor)
        if description.kind.isApplications { Socket.prepareApplication(descriptor) }
        let listener = ListenerPointer.allocate(capacity: 1)
        listener.initialize(to: Listener(description: description, descriptor: descriptor))
        pointee.listeners.append(listener)
        if !pointee.isOverloaded { setWatched(listener, true) }
        beat()
    }

    private func closeListeners(where matches: (ListenerDescription) -> Bool) {
        for listener in pointee.listeners where matches(listener.pointee.description) { close(listener) }
        pointee.listeners.removeAll { $0.pointee.isClosed }
    }

    /// Its cgroup is empty: an open socket would keep its network namespace alive.
    private func workloadGone(_ workload: WorkloadID) {
        var gone: [StreamPointer] = []
        var next = pointee.allStreams.first
        while let stream = next {
            next = stream.pointee.listNext
            if stream.pointee.workload == workload { gone.append(stream) }
        }
        for stream in gone { stream.abort(.MESH_REASON_WORKLOAD_GONE) }
        var ends: [RelayEndPointer] = []
        var nextEnd = pointee.firstRelayEnd
        while let end = nextEnd {
            nextEnd = end.pointee.listNext
            if end.pointee.workload == workload { ends.append(end) }
        }
        for end in ends where !end.isDead { end.endBoth(.MESH_REASON_WORKLOAD_GONE) }
        endNames(of: workload)
    }

    private func drain(_ deadline: UInt64, listenersStay: Bool) {
        pointee.drainDeadline = deadline
        pointee.drainStarted = pointee.now
        // What waits in them is taken by the process that has them now. Answers to what was asked here still go out.
        pointee.hasHeir = listenersStay
        if listenersStay {
            closeListeners { $0.kind != .names }
            for listener in pointee.listeners { setWatched(listener, false) }
        }
        drainTunnels()
        beat()
        pointee.nextSweep = pointee.now
    }

    /// Those that are still being set up, or that a connection waits for, follow once it is in them.
    func drainTunnels() {
        var next = pointee.firstTunnel
        while let tunnel = next {
            next = tunnel.pointee.listNext
            if tunnel.isOpen && tunnel.pointee.waitingCount == 0 { tunnel.drain() }
        }
    }

    private func giveListeners() {
        for listener in pointee.listeners where !listener.pointee.isClosed {
            let copy = fcntl(listener.pointee.descriptor, F_DUPFD_CLOEXEC, 0)
            guard copy >= 0 else { continue }
            pointee.reports.append(.listener(listener.pointee.description, descriptor: copy))
        }
    }

    // MARK: figures

    private func reportNow() {
        var tunnels: [TunnelStatus] = []
        var next = pointee.firstTunnel
        while let tunnel = next {
            next = tunnel.pointee.listNext
            if tunnel.isOpen { tunnels.append(status(of: tunnel)) }
        }
        pointee.shared.publish(pointee.counters, loop: pointee.index)
        pointee.reports.append(.tunnels(tunnels))
    }

    private func status(of tunnel: TunnelPointer) -> TunnelStatus {
        let statistics = Socket.statistics(of: tunnel.pointee.descriptor)
        return TunnelStatus(
            id: tunnel.pointee.id, isOutbound: tunnel.isClient, peerNode: tunnel.pointee.key.node,
            peer: tunnel.pointee.peer, localPrincipal: tunnel.pointee.localPrincipal,
            peerPrincipal: tunnel.pointee.peerPrincipal, streams: UInt32(clamping: tunnel.pointee.table.count),
            streamsTotal: tunnel.pointee.streamsTotal, rttMicroseconds: statistics.rtt_us,
            retransmits: statistics.retransmits, bytesSent: tunnel.pointee.bytesSent,
            bytesReceived: tunnel.pointee.bytesReceived, openedNanoseconds: tunnel.pointee.openedAt)
    }
}

extension ListenerDescription.Kind {
    /// Its connections are those of applications.
    fileprivate var isApplications: Bool { self == .outbound || self == .inbound }
}
