import CMeshABI

/// Reads the frames of one direction of a connection out of the caller's receive buffer. It keeps only what the next
/// frame depends on: a DATA frame that has begun, an open header block, and whether the opening is over. Payloads are
/// handed out in place. Faults are those of RFC 9113 that a frame shows by itself; what depends on streams (idle,
/// closed, windows) is the caller's.
///
///     var offset = 0
///     while true {
///         switch decoder.next(in: received, offset: &offset) {
///         case .incomplete: return offset // bytes used up
///         …
package struct FrameDecoder: Sendable {
    /// Which end of the connection reads.
    package enum Role: Sendable {
        case client
        case server
    }

    /// The receive buffer must be able to hold this much, or a frame that is not DATA may never be read.
    @inlinable package static var bufferSizeMin: Int { FrameHeader.size + FrameHeader.payloadSizeDefault }
    /// CONTINUATION frames of one header block.
    @inlinable package static var continuationsMax: UInt16 { 8 }
    /// Compressed bytes of one header block. Decoded ones are bounded by `HeaderDecoder`.
    @inlinable package static var headerBlockSizeMax: UInt32 { 65_536 }

    private enum Opening { case preface, settings, over }

    private let frameSizeMax: UInt32
    private var opening: Opening
    private var fault: HTTP2Fault?
    /// The DATA frame that is being handed out.
    private var dataStreamID: UInt32 = 0
    private var dataRemaining: UInt32 = 0
    private var dataPadding: UInt32 = 0
    private var dataEndsStream = false
    /// The header block that is open; 0: none.
    private var blockStreamID: UInt32 = 0
    private var blockEndsStream = false
    private var blockSize: UInt32 = 0
    private var blockContinuations: UInt16 = 0

    /// `frameSizeMax` is the SETTINGS_MAX_FRAME_SIZE that this end has announced.
    package init(role: Role, frameSizeMax: Int = FrameHeader.payloadSizeDefault) {
        self.frameSizeMax = UInt32(frameSizeMax)
        opening = role == .server ? .preface : .settings
    }

    /// True between the frames of a header block: what is being waited for is subject to the headers timeout.
    package var isInsideHeaderBlock: Bool { blockStreamID != 0 }
    /// True until the peer's first SETTINGS (and, at a server, the preface) has come.
    package var isOpening: Bool { opening != .over }

    /// The next event at `offset`, which is moved past what the event used up.
    package mutating func next(in bytes: UnsafeRawBufferPointer, offset: inout Int) -> FrameEvent {
        if dataRemaining + dataPadding > 0 { return continueData(bytes, &offset) }
        if let fault { return .connectionFault(fault) }
        if opening == .preface {
            if let event = readPreface(bytes, &offset) { return event }
        }
        let available = bytes.count - offset
        guard available >= FrameHeader.size, let base = bytes.baseAddress else {
            return .incomplete(bytesNeeded: FrameHeader.size)
        }
        let header = FrameHeader(reading: base + offset)
        if let fault = check(header) { return fail(fault) }
        if header.kind == .data { return beginData(header, bytes, &offset) }
        let size = FrameHeader.size + Int(header.length)
        guard available >= size else { return .incomplete(bytesNeeded: size) }
        let payload = UnsafeRawBufferPointer(start: base + offset + FrameHeader.size, count: Int(header.length))
        offset += size
        return read(header, payload)
    }

    // MARK: private

    private mutating func fail(_ fault: HTTP2Fault) -> FrameEvent {
        self.fault = fault
        return .connectionFault(fault)
    }

    /// Compares what is there, so that a peer that speaks something else is told at its first wrong byte.
    private mutating func readPreface(_ bytes: UnsafeRawBufferPointer, _ offset: inout Int) -> FrameEvent? {
        let expected = UnsafeRawBufferPointer(
            start: FrameWriter.clientPreface.utf8Start, count: FrameWriter.clientPrefaceSize)
        let count = min(expected.count, bytes.count - offset)
        for index in 0..<count where bytes[offset + index] != expected[index] { return fail(.protocolError) }
        guard count == expected.count else { return .incomplete(bytesNeeded: expected.count) }
        offset += count
        opening = .settings
        return nil
    }

    /// What every frame must obey, before its payload has come.
    private mutating func check(_ header: FrameHeader) -> HTTP2Fault? {
        guard header.length <= frameSizeMax else { return .frameSize }
        if opening == .settings {
            guard header.kind == .settings, !header.flags.contains(.acknowledgement) else { return .protocolError }
        }
        if blockStreamID != 0 {
            guard header.kind == .continuation, header.streamID == blockStreamID else { return .protocolError }
        }
        guard let kind = header.kind else { return nil }
        switch kind {
        case .data, .headers, .continuation, .resetStream:
            // Nobody pushes here, so every stream is a client's, and those are odd (section 5.1.1).
            return header.streamID & 1 == 1 ? nil : .protocolError
        case .settings, .ping, .goAway:
            return header.streamID == 0 ? nil : .protocolError
        case .windowUpdate:
            return header.streamID == 0 || header.streamID & 1 == 1 ? nil : .protocolError
        case .priority:
            return header.streamID != 0 ? nil : .protocolError
        case .pushPromise:
            // ENABLE_PUSH 0 is always sent, and a client must not push at all (sections 6.6, 8.4).
            return .protocolError
        }
    }

    private mutating func beginData(
        _ header: FrameHeader, _ bytes: UnsafeRawBufferPointer, _ offset: inout Int
    ) -> FrameEvent {
        let isPadded = header.flags.contains(.padded)
        let prefix = isPadded ? 1 : 0
        guard header.length >= prefix else { return fail(.frameSize) }
        guard bytes.count - offset >= FrameHeader.size + prefix else {
            return .incomplete(bytesNeeded: FrameHeader.size + prefix)
        }
        let padding = isPadded ? UInt32(bytes[offset + FrameHeader.size]) : 0
        // Padding that leaves no room for itself (section 6.1).
        guard padding + UInt32(prefix) <= header.length else { return fail(.protocolError) }
        offset += FrameHeader.size + prefix
        dataStreamID = header.streamID
        dataRemaining = header.length - padding - UInt32(prefix)
        dataPadding = padding
        dataEndsStream = header.flags.contains(.endStream)
        let isEmpty = dataRemaining == 0 && !dataEndsStream
        return takeData(bytes, &offset, prefix: UInt32(prefix), startsFrame: true, isEmptyFrame: isEmpty)
    }

    private mutating func continueData(_ bytes: UnsafeRawBufferPointer, _ offset: inout Int) -> FrameEvent {
        guard bytes.count > offset else { return .incomplete(bytesNeeded: 1) }
        return takeData(bytes, &offset, prefix: 0, startsFrame: false, isEmptyFrame: false)
    }

    private mutating func takeData(
        _ bytes: UnsafeRawBufferPointer, _ offset: inout Int, prefix: UInt32, startsFrame: Bool, isEmptyFrame: Bool
    ) -> FrameEvent {
        let available = bytes.count - offset
        let count = min(available, Int(dataRemaining))
        let payload = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
        let padding = min(available - count, Int(dataPadding))
        // Padding follows the payload: it can only have come once all of that has.
        offset += count + padding
        dataRemaining -= UInt32(count)
        dataPadding -= UInt32(padding)
        let isComplete = dataRemaining + dataPadding == 0
        return .data(
            DataFragment(
                streamID: dataStreamID, payload: payload, flowControlledBytes: prefix + UInt32(count + padding),
                startsFrame: startsFrame, endsStream: isComplete && dataEndsStream, isEmptyFrame: isEmptyFrame))
    }

    private mutating func read(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) -> FrameEvent {
        switch header.kind {
        case .headers: readHeaders(header, payload)
        case .continuation: readContinuation(header, payload)
        case .resetStream: readReset(header, payload)
        case .settings: readSettings(header, payload)
        case .ping: readPing(header, payload)
        case .goAway: readGoAway(payload)
        case .windowUpdate: readWindowUpdate(header, payload)
        case .data, .priority, .pushPromise, nil: .ignored(type: header.type)
        }
    }
}

// MARK: the frames that come whole

extension FrameDecoder {
    private mutating func readHeaders(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) -> FrameEvent {
        let prefix = (header.flags.contains(.padded) ? 1 : 0) + (header.flags.contains(.priority) ? 5 : 0)
        guard payload.count >= prefix else { return fail(.frameSize) }
        let padding = header.flags.contains(.padded) ? Int(payload[0]) : 0
        guard prefix + padding <= payload.count else { return fail(.protocolError) }
        blockStreamID = header.streamID
        blockEndsStream = header.flags.contains(.endStream)
        blockSize = 0
        blockContinuations = 0
        let block = UnsafeRawBufferPointer(rebasing: payload[prefix..<payload.count - padding])
        return takeBlock(block, startsBlock: true, endsBlock: header.flags.contains(.endHeaders))
    }

    private mutating func readContinuation(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) -> FrameEvent {
        guard blockStreamID != 0 else { return fail(.protocolError) }
        blockContinuations += 1
        guard blockContinuations <= Self.continuationsMax else {
            return fail(HTTP2Fault(.enhanceYourCalm, .MESH_REASON_CONTINUATION_FLOOD))
        }
        return takeBlock(payload, startsBlock: false, endsBlock: header.flags.contains(.endHeaders))
    }

    private mutating func takeBlock(
        _ block: UnsafeRawBufferPointer, startsBlock: Bool, endsBlock: Bool
    ) -> FrameEvent {
        blockSize += UInt32(block.count)
        guard blockSize <= Self.headerBlockSizeMax else { return fail(.headersTooLarge) }
        let fragment = HeadersFragment(
            streamID: blockStreamID, block: block, startsBlock: startsBlock, endsBlock: endsBlock,
            endsStream: blockEndsStream)
        if endsBlock { blockStreamID = 0 }
        return .headers(fragment)
    }

    private mutating func readReset(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) -> FrameEvent {
        guard payload.count == 4 else { return fail(.frameSize) }
        return .reset(streamID: header.streamID, code: ErrorCode(rawValue: payload.word(at: 0)))
    }

    private mutating func readSettings(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) -> FrameEvent {
        if header.flags.contains(.acknowledgement) {
            return payload.isEmpty ? .settingsAcknowledged : fail(.frameSize)
        }
        guard payload.count % Setting.size == 0 else { return fail(.frameSize) }
        opening = .over
        return .settings(SettingsList(payload: payload))
    }

    private mutating func readPing(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) -> FrameEvent {
        guard payload.count == 8 else { return fail(.frameSize) }
        return .ping(
            payload: UInt64(bigEndian: payload.loadUnaligned(as: UInt64.self)),
            isAcknowledgement: header.flags.contains(.acknowledgement))
    }

    private mutating func readGoAway(_ payload: UnsafeRawBufferPointer) -> FrameEvent {
        guard payload.count >= 8 else { return fail(.frameSize) }
        return .goAway(
            lastStreamID: payload.word(at: 0) & FrameHeader.streamIDMax,
            code: ErrorCode(rawValue: payload.word(at: 4)),
            debugData: UnsafeRawBufferPointer(rebasing: payload[8...]))
    }

    private mutating func readWindowUpdate(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) -> FrameEvent {
        guard payload.count == 4 else { return fail(.frameSize) }
        let increment = payload.word(at: 0) & 0x7fff_ffff
        if increment == 0 {
            // A stream's window costs the stream, the connection's the connection (section 6.9).
            return header.streamID == 0
                ? fail(.protocolError) : .streamFault(streamID: header.streamID, .protocolError)
        }
        return .windowUpdate(streamID: header.streamID, increment: increment)
    }
}

extension UnsafeRawBufferPointer {
    /// A 32-bit number in network order.
    fileprivate func word(at offset: Int) -> UInt32 {
        UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
}
