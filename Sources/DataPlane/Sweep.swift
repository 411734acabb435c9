import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import LinuxIO
import MeshModel
import OpenSSLTLS
import ProxyControl
import Synchronization

// What a loop looks after a few times a second: overload and its end, tunnels that are idle, silent or draining, peers
// that hold memory too long, figures for the control thread.

extension UnsafeMutablePointer<LoopState> {
    private static var sweepInterval: UInt64 { 250_000_000 }

    func sweep() {
        pointee.nextSweep = pointee.now + Self.sweepInterval
        judgeOverload()
        sweepTunnels()
        pointee.tlsBuffers.pointee.trim()
        if pointee.hadNoCredit && pointee.shared.budget.room != .none { returnCredit() }
        if pointee.shared.budget.isTight { endSlowHolders() }
        if pointee.shared.budget.isExceeded { resetLargestHolders() }
        probeNodes()
        forgetLosses()
        judgeDrain()
        pointee.shared.publish(pointee.counters, loop: pointee.index)
    }

    // MARK: overload

    /// At 90 % of descriptors or memory: take nothing on, say so in the beats, close idle tunnels. Ends by itself.
    func judgeOverload() {
        let shared = pointee.shared
        if pointee.isOverloaded {
            guard shared.descriptors.isRelaxed && !shared.budget.isTight else { return refuseBacklog() }
            pointee.isOverloaded = false
            for listener in pointee.listeners { setWatched(listener, true) }
            return beat()
        }
        guard shared.isOverloaded else { return }
        pointee.isOverloaded = true
        for listener in pointee.listeners { setWatched(listener, false) }
        var next = pointee.firstTunnel
        while let tunnel = next {
            next = tunnel.pointee.listNext
            if tunnel.isOpen && tunnel.pointee.table.count == 0 && tunnel.pointee.waitingCount == 0 { tunnel.drain() }
        }
        beat()
    }

    func setWatched(_ listener: ListenerPointer, _ isWanted: Bool) {
        let isWanted = isWanted && !listener.pointee.isClosed
        guard isWanted != listener.pointee.isWatched else { return }
        listener.pointee.isWatched = isWanted
        if isWanted {
            watch(listener.pointee.descriptor, .input, listener)
        } else {
            unwatch(listener.pointee.descriptor)
        }
    }

    /// Tells the connect hook that this loop lives and how it is.
    func beat() {
        pointee.nextBeat = pointee.now + pointee.settings.beatInterval
        if pointee.hasHeir { return }
        let state: mesh_listener_state =
            pointee.drainDeadline != nil
            ? .MESH_LISTENER_DRAINING : pointee.isOverloaded ? .MESH_LISTENER_OVERLOADED : .MESH_LISTENER_SERVING
        for listener in pointee.listeners where listener.pointee.description.kind != .tunnel {
            _ = pointee.shared.kernel.beat(listener.pointee.descriptor, state)
        }
    }

    // MARK: tunnels

    private func sweepTunnels() {
        let settings = pointee.settings
        let now = pointee.now
        if pointee.drainDeadline != nil { drainTunnels() }
        var next = pointee.firstTunnel
        while let tunnel = next {
            next = tunnel.pointee.listNext
            guard tunnel.isOpen else { continue }
            if tunnel.pointee.flags.contains(.pingSent), now >= tunnel.pointee.pingAt + settings.pingTimeout,
                now >= tunnel.pointee.receivedAt + settings.pingTimeout
            {
                tunnel.endCounted(.MESH_REASON_PING_TIMEOUT)
                continue
            }
            if now >= tunnel.pointee.receivedAt + settings.pingInterval, !tunnel.pointee.flags.contains(.pingSent) {
                tunnel.pointee.flags.insert(.pingSent)
                tunnel.pointee.pingAt = now
                tunnel.queuePing(now, isAcknowledgement: false)
            }
            if tunnel.pointee.flags.contains(.insideHeaders),
                now >= tunnel.pointee.headersSince + settings.headersTimeout
            {
                tunnel.fail(HTTP2Fault(.enhanceYourCalm, .MESH_REASON_HEADERS_TIMEOUT))
                continue
            }
            if tunnel.pointee.decoder.isOpening, now >= tunnel.pointee.openedAt + 2 * settings.handshakeTimeout {
                tunnel.fail(HTTP2Fault(.settingsTimeout, .MESH_REASON_HEADERS_TIMEOUT))
                continue
            }
            if tunnel.pointee.control.count > Tunnel.controlBytesMax {
                tunnel.endCounted(.MESH_REASON_SLOW_PEER)
                continue
            }
            if tunnel.pointee.buffersUsedAt + Self.sweepInterval <= now { tunnel.releaseBuffers() }
            noteLoad(tunnel)
            sweepIdle(tunnel, settings, now)
        }
    }

    /// Notes what the path carries, and tells the other loops when they had better open a tunnel of their own for this
    /// key.
    private func noteLoad(_ tunnel: TunnelPointer) {
        guard tunnel.isClient else { return }
        let moved = tunnel.pointee.bytesSent + tunnel.pointee.bytesReceived
        let sweep = moved - tunnel.pointee.sweptBytes
        tunnel.pointee.sweptBytes = moved
        notePath(tunnel, moved: sweep)
        let isBusy = sweep > Tunnel.busyBytesPerSweep || tunnel.pointee.stalledAt != 0
        guard isBusy != tunnel.pointee.flags.contains(.busy) else { return }
        if isBusy { tunnel.pointee.flags.insert(.busy) } else { tunnel.pointee.flags.remove(.busy) }
        noteLoad(of: tunnel.pointee.key)
    }

    /// One busy tunnel is enough.
    func noteLoad(of key: TunnelKey) {
        let isBusy = pointee.pool[key]?.tunnels.contains { $0.pointee.flags.contains(.busy) } ?? false
        pointee.shared.directory.setBusy(key, isBusy, loop: pointee.index)
    }

    private func sweepIdle(_ tunnel: TunnelPointer, _ settings: LoopSettings, _ now: UInt64) {
        if tunnel.pointee.flags.contains(.drainAnnounced) {
            if now >= tunnel.pointee.drainedAt + 1_000_000_000 { tunnel.finishDrain() }
            return
        }
        guard tunnel.pointee.table.count == 0, tunnel.pointee.waitingCount == 0 else { return }
        // The client closes first: it knows best whether it will need the tunnel.
        let limit = tunnel.isClient ? settings.idleTunnelTimeout : settings.idleTunnelTimeout / 10 * 11
        if now >= tunnel.pointee.idleSince + limit { tunnel.drain() }
    }

    // MARK: memory

    /// The budget has room again: streams that got no credit get what they are owed.
    private func returnCredit() {
        pointee.hadNoCredit = false
        var next = pointee.allStreams.first
        while let stream = next {
            next = stream.pointee.listNext
            stream.returnCredit()
        }
    }

    /// While memory is short, nobody may hold it without taking any of it for long.
    private func endSlowHolders() {
        var slow: [StreamPointer] = []
        var next = pointee.allStreams.first
        while let stream = next {
            next = stream.pointee.listNext
            guard !stream.pointee.held.isEmpty, stream.pointee.phase == .open,
                pointee.now >= stream.pointee.progressAt + pointee.settings.slowPeerTimeout
            else { continue }
            slow.append(stream)
        }
        for stream in slow { stream.abort(.MESH_REASON_SLOW_PEER, .enhanceYourCalm) }
    }

    /// Past the budget: those that hold most go, until this loop has given back its share.
    func resetLargestHolders() {
        let budget = pointee.shared.budget
        while budget.isExceeded {
            var largest: StreamPointer?
            var next = pointee.allStreams.first
            while let stream = next {
                next = stream.pointee.listNext
                if stream.pointee.held.count > largest?.pointee.held.count ?? 0 { largest = stream }
            }
            guard let largest else { return }
            largest.abort(.MESH_REASON_MEMORY_BUDGET, .enhanceYourCalm)
        }
    }

    // MARK: the end

    private func judgeDrain() {
        guard let deadline = pointee.drainDeadline else { return }
        if pointee.now >= deadline { closeEverything(.MESH_REASON_DRAIN_DEADLINE) }
        // The connect hook knows by now that this proxy drains; what is still in the backlogs is served.
        if pointee.now >= pointee.drainStarted + 2 * pointee.settings.beatInterval,
            !pointee.hasHeir || pointee.names.isIdle
        {
            for listener in pointee.listeners {
                if !pointee.hasHeir { serve(listener) }
                close(listener)
            }
            pointee.listeners = []
        }
        // Another loop may have handed a connection over before it knew.
        guard pointee.now >= pointee.drainStarted + 2 * pointee.settings.beatInterval else { return }
        let isEmpty =
            pointee.counters.connections == 0 && pointee.firstTunnel == nil && pointee.listeners.isEmpty
            && pointee.names.isIdle
        guard isEmpty, !pointee.isDrainReported else { return }
        pointee.isDrainReported = true
        pointee.reports.append(.drained(loop: pointee.index))
    }

    /// Resets every connection and closes every tunnel.
    func closeEverything(_ reason: Reason) {
        while let stream = pointee.allStreams.first {
            stream.abort(reason)
            if !stream.isDead { stream.end(reason, resets: true) }
        }
        while let end = pointee.firstRelayEnd { end.endBoth(reason) }
        endNames(reason)
        while let tunnel = pointee.firstTunnel {
            if tunnel.isOpen {
                if !tunnel.pointee.flags.contains(.drained) {
                    tunnel.queueGoAway(tunnel.pointee.peerStreams.highest, nil)
                }
                tunnel.pump()
            }
            tunnel.end(.MESH_REASON_NONE)
        }
    }
}
