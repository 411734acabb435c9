import CLinux
import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import OpenSSLTLS

// What goes into a tunnel: control frames first, then streams in the scheduler's order, read from their applications
// straight behind their frame headers, sealed in full TLS records and written once a turn.

extension UnsafeMutablePointer<Tunnel> {
    /// DATA payload that fills a TLS record together with its header.
    private static var recordPayload: Int { 16_384 - FrameHeader.size }
    /// A bulk stream's turn when many of them are waiting.
    private static var quantumMin: Int { 16_384 }

    /// One turn in the loop.
    func serve() {
        guard !isDead else { return }
        if pointee.phase == .handshaking { handshake() }
        guard isOpen else { return }
        pointee.buffersUsedAt = pointee.loop.pointee.now
        if pointee.flags.contains(.readable) { readAll() }
        if isDead { return }
        pump()
        endIfDrained()
    }

    /// Moves what there is to move and writes it.
    func pump() {
        guard isOpen else { return }
        let output = pointee.loop.pointee.output
        guard let base = output.baseAddress else { return }
        var filled = takeControl(into: base, 0)
        var turns = pointee.scheduler.count
        while turns > 0, !isDead, backlog + filled <= pointee.queueBound, pointee.flags.contains(.writable) {
            guard pointee.sendWindow.available > 0, let stream = pointee.scheduler.next(quantum: quantum) else { break }
            turns -= 1
            filled += send(stream, to: base + filled)
            if filled >= LoopState.batchSize { filled = seal(base, filled) }
        }
        if isDead { return }
        filled = takeControl(into: base, filled)
        _ = seal(base, filled)
        if isDead { return }
        flush()
        if isDead { return }
        settleCharge()
        let hasWork = !pointee.scheduler.isEmpty && pointee.sendWindow.available > 0
        if (hasWork && backlog <= pointee.queueBound || !pointee.control.isEmpty)
            && pointee.flags.contains(.writable)
        {
            markDirty()
        }
    }

    /// Ciphertext that the kernel has not taken.
    var backlog: Int { pointee.tls?.pendingCount ?? 0 }

    private var quantum: Int32 {
        let share = pointee.queueBound / (pointee.scheduler.count + 1)
        return Int32(truncatingIfNeeded: min(max(share, Self.quantumMin), LoopState.quantumMax))
    }

    private func takeControl(into base: UnsafeMutableRawPointer, _ start: Int) -> Int {
        var filled = start
        let loop = pointee.loop
        while !pointee.control.isEmpty {
            let room = LoopState.outputSize - filled
            filled += pointee.control.take(into: base + filled, room: room, pool: &loop.pointee.chunks)
            if filled >= LoopState.batchSize { filled = seal(base, filled) }
            if isDead { return 0 }
        }
        return filled
    }

    /// One stream's turn: reads from its application into `target` and returns the bytes of frames written there.
    private func send(_ stream: StreamPointer, to target: UnsafeMutableRawPointer) -> Int {
        let allowance = min(stream.sendAllowance, pointee.sendWindow.available)
        let wanted = min(allowance, Int(stream.pointee.deficit))
        guard wanted > 0, !stream.isDead, stream.hasInput else {
            // Bulk that has used its deficit comes again; a shut window brings it back by WINDOW_UPDATE.
            let hasMore = stream.sendAllowance > 0 && stream.hasInput
            pointee.scheduler.served(stream, bytes: 0, hasMore: hasMore)
            return 0
        }
        let payload = min(Self.recordPayload, Int(pointee.settings.maxFrameSize))
        if stream.pointee.flags.contains(.repeats) { return repeatEarly(stream, to: target, min(wanted, payload)) }
        let loop = pointee.loop
        let (vectors, room) = describe(target, wanted: wanted, payload: payload)
        var count = 0
        repeat {
            count = readv(stream.pointee.descriptor, loop.pointee.vectors.baseAddress, Int32(vectors))
        } while count < 0 && errno == EINTR
        if count > 0 { return sent(stream, count, of: room, at: target, payload: payload) }
        if count < 0 && errno == EAGAIN {
            stream.pointee.flags.remove(.readable)
            pointee.scheduler.served(stream, bytes: 0, hasMore: false)
            return 0
        }
        pointee.scheduler.served(stream, bytes: 0, hasMore: false)
        stream.pointee.flags.remove(.readable)
        guard count == 0, !stream.pointee.flags.contains(.broken) else {
            stream.applicationReset()
            return 0
        }
        return sendEnd(stream, to: target)
    }

    /// Room for frames of `payload` bytes behind each other, their headers left out.
    private func describe(
        _ target: UnsafeMutableRawPointer, wanted: Int, payload: Int
    ) -> (vectors: Int, bytes: Int) {
        let vectors = pointee.loop.pointee.vectors
        var index = 0
        var room = 0
        var cursor = target
        while room < wanted && index < vectors.count {
            let step = min(payload, wanted - room)
            vectors[index] = iovec(iov_base: cursor + FrameHeader.size, iov_len: step)
            cursor += FrameHeader.size + step
            room += step
            index += 1
        }
        return (index, room)
    }

    private func sent(
        _ stream: StreamPointer, _ count: Int, of room: Int, at target: UnsafeMutableRawPointer, payload: Int
    ) -> Int {
        if stream.pointee.bytesToTunnel == 0 && !isClient { stream.noteFirstByte() }
        // Less than was asked for: the socket is empty, and the next byte is an edge; unless the end is there already.
        if count < room && !stream.pointee.flags.contains(.hangup) { stream.pointee.flags.remove(.readable) }
        let isEarly = !stream.pointee.state.isOpen
        var cursor = target
        var rest = count
        while rest > 0 {
            let step = min(rest, payload)
            FrameWriter.dataHeader(length: step, streamID: stream.pointee.id, endsStream: false, to: cursor)
            pointee.limits.dataSent()
            if isEarly { stream.keepEarly(cursor + FrameHeader.size, step) }
            cursor += FrameHeader.size + step
            rest -= step
        }
        spent(count, by: stream)
        return cursor - target
    }

    /// Takes bytes that went out off the windows, and off the stream's turn.
    private func spent(_ count: Int, by stream: StreamPointer) {
        stream.pointee.bytesToTunnel += UInt64(count)
        stream.pointee.sendWindow.spend(count)
        pointee.sendWindow.spend(count)
        let hasMore = stream.hasInput && stream.sendAllowance > 0
        pointee.scheduler.served(stream, bytes: count, hasMore: hasMore)
        if !hasMore { stream.wantsToSend() }
    }

    /// One frame of what the stream has said in a tunnel that refused it.
    private func repeatEarly(_ stream: StreamPointer, to target: UnsafeMutableRawPointer, _ room: Int) -> Int {
        let count = stream.takeEarly(into: target + FrameHeader.size, room: room)
        FrameWriter.dataHeader(length: count, streamID: stream.pointee.id, endsStream: false, to: target)
        pointee.limits.dataSent()
        spent(count, by: stream)
        return FrameHeader.size + count
    }

    private func sendEnd(_ stream: StreamPointer, to target: UnsafeMutableRawPointer) -> Int {
        guard stream.pointee.state.event(.applicationFinished) == .sendEnd else { return 0 }
        FrameWriter.dataHeader(length: 0, streamID: stream.pointee.id, endsStream: true, to: target)
        _ = stream.pointee.state.event(.endSent)
        stream.detachIfClosed()
        stream.finishIfDue()
        return FrameHeader.size
    }

    /// Encrypts what is in the output buffer, which is empty then.
    private func seal(_ base: UnsafeMutableRawPointer, _ count: Int) -> Int {
        guard count > 0 else { return 0 }
        pointee.bytesSent += UInt64(count)
        pointee.loop.pointee.counters.bytesToTunnels += UInt64(count)
        if let failure = pointee.tls?.write(UnsafeRawBufferPointer(start: base, count: count)) { end(failure.reason) }
        return 0
    }

    /// Writes ciphertext until the kernel takes no more.
    func flush() {
        let now = pointee.loop.pointee.now
        while backlog > 0 && pointee.flags.contains(.writable) {
            guard let pending = pointee.tls?.pending else { return }
            let written = Glibc.send(
                pointee.descriptor, pending.baseAddress, pending.count, Int32(MSG_NOSIGNAL))
            if written < 0 {
                if errno == EINTR { continue }
                guard errno == EAGAIN else { return connectionBroke() }
                pointee.flags.remove(.writable)
                if pointee.stalledAt == 0 {
                    pointee.stalledAt = now
                    pointee.stalledBytes = backlog
                }
                return
            }
            pointee.tls?.consume(written)
        }
        if backlog == 0 { drained(now) }
    }

    /// The queue's bound follows the rate at which it drains: about 20 ms of it may wait here.
    private func drained(_ now: UInt64) {
        guard pointee.stalledAt != 0 else {
            pointee.queueBound = min(pointee.queueBound * 2, Tunnel.queueBoundMax)
            return
        }
        let elapsed = max(now - pointee.stalledAt, 1_000)
        let bytesPer20ms = UInt64(pointee.stalledBytes) * 20_000_000 / elapsed
        pointee.queueBound = min(max(Int(clamping: bytesPer20ms), Tunnel.queueBoundMin), Tunnel.queueBoundMax)
        pointee.stalledAt = 0
    }

    /// The tunnel has been idle for a while: the TLS library's buffers go back.
    func releaseBuffers() {
        guard pointee.buffersUsedAt != 0, pointee.tls?.releaseBuffers() ?? true else { return }
        pointee.buffersUsedAt = 0
        settleCharge()
    }

    /// Tells the budget what TLS and the carry hold now.
    func settleCharge() {
        let held = backlog + pointee.carryCount + (pointee.buffersUsedAt != 0 ? Tunnel.tlsBuffersSize : 0)
        guard held != pointee.charged else { return }
        let change = held - pointee.charged
        pointee.loop.pointee.withBudget { if change > 0 { $0.take(change) } else { $0.give(-change) } }
        pointee.charged = held
    }
}
