import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import OpenSSLTLS

/// One mutual-TLS HTTP/2 connection between two nodes, shared by the streams of one (client principal, server
/// principal) pair. A record in its loop's pool; idle, it holds no buffer.
struct Tunnel: ~Copyable {
    enum Phase: UInt8 {
        /// Client: no dial socket was there yet.
        case waitingForSocket
        /// Client: connect() is under way.
        case connecting
        case handshaking
        case open
    }

    struct Flags: OptionSet {
        let rawValue: UInt16
        static let client = Flags(rawValue: 1 << 0)
        static let readable = Flags(rawValue: 1 << 1)
        static let writable = Flags(rawValue: 1 << 2)
        /// In the loop's list of tunnels that have something to do this turn.
        static let dirty = Flags(rawValue: 1 << 3)
        static let dead = Flags(rawValue: 1 << 4)
        /// No new streams: GOAWAY came, or went out, or its identifiers are used up.
        static let closing = Flags(rawValue: 1 << 5)
        /// GOAWAY went out with the highest identifier there is; the real last one follows.
        static let drainAnnounced = Flags(rawValue: 1 << 6)
        static let drained = Flags(rawValue: 1 << 7)
        /// A PING of ours has no answer yet.
        static let pingSent = Flags(rawValue: 1 << 8)
        /// The headers timeout is running.
        static let insideHeaders = Flags(rawValue: 1 << 9)
        /// The peer has been told the limit of our own kind.
        static let limitRaised = Flags(rawValue: 1 << 10)
        /// The directory was told that this tunnel is busy.
        static let busy = Flags(rawValue: 1 << 11)
        /// The peer closed its side in order (close_notify).
        static let endOfInput = Flags(rawValue: 1 << 12)
        /// Opened to learn whether an unreachable node is back.
        static let probe = Flags(rawValue: 1 << 13)
        /// The peer announced that it takes no more streams than it has.
        static let full = Flags(rawValue: 1 << 14)
        /// Dialled because the node's address of the other family did not answer.
        static let secondFamily = Flags(rawValue: 1 << 15)
    }

    let kind = ObjectKind.tunnel
    var phase: Phase
    var flags: Flags
    var descriptor: Int32
    let id: UInt32
    let loop: LoopPointer
    let peer: SocketAddress
    var key: TunnelKey
    /// The principal's name at the other end, once it is known.
    var peerPrincipal = ""
    var localPrincipal = ""

    // TLS and frames
    var tls: TLSConnection?
    var decoder: FrameDecoder
    var headerDecoder: HeaderDecoder?
    var headerEncoder: HeaderEncoder?
    var responseEncoder = ConnectResponseEncoder()
    var requestReader = ConnectRequestReader()
    var responseReader = ConnectResponseReader()
    var settings = PeerSettings()
    var limits: ConnectionLimits
    var peerStreams = PeerStreams()
    var sendWindow = SendWindow(initial: SendWindow.connectionInitial)
    var receiveWindow = ConnectionReceiveWindow()
    var nextStreamID: UInt32 = 1

    // Streams
    var table = StreamTable()
    var scheduler = StreamScheduler()
    /// Client: streams that wait until the tunnel is open.
    var waiting = StreamQueue()
    var waitingCount = 0
    /// Streams that name this tunnel, those that only finish their application's side included.
    var streamsBound: UInt32 = 0

    // Buffers, empty when idle
    /// Frames other than DATA that wait for the next write.
    var control = ByteQueue()
    /// The beginning of a frame whose rest has not come.
    var carry: UnsafeMutableRawPointer?
    var carryCount = 0
    /// What the budget was charged for buffers of TLS and for `carry`.
    var charged = 0
    /// When the TLS library last used its buffers, which it keeps until a sweep takes them back; 0: it has none.
    var buffersUsedAt: UInt64 = 0
    /// Ciphertext beyond which no stream is asked for more; follows the drain rate.
    var queueBound = Tunnel.queueBoundStart
    var stalledAt: UInt64 = 0
    var stalledBytes = 0

    // Time and figures
    let openedAt: UInt64
    var receivedAt: UInt64
    var pingAt: UInt64 = 0
    var idleSince: UInt64
    var drainedAt: UInt64 = 0
    var headersSince: UInt64 = 0
    var streamsTotal: UInt64 = 0
    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0
    /// The sum of both at the last sweep.
    var sweptBytes: UInt64 = 0
    var path = PathEstimate()
    /// Opened beside others for its key, because lost packets bound what they carry.
    var isAdded = false
    var timer: TimerPointer?
    var dirtyNext: TunnelPointer?
    var listPrevious: TunnelPointer?
    var listNext: TunnelPointer?

    /// Of the TLS library: one record in each direction.
    static let tlsBuffersSize = 2 * 16_896
    static let queueBoundStart = 262_144
    static let queueBoundMin = 131_072
    static let queueBoundMax = 1_048_576
    /// Bytes in a quarter of a second from which on one loop is well used by a tunnel.
    static let busyBytesPerSweep: UInt64 = 16_777_216
    /// Unsent control frames beyond this mean a peer that does not read.
    static let controlBytesMax = 1_048_576

    init(
        _ phase: Phase, flags: Flags, descriptor: Int32, id: UInt32, loop: LoopPointer, peer: SocketAddress,
        key: TunnelKey, now: UInt64
    ) {
        self.phase = phase
        self.flags = flags
        self.descriptor = descriptor
        self.id = id
        self.loop = loop
        self.peer = peer
        self.key = key
        let isClient = flags.contains(.client)
        decoder = FrameDecoder(role: isClient ? .client : .server)
        limits = ConnectionLimits(streamsMax: isClient ? 0 : TunnelSettings.streamsMax(.other), now: now)
        openedAt = now
        receivedAt = now
        idleSince = now
    }
}

typealias TunnelPointer = UnsafeMutablePointer<Tunnel>

extension UnsafeMutablePointer<Tunnel> {
    var isClient: Bool { pointee.flags.contains(.client) }
    var isDead: Bool { pointee.flags.contains(.dead) }
    var isOpen: Bool { pointee.phase == .open && !isDead }

    /// Asks for a turn of `pump` in this round of the loop.
    func markDirty() {
        guard !pointee.flags.contains(.dirty) else { return }
        pointee.flags.insert(.dirty)
        let loop = pointee.loop
        pointee.dirtyNext = loop.pointee.dirty
        loop.pointee.dirty = self
    }

    // MARK: frames other than DATA

    private func queue(_ bytes: UnsafeRawPointer, _ count: Int) {
        let loop = pointee.loop
        pointee.control.append(bytes, count: count, pool: &loop.pointee.chunks)
        markDirty()
    }

    func queueWindowUpdate(_ streamID: UInt32, _ increment: UInt32) {
        withUnsafeTemporaryAllocation(byteCount: FrameWriter.windowUpdateSize, alignment: 8) { frame in
            guard let base = frame.baseAddress else { return }
            FrameWriter.windowUpdate(streamID: streamID, increment: increment, to: base)
            queue(base, FrameWriter.windowUpdateSize)
        }
    }

    func queueReset(_ streamID: UInt32, _ code: ErrorCode) {
        withUnsafeTemporaryAllocation(byteCount: FrameWriter.resetSize, alignment: 8) { frame in
            guard let base = frame.baseAddress else { return }
            FrameWriter.reset(streamID: streamID, code: code, to: base)
            queue(base, FrameWriter.resetSize)
        }
    }

    func queuePing(_ payload: UInt64, isAcknowledgement: Bool) {
        withUnsafeTemporaryAllocation(byteCount: FrameWriter.pingSize, alignment: 8) { frame in
            guard let base = frame.baseAddress else { return }
            FrameWriter.ping(payload: payload, isAcknowledgement: isAcknowledgement, to: base)
            queue(base, FrameWriter.pingSize)
        }
    }

    func queueSettings(_ settings: [Setting]) {
        let size = FrameWriter.settingsSize(settings)
        withUnsafeTemporaryAllocation(byteCount: size, alignment: 8) { frame in
            _ = FrameWriter.settings(settings, to: frame)
            if let base = frame.baseAddress { queue(base, size) }
        }
    }

    func queueSettingsAcknowledgement() {
        withUnsafeTemporaryAllocation(byteCount: FrameWriter.settingsAcknowledgementSize, alignment: 8) { frame in
            guard let base = frame.baseAddress else { return }
            FrameWriter.settingsAcknowledgement(to: base)
            queue(base, FrameWriter.settingsAcknowledgementSize)
        }
    }

    func queueGoAway(_ lastStreamID: UInt32, _ fault: HTTP2Fault?) {
        let text = Array((fault?.reason.name ?? "").utf8)
        let size = FrameWriter.goAwaySize(debugDataCount: text.count)
        withUnsafeTemporaryAllocation(byteCount: size, alignment: 8) { frame in
            text.withUnsafeBytes {
                _ = FrameWriter.goAway(
                    lastStreamID: lastStreamID, code: fault?.code ?? .noError, debugData: $0, to: frame)
            }
            if let base = frame.baseAddress { queue(base, size) }
        }
    }

    func queueHeaders(_ block: UnsafeRawBufferPointer, _ streamID: UInt32, endsStream: Bool) {
        let size = FrameWriter.headersSize(blockCount: block.count)
        withUnsafeTemporaryAllocation(byteCount: size, alignment: 8) { frame in
            _ = FrameWriter.headers(block: block, streamID: streamID, endsStream: endsStream, to: frame)
            if let base = frame.baseAddress { queue(base, size) }
        }
    }

    func queueClientPreface() {
        withUnsafeTemporaryAllocation(byteCount: FrameWriter.clientPrefaceSize, alignment: 8) { frame in
            guard let base = frame.baseAddress else { return }
            FrameWriter.clientPreface(to: base)
            queue(base, FrameWriter.clientPrefaceSize)
        }
    }

    /// The answer to a CONNECT.
    func queueResponse(_ status: ConnectResponse.Status, _ streamID: UInt32, endsStream: Bool) {
        withUnsafeTemporaryAllocation(byteCount: ConnectResponseEncoder.sizeMax, alignment: 8) { block in
            let count = pointee.responseEncoder.encode(status, to: block)
            queueHeaders(UnsafeRawBufferPointer(rebasing: block[..<count]), streamID, endsStream: endsStream)
        }
    }
}
