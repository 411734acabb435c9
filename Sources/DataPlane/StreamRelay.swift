import CLinux
import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel

// The application's side of a stream: reading for the scheduler, writing what the tunnel brings, FIN and reset.

extension UnsafeMutablePointer<Stream> {
    var isDead: Bool { pointee.flags.contains(.dead) }

    /// epoll reported a change on the application's socket.
    func socketReady(_ events: SocketEvents) {
        guard !isDead else { return }
        if pointee.phase == .connecting { return connectReady(events) }
        if events.contains(.output) {
            pointee.flags.insert(.writable)
            drainHeld()
            if isDead { return }
        }
        guard events.contains(.input) || events.hasAny(.ends) else { return }
        pointee.flags.insert(.readable)
        if events.hasAny(.ends) { pointee.flags.insert(.hangup) }
        if events.contains(.error) { pointee.flags.insert(.broken) }
        wantsToSend()
    }

    /// Puts the stream into its tunnel's scheduler if it may send now.
    func wantsToSend() {
        guard hasInput, pointee.flags.contains(.attached), let tunnel = pointee.tunnel, !pointee.state.isLocalEnded
        else { return resetIfBroken() }
        guard sendAllowance > 0 else { return resetIfBroken() }
        tunnel.pointee.scheduler.add(self)
        tunnel.markDirty()
    }

    /// Bytes that flow control and the state of the CONNECT let it send now.
    var sendAllowance: Int {
        let window = pointee.sendWindow.available
        if pointee.state.isOpen { return window }
        guard pointee.phase == .requested, let tunnel = pointee.tunnel else { return 0 }
        let early = UInt64(tunnel.pointee.settings.earlyDataBytes)
        return min(window, early > pointee.bytesToTunnel ? Int(early - pointee.bytesToTunnel) : 0)
    }

    /// A reset that can't be read, because the window is shut or the own direction is over, must not wait for it.
    private func resetIfBroken() {
        guard pointee.flags.contains(.broken) else { return }
        let isOver = pointee.state.isLocalEnded
        if isOver || (pointee.phase == .open && pointee.sendWindow.available == 0) || pointee.phase != .open {
            applicationReset()
        }
    }

    func applicationReset() {
        let action = pointee.state.event(.applicationReset)
        // Both directions may be over on the wire while held bytes were still to be written.
        if action == .none { return end(.MESH_REASON_APPLICATION_RESET, resets: true) }
        perform(action)
    }

    // MARK: towards the application

    /// Takes payload that came for it. The bytes are in the loop's input buffer: they are written or kept at the end of
    /// the batch.
    func deliver(_ payload: UnsafeRawBufferPointer) {
        guard let base = payload.baseAddress, payload.count > 0 else { return }
        let loop = pointee.loop
        if loop.pointee.batchStream != self || loop.pointee.batchCount == LoopState.vectorCount { loop.flushBatch() }
        if pointee.bytesFromTunnel == 0 && pointee.state.role == .client { noteFirstByte() }
        loop.pointee.batchStream = self
        loop.pointee.batch[loop.pointee.batchCount] = iovec(
            iov_base: UnsafeMutableRawPointer(mutating: base), iov_len: payload.count)
        loop.pointee.batchCount += 1
        loop.pointee.batchBytes += payload.count
    }

    func noteFirstByte() {
        pointee.firstByteMicroseconds = UInt32(
            clamping: max(1, (pointee.loop.pointee.now - pointee.openedAt) / 1_000))
    }

    /// Writes what is held, then FIN where it is due.
    func drainHeld() {
        let loop = pointee.loop
        while !pointee.held.isEmpty && pointee.flags.contains(.writable) {
            let count = pointee.held.describe(loop.pointee.vectors)
            let written = writev(pointee.descriptor, loop.pointee.vectors.baseAddress, Int32(count))
            if written < 0 {
                guard errno != EINTR else { continue }
                guard errno == EAGAIN else { return writeFailed() }
                pointee.flags.remove(.writable)
                break
            }
            pointee.held.consume(written, pool: &loop.pointee.chunks)
            pointee.progressAt = loop.pointee.now
            taken(written)
        }
        finishIfDue()
    }

    /// The application took bytes: the peer gets credit for them.
    func taken(_ count: Int) {
        pointee.bytesFromTunnel += UInt64(count)
        pointee.receiveWindow.consume(UInt32(truncatingIfNeeded: count))
        returnCredit()
    }

    func returnCredit() {
        guard pointee.flags.contains(.attached), !pointee.state.isRemoteEnded, let tunnel = pointee.tunnel else {
            return
        }
        let loop = pointee.loop
        let room = loop.pointee.withBudget { $0.roomToGrow }
        if room == .none { loop.pointee.hadNoCredit = true }
        let grown = pointee.receiveWindow.grown
        let increment = pointee.receiveWindow.credit(room)
        let growth = pointee.receiveWindow.grown - grown
        if growth > 0 { loop.pointee.withBudget { $0.grow(by: growth) } }
        if increment > 0 { tunnel.queueWindowUpdate(pointee.id, increment) }
    }

    /// The application's side does not take bytes any more. What it sent before its reset may still be there to read.
    func writeFailed() {
        let loop = pointee.loop
        pointee.flags.formUnion([.broken, .hangup, .readable])
        dropHeld()
        if loop.pointee.batchStream == self { loop.dropBatch() }
        wantsToSend()
    }

    func dropHeld() { pointee.held.removeAll(pool: &pointee.loop.pointee.chunks) }

    /// FIN or an orderly close, once nothing is held.
    func finishIfDue() {
        guard pointee.held.isEmpty, !isDead else { return }
        if pointee.flags.contains(.closeWanted) { return end(.MESH_REASON_NONE, resets: false) }
        if pointee.flags.contains(.finishWanted) && !pointee.flags.contains(.finished) && pointee.phase == .open {
            pointee.flags.insert(.finished)
            if shutdown(pointee.descriptor, Int32(SHUT_WR)) != 0 && errno == ENOTCONN { return applicationReset() }
        }
        if pointee.flags.contains(.finished) && pointee.state.isLocalEnded {
            end(.MESH_REASON_NONE, resets: false)
        }
    }

    // MARK: what the state machine asks for

    func perform(_ action: StreamState.Action) {
        switch action {
        case .none, .deliver, .discard, .sendEnd: break
        case .deliverAndFinish, .finishApplication:
            pointee.flags.insert(.finishWanted)
            finishIfDue()
        case .closeApplication:
            detach()
            pointee.flags.insert(.closeWanted)
            finishIfDue()
        case .sendRefusal(let reason):
            pointee.tunnel?.queueResponse(ConnectResponse.status(for: reason), pointee.id, endsStream: true)
            if !pointee.state.isRemoteEnded { pointee.tunnel?.queueReset(pointee.id, .noError) }
            end(reason, resets: true)
        case .sendReset(let code, let reason):
            if pointee.flags.contains(.attached) { pointee.tunnel?.queueReset(pointee.id, code) }
            end(reason, resets: true)
        case .resetApplication(let reason):
            end(reason, resets: true)
        case .resetBoth(let code, let reason):
            if pointee.flags.contains(.attached) { pointee.tunnel?.queueReset(pointee.id, code) }
            end(reason, resets: true)
        }
    }

    /// This end gives up.
    func abort(_ reason: Reason, _ code: ErrorCode = .cancel) {
        guard !isDead else { return }
        if pointee.phase == .waitingForTunnel { return end(reason, resets: true) }
        if pointee.state.role == .server && !pointee.state.isOpen && !pointee.state.isDead {
            return perform(pointee.state.event(.refused(reason)))
        }
        perform(pointee.state.event(.abort(HTTP2Fault(code, reason))))
        if !isDead { end(reason, resets: true) }
    }

    // MARK: the end

    /// Nothing of it goes over the wire any more.
    func detach() {
        guard pointee.flags.contains(.attached), let tunnel = pointee.tunnel else { return }
        pointee.flags.remove(.attached)
        tunnel.pointee.scheduler.remove(self)
        tunnel.pointee.table.remove(self)
        tunnel.streamDetached()
    }

    /// Closes the application's socket, in order or by reset, tells the record and frees the stream at the end of the
    /// turn.
    func end(_ reason: Reason, resets: Bool) {
        guard !isDead else { return }
        let loop = pointee.loop
        pointee.flags.insert(.dead)
        if loop.pointee.batchStream == self { loop.dropBatch() }
        detach()
        if pointee.flags.contains(.waiting) { loop.pointee.waitingForSockets.remove(self) }
        if let tunnel = pointee.tunnel { tunnel.streamEnded(self) }
        dropHeld()
        let grown = pointee.receiveWindow.grown
        if grown > 0 { loop.pointee.withBudget { $0.shrink(by: grown) } }
        disarm()
        report(reason)
        if let opening = pointee.opening { loop.free(opening) }
        pointee.opening = nil
        if pointee.descriptor >= 0 { loop.close(pointee.descriptor, resets: resets) }
        pointee.descriptor = -1
        loop.pointee.allStreams.remove(self)
        loop.pointee.counters.connections -= 1
        loop.pointee.endedStreams.append(self)
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

    func timerFired() {
        pointee.timer = nil
        guard !isDead else { return }
        switch pointee.phase {
        case .waitingForTunnel: abort(.MESH_REASON_TUNNEL_CONNECT_FAILED)
        case .requested: abort(.MESH_REASON_HEADERS_TIMEOUT)
        case .waitingForSocket: abort(.MESH_REASON_NO_DIAL_SOCKET)
        case .connecting: abort(.MESH_REASON_CONNECT_TIMEOUT)
        case .open: break
        }
    }
}

extension UnsafeMutablePointer<LoopState> {
    /// Writes the batch to its application; what is not taken is held.
    func flushBatch() {
        guard let stream = pointee.batchStream else { return }
        let (count, total) = (pointee.batchCount, pointee.batchBytes)
        pointee.batchStream = nil
        pointee.batchCount = 0
        pointee.batchBytes = 0
        guard !stream.isDead, !stream.pointee.flags.contains(.broken) else { return }
        var written = 0
        if stream.pointee.held.isEmpty && stream.pointee.flags.contains(.writable) {
            repeat {
                written = writev(stream.pointee.descriptor, pointee.batch.baseAddress, Int32(count))
            } while written < 0 && errno == EINTR
            if written < 0 {
                guard errno == EAGAIN else { return stream.writeFailed() }
                written = 0
            }
            if written < total { stream.pointee.flags.remove(.writable) }
            if written > 0 { stream.taken(written) }
        }
        if written < total { hold(stream, after: written, count: count) }
    }

    /// Forgets the batch: its stream ends.
    func dropBatch() {
        pointee.batchStream = nil
        pointee.batchCount = 0
        pointee.batchBytes = 0
    }

    private func hold(_ stream: StreamPointer, after written: Int, count: Int) {
        if stream.pointee.held.isEmpty { stream.pointee.progressAt = pointee.now }
        var skip = written
        for index in 0..<count {
            let vector = pointee.batch[index]
            let step = min(skip, vector.iov_len)
            skip -= step
            guard step < vector.iov_len, let base = vector.iov_base else { continue }
            stream.pointee.held.append(base + step, count: vector.iov_len - step, pool: &pointee.chunks)
        }
        if pointee.withBudget({ $0.isExceeded }) { resetLargestHolders() }
    }

    func free(_ opening: UnsafeMutablePointer<Opening>) {
        opening.pointee.early.removeAll(pool: &pointee.chunks)
        opening.deinitialize(count: 1)
        pointee.openings.give(opening)
    }

    /// The watch goes first: whoever passed the socket may still hold a copy, and as long as one is open the kernel
    /// would go on to report it with a pointer to a record that is gone.
    func close(_ descriptor: Int32, resets: Bool) {
        unwatch(descriptor)
        if resets { clinux_close_with_reset(descriptor) } else { _ = Glibc.close(descriptor) }
        pointee.shared.descriptors.remove()
    }
}
