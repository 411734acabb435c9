// HTTP2Framing reads and writes HTTP/2 (RFC 9113) frames for CONNECT streams over raw memory, compresses and expands
// header blocks through libnghttp2, and counts what a peer may do before it is called a flood. It is pure: it does no
// I/O, reads no clock and keeps no stream. HBONE gives the streams their meaning; DataPlane owns connections and calls
// both. Nothing on the path of DATA and WINDOW_UPDATE allocates, copies payload or counts references.

/// The nine bytes before every frame (RFC 9113 section 4.1).
package struct FrameHeader: Equatable, Sendable {
    /// Bytes of a frame header on the wire.
    @inlinable package static var size: Int { 9 }
    /// The largest payload that a peer may send unless SETTINGS_MAX_FRAME_SIZE says otherwise; ours never does.
    @inlinable package static var payloadSizeDefault: Int { 16_384 }
    /// The largest stream identifier (31 bits).
    @inlinable package static var streamIDMax: UInt32 { 0x7fff_ffff }

    /// Payload bytes, 24 bits.
    package var length: UInt32
    /// The wire's number of the type; `kind` is nil for one that this module does not know.
    package var type: UInt8
    package var flags: FrameFlags
    /// 0 is the connection. The reserved bit is dropped on reading, as the RFC demands.
    package var streamID: UInt32

    @inlinable package init(length: UInt32, type: FrameType, flags: FrameFlags, streamID: UInt32) {
        self.length = length
        self.type = type.rawValue
        self.flags = flags
        self.streamID = streamID
    }

    @inlinable package var kind: FrameType? { FrameType(rawValue: type) }

    /// Reads `size` bytes.
    @inlinable package init(reading bytes: UnsafeRawPointer) {
        let word = UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self))
        length = word >> 8
        type = UInt8(truncatingIfNeeded: word)
        flags = FrameFlags(rawValue: bytes.load(fromByteOffset: 4, as: UInt8.self))
        streamID =
            UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 5, as: UInt32.self)) & FrameHeader.streamIDMax
    }

    /// Writes `size` bytes.
    @inlinable package func write(to bytes: UnsafeMutableRawPointer) {
        bytes.storeBytes(of: (length << 8 | UInt32(type)).bigEndian, as: UInt32.self)
        bytes.storeBytes(of: flags.rawValue, toByteOffset: 4, as: UInt8.self)
        bytes.storeBytes(of: streamID.bigEndian, toByteOffset: 5, as: UInt32.self)
    }
}

/// Frame types of RFC 9113 section 6.
package enum FrameType: UInt8, Sendable {
    case data = 0
    case headers = 1
    case priority = 2
    case resetStream = 3
    case settings = 4
    case pushPromise = 5
    case ping = 6
    case goAway = 7
    case windowUpdate = 8
    case continuation = 9
}

/// Flags of a frame; the same bit means different things in different types.
package struct FrameFlags: OptionSet, Sendable {
    package var rawValue: UInt8
    @inlinable package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// DATA and HEADERS: the sender sends nothing more on the stream.
    @inlinable package static var endStream: FrameFlags { FrameFlags(rawValue: 0x1) }
    /// SETTINGS and PING: this is the answer.
    @inlinable package static var acknowledgement: FrameFlags { FrameFlags(rawValue: 0x1) }
    /// HEADERS and CONTINUATION: the header block ends here.
    @inlinable package static var endHeaders: FrameFlags { FrameFlags(rawValue: 0x4) }
    /// DATA and HEADERS: a pad length comes first, padding last.
    @inlinable package static var padded: FrameFlags { FrameFlags(rawValue: 0x8) }
    /// HEADERS: five bytes of (ignored) priority come before the block.
    @inlinable package static var priority: FrameFlags { FrameFlags(rawValue: 0x20) }
}
