import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import OpenSSLTLS

// What comes out of a tunnel: TLS records into the loop's input buffer, frames out of that, payload on to applications.

extension UnsafeMutablePointer<Tunnel> {
    /// Buffers of input before other tunnels have their turn.
    private static var roundsPerTurn: Int { 4 }

    func readAll() {
        var rounds = Self.roundsPerTurn
        while pointee.flags.contains(.readable) && rounds > 0 && isOpen {
            rounds -= 1
            readOnce()
        }
        if isDead { return }
        let increment = pointee.receiveWindow.credit()
        if increment > 0 { queueWindowUpdate(0, increment) }
        if pointee.flags.contains(.endOfInput) { return end(.MESH_REASON_TUNNEL_LOST) }
        if pointee.flags.contains(.readable) { markDirty() }
    }

    private func readOnce() {
        let input = pointee.loop.pointee.input
        var filled = takeCarry(into: input)
        let before = filled
        var failure: TLSFailure?
        reading: while filled < LoopState.inputReadMax || pointee.tls?.hasReceived ?? false, filled < input.count {
            let room = UnsafeMutableRawBufferPointer(rebasing: input[filled...])
            switch pointee.tls?.read(into: room) ?? .closed {
            case .bytes(let count): filled += count
            case .wouldBlock:
                pointee.flags.remove(.readable)
                break reading
            case .closed:
                pointee.flags.remove(.readable)
                pointee.flags.insert(.endOfInput)
                break reading
            case .failed(let cause):
                failure = cause
                break reading
            }
        }
        if filled > before {
            pointee.receivedAt = pointee.loop.pointee.now
            pointee.bytesReceived += UInt64(filled - before)
            pointee.loop.pointee.counters.bytesFromTunnels += UInt64(filled - before)
        }
        let used = parse(UnsafeRawBufferPointer(rebasing: input[..<filled]))
        if isDead { return }
        keepCarry(UnsafeRawBufferPointer(rebasing: input[used..<filled]))
        if let failure { end(failure.isConnectionLoss ? .MESH_REASON_TUNNEL_LOST : failure.reason) }
    }

    /// Returns how many bytes were used up.
    private func parse(_ bytes: UnsafeRawBufferPointer) -> Int {
        let loop = pointee.loop
        var offset = 0
        while !isDead {
            let event = pointee.decoder.next(in: bytes, offset: &offset)
            if case .incomplete = event { break }
            handle(event)
        }
        loop.flushBatch()
        noteHeaderBlock()
        return offset
    }

    private func handle(_ event: FrameEvent) {
        let now = pointee.loop.pointee.now
        if case .data(let fragment) = event { return dataCame(fragment) }
        // What was delivered must be with the application before an end or a reset is.
        pointee.loop.flushBatch()
        switch event {
        case .incomplete, .data: break
        case .headers(let fragment): headersCame(fragment)
        case .reset(let streamID, let code): resetCame(streamID, code)
        case .settings(let list): settingsCame(list)
        case .settingsAcknowledged: check(pointee.limits.ignoredFrame(now: now))
        case .ping(let payload, let isAcknowledgement):
            if isAcknowledgement {
                pointee.flags.remove(.pingSent)
                check(pointee.limits.ignoredFrame(now: now))
            } else if check(pointee.limits.ping(now: now)) {
                queuePing(payload, isAcknowledgement: true)
            }
        case .goAway(let lastStreamID, _, _): goAwayCame(lastStreamID)
        case .windowUpdate(let streamID, let increment): windowUpdateCame(streamID, increment)
        case .ignored: check(pointee.limits.ignoredFrame(now: now))
        case .streamFault(let streamID, let fault): resetForFault(streamID, fault)
        case .connectionFault(let fault): fail(fault)
        }
    }

    /// False where the peer went too far and the tunnel is gone.
    @discardableResult
    private func check(_ fault: HTTP2Fault?) -> Bool {
        guard let fault else { return true }
        fail(fault)
        return false
    }

    // MARK: frames

    private func dataCame(_ fragment: DataFragment) {
        let loop = pointee.loop
        guard check(pointee.receiveWindow.receive(fragment.flowControlledBytes)) else { return }
        if fragment.isEmptyFrame && !check(pointee.limits.emptyData(now: loop.pointee.now)) { return }
        guard let stream = pointee.table.find(fragment.streamID) else {
            if isIdle(fragment.streamID) { fail(.protocolError) }
            return
        }
        if let fault = stream.pointee.receiveWindow.receive(fragment.flowControlledBytes) {
            return resetForFault(fragment.streamID, fault)
        }
        let padding = fragment.flowControlledBytes - UInt32(truncatingIfNeeded: fragment.payload.count)
        if padding > 0 { stream.pointee.receiveWindow.consume(padding) }
        let action = stream.pointee.state.event(.data(endsStream: fragment.endsStream))
        switch action {
        case .deliver:
            stream.deliver(fragment.payload)
        case .deliverAndFinish:
            stream.deliver(fragment.payload)
            loop.flushBatch()
            if !stream.isDead { stream.perform(action) }
            if !stream.isDead { stream.detachIfClosed() }
        case .none, .discard: break
        default:
            loop.flushBatch()
            stream.perform(action)
            check(pointee.limits.reset(.byUsForFault, now: loop.pointee.now))
        }
    }

    private func resetCame(_ streamID: UInt32, _ code: ErrorCode) {
        guard let stream = pointee.table.find(streamID) else {
            if isIdle(streamID) { fail(.protocolError) }
            return
        }
        let wasOpen = stream.pointee.state.isOpen
        if isClient && code == .refusedStream && stream.isRetriable {
            return stream.retry(leavesFull: true)
        }
        stream.perform(stream.pointee.state.event(.reset(code)))
        if !isClient {
            check(
                pointee.limits.reset(
                    wasOpen ? .byPeerAfterAnswer : .byPeerBeforeAnswer, now: pointee.loop.pointee.now))
        }
    }

    private func windowUpdateCame(_ streamID: UInt32, _ increment: UInt32) {
        guard check(pointee.limits.windowUpdate(now: pointee.loop.pointee.now)) else { return }
        if streamID == 0 {
            guard check(pointee.sendWindow.grant(increment)) else { return }
            if !pointee.scheduler.isEmpty { markDirty() }
            return
        }
        guard let stream = pointee.table.find(streamID) else {
            if isIdle(streamID) { fail(.protocolError) }
            return
        }
        if let fault = stream.pointee.sendWindow.grant(increment) { return resetForFault(streamID, fault) }
        stream.wantsToSend()
    }

    private func settingsCame(_ list: SettingsList) {
        guard check(pointee.limits.settings(now: pointee.loop.pointee.now)) else { return }
        let earlyBefore = pointee.settings.earlyDataBytes
        do throws(HTTP2Fault) {
            let change = try pointee.settings.apply(list)
            if let size = change.headerTableSize { pointee.headerEncoder?.limitTable(to: size) }
            if change.windowDelta != 0 && !adjustWindows(by: change.windowDelta) { return }
        } catch {
            return fail(error)
        }
        queueSettingsAcknowledgement()
        if isClient {
            pointee.flags.remove(.full)
            if pointee.settings.earlyDataBytes > earlyBefore {
                for stream in pointee.table.all() { stream.wantsToSend() }
            }
            pointee.loop.placeWaiting(self)
        } else if pointee.settings.isCulvert && !pointee.flags.contains(.limitRaised) {
            pointee.flags.insert(.limitRaised)
            pointee.limits.setStreamsMax(
                min(TunnelSettings.streamsMax(.culvert), pointee.loop.pointee.settings.streamsPerTunnelMax))
            queueSettings(TunnelSettings.raisedStreams)
        }
    }

    /// RFC 9113 section 6.9.2: a changed initial window moves the window of every stream.
    private func adjustWindows(by delta: Int64) -> Bool {
        for stream in pointee.table.all() {
            if let fault = stream.pointee.sendWindow.adjust(by: delta) {
                fail(fault)
                return false
            }
            stream.wantsToSend()
        }
        return true
    }

    private func goAwayCame(_ lastStreamID: UInt32) {
        guard isClient else { return }
        pointee.flags.insert(.closing)
        let loop = pointee.loop
        loop.leavePool(self)
        for stream in pointee.table.all() where stream.pointee.id > lastStreamID {
            if stream.isRetriable {
                stream.retry()
            } else {
                stream.perform(stream.pointee.state.event(.tunnelLost))
            }
        }
        loop.moveWaiting(self)
        endIfDrained()
    }

    private func headersCame(_ fragment: HeadersFragment) {
        if fragment.startsBlock {
            pointee.requestReader = ConnectRequestReader(isTelemetryWanted: false)
            pointee.responseReader = ConnectResponseReader()
        }
        let isClient = isClient
        let outcome = pointee.headerDecoder?.decode(fragment.block, isLast: fragment.endsBlock) { name, value in
            if isClient {
                self.pointee.responseReader.field(name, value)
            } else {
                self.pointee.requestReader.field(name, value)
            }
        }
        switch outcome ?? .failed(.compression) {
        case .more: break
        case .failed(let fault): fail(fault)
        case .complete: headersComplete(fragment, isTooLarge: false)
        case .tooLarge: headersComplete(fragment, isTooLarge: true)
        }
    }

    private func headersComplete(_ fragment: HeadersFragment, isTooLarge: Bool) {
        if isClient {
            guard let stream = pointee.table.find(fragment.streamID) else {
                if isIdle(fragment.streamID) { fail(.protocolError) }
                return
            }
            return stream.answerCame(
                pointee.responseReader.finish(endsStream: fragment.endsStream), fragment.endsStream)
        }
        if let stream = pointee.table.find(fragment.streamID) {
            stream.perform(stream.pointee.state.event(.trailers))
            check(pointee.limits.reset(.byUsForFault, now: pointee.loop.pointee.now))
            return
        }
        // A closed stream's identifier can't be used again. Trailers may have been on their way when we reset it, so it
        // is that stream's error alone (RFC 9113 section 5.1); provoked resets are limited.
        guard pointee.peerStreams.standing(of: fragment.streamID) == .new else {
            return resetForFault(fragment.streamID, .streamClosed)
        }
        requestCame(
            pointee.requestReader.finish(isTooLarge: isTooLarge), streamID: fragment.streamID,
            endsStream: fragment.endsStream)
    }

    /// Whether nobody has ever opened the stream: frames for it are a breach, not a leftover.
    private func isIdle(_ streamID: UInt32) -> Bool {
        isClient ? streamID >= pointee.nextStreamID : pointee.peerStreams.standing(of: streamID) == .new
    }

    /// Resets one stream for its peer's fault. Provoked resets are limited.
    func resetForFault(
        _ streamID: UInt32, _ fault: HTTP2Fault, as kind: ConnectionLimits.Reset = .byUsForFault
    ) {
        if let stream = pointee.table.find(streamID) {
            // Counted with the connection's record.
            stream.perform(stream.pointee.state.event(.abort(fault)))
        } else {
            queueReset(streamID, fault.code)
            pointee.loop.pointee.counters.count(fault.reason)
        }
        check(pointee.limits.reset(kind, now: pointee.loop.pointee.now))
    }

    private func noteHeaderBlock() {
        let isInside = pointee.decoder.isInsideHeaderBlock
        guard isInside != pointee.flags.contains(.insideHeaders) else { return }
        if isInside {
            pointee.flags.insert(.insideHeaders)
            pointee.headersSince = pointee.loop.pointee.now
        } else {
            pointee.flags.remove(.insideHeaders)
        }
    }

    // MARK: the beginning of a frame whose rest has not come

    private func takeCarry(into input: UnsafeMutableRawBufferPointer) -> Int {
        guard let carry = pointee.carry, let base = input.baseAddress else { return 0 }
        let count = pointee.carryCount
        base.copyMemory(from: carry, byteCount: count)
        carry.deallocate()
        pointee.carry = nil
        pointee.carryCount = 0
        return count
    }

    private func keepCarry(_ rest: UnsafeRawBufferPointer) {
        guard let base = rest.baseAddress, rest.count > 0 else { return }
        let carry = UnsafeMutableRawPointer.allocate(byteCount: rest.count, alignment: 16)
        carry.copyMemory(from: base, byteCount: rest.count)
        pointee.carry = carry
        pointee.carryCount = rest.count
    }
}

extension UnsafeMutablePointer<Stream> {
    /// Both directions are over on the wire: the identifier is forgotten, the application's side may still finish.
    func detachIfClosed() {
        if pointee.state.isClosed { detach() }
    }
}
