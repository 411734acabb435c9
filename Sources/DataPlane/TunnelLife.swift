import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import OpenSSLTLS
import ProxyControl
import Synchronization

// A tunnel's beginning (connect, handshake, preface) and its ends (fault, loss, drain, idleness).

extension UnsafeMutablePointer<Tunnel> {
    func socketReady(_ events: SocketEvents) {
        guard !isDead else { return }
        if events.contains(.output) { pointee.flags.insert(.writable) }
        if events.contains(.input) || events.hasAny(.ends) {
            pointee.flags.insert(.readable)
            pointee.tls?.noteReadable(isEnd: events.hasAny(.ends))
        }
        if pointee.phase == .connecting {
            guard events.isConnectOutcome else { return }
            return connected(Socket.error(of: pointee.descriptor))
        }
        markDirty()
    }

    // MARK: client

    /// connect() has ended.
    func connected(_ code: Int32) {
        guard code == 0 else { return dialFailed(code, .MESH_REASON_TUNNEL_CONNECT_FAILED) }
        let loop = pointee.loop
        guard
            let tls = loop.pointee.identities.connect(
                client: pointee.localPrincipal, server: pointee.peerPrincipal, descriptor: pointee.descriptor,
                loop.pointee.tlsBuffers)
        else { return end(.MESH_REASON_NO_CERTIFICATE) }
        pointee.tls = consume tls
        pointee.phase = .handshaking
        arm(after: patience(loop.pointee.settings.handshakeTimeout))
        pointee.flags.insert(.readable)
        markDirty()
    }

    /// The node did not answer: everything that waits is reset, and the node is probed until it does.
    func dialFailed(_ code: Int32, _ reason: Reason) {
        let loop = pointee.loop
        // One more than there are was not to be had: what waits for it goes elsewhere.
        if pointee.isAdded { return end(reason) }
        if loop.dialOtherFamily(self, reason) { return }
        let (key, isProbe) = (pointee.key, pointee.flags.contains(.probe))
        end(reason)
        loop.nodeFailed(key, errno: code, reason, isProbe: isProbe)
    }

    // MARK: handshake

    func handshake() {
        guard pointee.flags.contains(.readable) || backlog > 0 else { return }
        pointee.flags.remove(.readable)
        let progress = pointee.tls?.handshake() ?? .failed(.closed)
        flush()
        if isDead { return }
        switch progress {
        case .wantRead, .wantWrite: break
        case .failed(let failure): handshakeFailed(failure)
        case .done:
            pointee.loop.pointee.counters.handshakesTotal += 1
            // Application data may have come with the last flight.
            pointee.flags.insert(.readable)
            isClient ? openedAsClient() : openedAsServer()
        }
    }

    /// The kernel takes no more bytes. Before the handshake is over, it is as if the peer had never answered.
    func connectionBroke() {
        guard isClient && pointee.phase == .handshaking else { return end(.MESH_REASON_TUNNEL_LOST) }
        dialFailed(ECONNRESET, .MESH_REASON_TUNNEL_CONNECT_FAILED)
    }

    private func handshakeFailed(_ failure: TLSFailure) {
        if isClient && failure.isConnectionLoss { return connectionBroke() }
        refusePeer(failure.reason, subject: pointee.tls?.serverName ?? "")
        end(failure.reason)
    }

    private func openedAsClient() {
        let loop = pointee.loop
        guard let encoder = HeaderEncoder() else { return end(.MESH_REASON_MEMORY_BUDGET) }
        pointee.headerEncoder = consume encoder
        opened()
        guard !isDead else { return }
        queueClientPreface()
        queueSettings(TunnelSettings.client)
        queueWindowUpdate(0, pointee.receiveWindow.start())
        if pointee.isAdded { loop.pointee.counters.tunnelsUnderLossTotal += 1 }
        loop.nodeAnswered(pointee.key.node, at: pointee.peer.address)
        loop.placeWaiting(self)
    }

    private func openedAsServer() {
        let loop = pointee.loop
        guard let snapshot = loop.pointee.snapshot else {
            refusePeer(.MESH_REASON_SNAPSHOT_MISSING, subject: "")
            return end(.MESH_REASON_SNAPSHOT_MISSING)
        }
        pointee.peerPrincipal = pointee.tls?.peerPrincipal ?? ""
        pointee.localPrincipal = pointee.tls?.localPrincipal ?? ""
        opened()
        guard !isDead else { return }
        queueSettings(TunnelSettings.server(.other))
        queueWindowUpdate(0, pointee.receiveWindow.start())
        if let denial = loop.admitPeer(self, snapshot) {
            fail(HTTP2Fault(.inadequateSecurity, denial))
        }
    }

    private func opened() {
        guard let decoder = HeaderDecoder() else { return end(.MESH_REASON_MEMORY_BUDGET) }
        pointee.headerDecoder = consume decoder
        pointee.phase = .open
        disarm()
        pointee.idleSince = pointee.loop.pointee.now
        pointee.loop.pointee.counters.tunnelsTotal += 1
        pointee.loop.pointee.counters.tunnels += 1
        markDirty()
    }

    /// Tells the operator whom a listener or a dial turned away.
    func refusePeer(_ reason: Reason, subject: String) {
        let loop = pointee.loop
        loop.pointee.reports.append(
            .refused(
                PeerRefusal(
                    reason: reason, peer: pointee.peer,
                    principal: pointee.phase == .open ? pointee.peerPrincipal : "",
                    subject: String(subject.prefix(256)))))
    }

    // MARK: streams that come and go

    /// A stream has left the table.
    func streamDetached() {
        if pointee.table.count == 0 { pointee.idleSince = pointee.loop.pointee.now }
        if pointee.flags.contains(.closing) { markDirty() }
        if isClient { pointee.loop.roomInTunnel(self) }
    }

    /// A stream that named this tunnel is over, its application's socket included.
    func streamEnded(_ stream: StreamPointer) {
        if stream.pointee.phase == .waitingForTunnel {
            pointee.waiting.remove(stream)
            pointee.waitingCount -= 1
        }
        if stream.pointee.flags.contains(.counted) { pointee.limits.streamEnded() }
        stream.pointee.tunnel = nil
    }

    // MARK: ends

    /// The peer broke a rule: it is told, and everything in the tunnel is lost.
    func fail(_ fault: HTTP2Fault) {
        guard !isDead else { return }
        if pointee.phase == .open {
            queueGoAway(pointee.peerStreams.highest, fault)
            pump()
        }
        guard !isDead else { return }
        if !isClient { refusePeer(fault.reason, subject: "") }
        endCounted(fault.reason)
    }

    /// Ends for what the peer did or failed to do: that is counted, with streams in the tunnel or without.
    func endCounted(_ reason: Reason) {
        if pointee.phase == .open && pointee.table.count == 0 { pointee.loop.pointee.counters.count(reason) }
        end(reason)
    }

    /// Closes the tunnel now. What is in it is reset with `reason`; without streams it is an orderly end.
    func end(_ reason: Reason) {
        guard !isDead else { return }
        let loop = pointee.loop
        pointee.flags.insert(.dead)
        disarm()
        if pointee.phase == .open {
            loop.pointee.counters.tunnels -= 1
            if pointee.table.count > 0 { loop.pointee.counters.count(reason) }
        } else {
            loop.pointee.counters.count(reason)
        }
        loop.leavePool(self)
        if pointee.isAdded && pointee.phase != .open { loop.moveToOthers(self) }
        if pointee.flags.contains(.probe) && pointee.phase != .open { loop.probeEnded(pointee.key.node) }
        loseStreams(reason)
        pointee.control.removeAll(pool: &loop.pointee.chunks)
        pointee.carry?.deallocate()
        pointee.carry = nil
        pointee.table.free()
        loop.pointee.shared.budget.give(pointee.charged)
        pointee.charged = 0
        pointee.tls?.close()
        pointee.tls = nil
        if pointee.descriptor >= 0 { loop.close(pointee.descriptor, resets: false) }
        pointee.descriptor = -1
        loop.removeFromList(self)
        loop.pointee.shared.tunnelCount.subtract(1, ordering: .relaxed)
        loop.pointee.endedTunnels.append(self)
    }

    private func loseStreams(_ reason: Reason) {
        let loop = pointee.loop
        for stream in pointee.table.all() {
            stream.pointee.flags.remove(.attached)
            pointee.scheduler.remove(stream)
            pointee.table.remove(stream)
            if stream.isRetriable && reason == .MESH_REASON_NONE {
                stream.retry()
                continue
            }
            let action = stream.pointee.state.event(.tunnelLost)
            if case .resetApplication = action {
                stream.end(reason == .MESH_REASON_NONE ? .MESH_REASON_TUNNEL_LOST : reason, resets: true)
            }
        }
        while let stream = pointee.waiting.popFirst() {
            pointee.waitingCount -= 1
            stream.pointee.tunnel = nil
            stream.end(reason == .MESH_REASON_NONE ? .MESH_REASON_TUNNEL_LOST : reason, resets: true)
        }
        // What only finishes its application's side goes on without a tunnel.
        var next = loop.pointee.allStreams.first
        while let stream = next {
            next = stream.pointee.listNext
            if stream.pointee.tunnel == self { stream.pointee.tunnel = nil }
        }
    }

    /// Takes no new streams; the tunnel closes when the last one is over.
    func drain() {
        guard isOpen else { return isDead ? () : end(.MESH_REASON_NONE) }
        guard !pointee.flags.contains(.drainAnnounced) else { return }
        pointee.flags.insert(.drainAnnounced)
        pointee.drainedAt = pointee.loop.pointee.now
        if isClient {
            pointee.flags.formUnion([.closing, .drained])
            pointee.loop.leavePool(self)
            queueGoAway(0, nil)
        } else {
            // Streams that are on their way are still taken: the last identifier follows (RFC 9113 section 6.8).
            queueGoAway(FrameHeader.streamIDMax, nil)
        }
        markDirty()
    }

    /// The second GOAWAY of a drain, a second after the first.
    func finishDrain() {
        guard isOpen, pointee.flags.contains(.drainAnnounced), !pointee.flags.contains(.drained) else { return }
        pointee.flags.formUnion([.closing, .drained])
        queueGoAway(pointee.peerStreams.highest, nil)
        markDirty()
    }

    /// A closing tunnel without streams ends once all is written.
    func endIfDrained() {
        guard isOpen, pointee.flags.contains(.closing), pointee.table.count == 0, pointee.waitingCount == 0,
            pointee.control.isEmpty, backlog == 0
        else { return }
        end(.MESH_REASON_NONE)
    }

    func timerFired() {
        pointee.timer = nil
        guard !isDead else { return }
        switch pointee.phase {
        case .waitingForSocket: end(.MESH_REASON_NO_DIAL_SOCKET)
        case .connecting: dialFailed(ETIMEDOUT, .MESH_REASON_TUNNEL_CONNECT_FAILED)
        case .handshaking:
            if isClient { return dialFailed(ETIMEDOUT, .MESH_REASON_HANDSHAKE_TIMEOUT) }
            refusePeer(.MESH_REASON_HANDSHAKE_TIMEOUT, subject: "")
            end(.MESH_REASON_HANDSHAKE_TIMEOUT)
        case .open: break
        }
    }

    func arm(after nanoseconds: UInt64) {
        disarm()
        let loop = pointee.loop
        pointee.timer = loop.pointee.timers.arm(deadline: loop.pointee.now + nanoseconds, owner: self)
    }

    func disarm() {
        guard let timer = pointee.timer else { return }
        pointee.loop.pointee.timers.disarm(timer)
        pointee.timer = nil
    }
}
