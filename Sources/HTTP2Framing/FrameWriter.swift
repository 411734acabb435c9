/// Writes frames into memory that the caller owns. Functions that take a pointer write exactly the size that their
/// constant names; those that take a buffer return the bytes written and trap where it is too small, which is the
/// caller's fault and never the peer's: the `…Size` functions say what is needed.
package enum FrameWriter {
    /// What a client sends first (RFC 9113 section 3.4), before its SETTINGS.
    package static let clientPreface: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    @inlinable package static var clientPrefaceSize: Int { 24 }
    @inlinable package static var dataHeaderSize: Int { FrameHeader.size }
    @inlinable package static var windowUpdateSize: Int { FrameHeader.size + 4 }
    @inlinable package static var resetSize: Int { FrameHeader.size + 4 }
    @inlinable package static var pingSize: Int { FrameHeader.size + 8 }
    @inlinable package static var settingsAcknowledgementSize: Int { FrameHeader.size }

    package static func clientPreface(to bytes: UnsafeMutableRawPointer) {
        bytes.copyMemory(from: clientPreface.utf8Start, byteCount: clientPrefaceSize)
    }

    /// The header of a DATA frame; the payload of `length` bytes goes right behind it.
    @inlinable package static func dataHeader(
        length: Int, streamID: UInt32, endsStream: Bool, to bytes: UnsafeMutableRawPointer
    ) {
        FrameHeader(
            length: UInt32(truncatingIfNeeded: length), type: .data, flags: endsStream ? .endStream : [],
            streamID: streamID
        ).write(to: bytes)
    }

    @inlinable package static func windowUpdate(
        streamID: UInt32, increment: UInt32, to bytes: UnsafeMutableRawPointer
    ) {
        FrameHeader(length: 4, type: .windowUpdate, flags: [], streamID: streamID).write(to: bytes)
        bytes.storeBytes(of: increment.bigEndian, toByteOffset: FrameHeader.size, as: UInt32.self)
    }

    @inlinable package static func reset(streamID: UInt32, code: ErrorCode, to bytes: UnsafeMutableRawPointer) {
        FrameHeader(length: 4, type: .resetStream, flags: [], streamID: streamID).write(to: bytes)
        bytes.storeBytes(of: code.rawValue.bigEndian, toByteOffset: FrameHeader.size, as: UInt32.self)
    }

    /// `payload` as `FrameEvent.ping` hands it out, so that an answer carries the same eight bytes.
    @inlinable package static func ping(
        payload: UInt64, isAcknowledgement: Bool, to bytes: UnsafeMutableRawPointer
    ) {
        FrameHeader(length: 8, type: .ping, flags: isAcknowledgement ? .acknowledgement : [], streamID: 0)
            .write(to: bytes)
        bytes.storeBytes(of: payload.bigEndian, toByteOffset: FrameHeader.size, as: UInt64.self)
    }

    @inlinable package static func settingsAcknowledgement(to bytes: UnsafeMutableRawPointer) {
        FrameHeader(length: 0, type: .settings, flags: .acknowledgement, streamID: 0).write(to: bytes)
    }

    package static func settingsSize(_ settings: some Collection<Setting>) -> Int {
        FrameHeader.size + settings.count * Setting.size
    }

    package static func settings(
        _ settings: some Collection<Setting>, to bytes: UnsafeMutableRawBufferPointer
    ) -> Int {
        let size = settingsSize(settings)
        precondition(bytes.count >= size)
        guard let base = bytes.baseAddress else { return 0 }
        FrameHeader(length: UInt32(size - FrameHeader.size), type: .settings, flags: [], streamID: 0).write(to: base)
        var cursor = base + FrameHeader.size
        for setting in settings {
            cursor.storeBytes(of: setting.identifier.rawValue.bigEndian, as: UInt16.self)
            cursor.storeBytes(of: setting.value.bigEndian, toByteOffset: 2, as: UInt32.self)
            cursor += Setting.size
        }
        return size
    }

    /// Debug data in a GOAWAY longer than this is cut: it is for a person at the other end.
    @inlinable package static var debugDataSizeMax: Int { 256 }

    package static func goAwaySize(debugDataCount: Int) -> Int {
        FrameHeader.size + 8 + min(debugDataCount, debugDataSizeMax)
    }

    package static func goAway(
        lastStreamID: UInt32, code: ErrorCode,
        debugData: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        to bytes: UnsafeMutableRawBufferPointer
    ) -> Int {
        let size = goAwaySize(debugDataCount: debugData.count)
        precondition(bytes.count >= size)
        guard let base = bytes.baseAddress else { return 0 }
        FrameHeader(length: UInt32(size - FrameHeader.size), type: .goAway, flags: [], streamID: 0).write(to: base)
        base.storeBytes(of: lastStreamID.bigEndian, toByteOffset: FrameHeader.size, as: UInt32.self)
        base.storeBytes(of: code.rawValue.bigEndian, toByteOffset: FrameHeader.size + 4, as: UInt32.self)
        if let debug = debugData.baseAddress {
            (base + FrameHeader.size + 8).copyMemory(from: debug, byteCount: size - FrameHeader.size - 8)
        }
        return size
    }

    /// Bytes that `headers` writes for a block of `blockCount` bytes.
    package static func headersSize(blockCount: Int, frameSizeMax: Int = FrameHeader.payloadSizeDefault) -> Int {
        let frames = max(1, (blockCount + frameSizeMax - 1) / frameSizeMax)
        return blockCount + frames * FrameHeader.size
    }

    /// A header block in one HEADERS frame and as many CONTINUATION frames as it needs, nothing between them (RFC 9113
    /// section 4.3). `frameSizeMax` is what the peer takes.
    package static func headers(
        block: UnsafeRawBufferPointer, streamID: UInt32, endsStream: Bool,
        frameSizeMax: Int = FrameHeader.payloadSizeDefault, to bytes: UnsafeMutableRawBufferPointer
    ) -> Int {
        let size = headersSize(blockCount: block.count, frameSizeMax: frameSizeMax)
        precondition(bytes.count >= size && frameSizeMax > 0)
        guard var cursor = bytes.baseAddress else { return 0 }
        var offset = 0
        repeat {
            let count = min(frameSizeMax, block.count - offset)
            let isFirst = offset == 0
            var flags: FrameFlags = isFirst && endsStream ? .endStream : []
            if offset + count == block.count { flags.insert(.endHeaders) }
            FrameHeader(
                length: UInt32(count), type: isFirst ? .headers : .continuation, flags: flags, streamID: streamID
            ).write(to: cursor)
            cursor += FrameHeader.size
            if let source = block.baseAddress, count > 0 { cursor.copyMemory(from: source + offset, byteCount: count) }
            cursor += count
            offset += count
        } while offset < block.count
        return size
    }
}
