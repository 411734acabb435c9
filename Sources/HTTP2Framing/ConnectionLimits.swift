import CMeshABI

/// What a peer may do on one connection before it is a flood. All of it is lawful HTTP/2 in small numbers; each rate
/// has a burst that ordinary peers never reach. Times are nanoseconds of one monotonic clock, given by the caller.
///
/// A stream counts as open until its work is undone (dial ended, sockets closed), not until its reset: otherwise a peer
/// that resets what it opens could have any number of dials under way (rapid reset).
package struct ConnectionLimits: Sendable {
    /// Why a stream goes. A hostile peer can bring about all but the last at will.
    package enum Reset: Sendable {
        /// The peer reset a stream before it was answered.
        case byPeerBeforeAnswer
        /// We reset a stream for the peer's breach of the protocol: provoked resets are rapid reset by another hand
        /// (CVE-2025-8671).
        case byUsForFault
        /// We refused a stream above the limit. A peer that has not seen our SETTINGS yet knows no limit, and a refused
        /// stream costs us nothing but its header block.
        case byUsForLimit
        /// The peer reset an answered stream: what becomes of an application's TCP reset.
        case byPeerAfterAnswer
    }

    private var streams: UInt32 = 0
    private var streamsMax: UInt32
    private var earlyResets: TokenBucket
    private var faultResets: TokenBucket
    private var limitResets: TokenBucket
    private var lateResets: TokenBucket
    private var pings: TokenBucket
    private var settings: TokenBucket
    private var ignored: TokenBucket
    private var emptyData: TokenBucket
    private var windowUpdates: TokenBucket

    /// `streamsMax` is the MAX_CONCURRENT_STREAMS announced; a client passes 0, since nobody opens streams to it.
    package init(streamsMax: UInt32, now: UInt64) {
        self.streamsMax = streamsMax
        earlyResets = TokenBucket(burst: 1_000, perSecond: 100, now: now)
        faultResets = TokenBucket(burst: 200, perSecond: 20, now: now)
        limitResets = TokenBucket(burst: 10_000, perSecond: 1_000, now: now)
        lateResets = TokenBucket(burst: 20_000, perSecond: 10_000, now: now)
        pings = TokenBucket(burst: 500, perSecond: 100, now: now)
        settings = TokenBucket(burst: 50, perSecond: 5, now: now)
        ignored = TokenBucket(burst: 1_000, perSecond: 100, now: now)
        emptyData = TokenBucket(burst: 100, perSecond: 10, now: now)
        windowUpdates = TokenBucket(burst: 10_000, perSecond: 1_000, now: now)
    }

    /// Streams whose work is under way.
    package var streamsOpen: UInt32 { streams }

    /// Follows what is announced in SETTINGS. Lowering it closes nothing.
    package mutating func setStreamsMax(_ count: UInt32) { streamsMax = count }

    /// False: refuse the stream with REFUSED_STREAM and `MESH_REASON_STREAM_LIMIT` (`ConnectionLimits.streamLimit`).
    /// Otherwise `streamEnded` must follow some day.
    package mutating func streamOpened() -> Bool {
        guard streams < streamsMax else { return false }
        streams += 1
        windowUpdates.earn(Self.windowUpdatesPerFrame)
        return true
    }

    package static var streamLimit: HTTP2Fault { HTTP2Fault(.refusedStream, .MESH_REASON_STREAM_LIMIT) }

    /// The stream is gone and so is its work.
    package mutating func streamEnded() {
        precondition(streams > 0, "more streams ended than were opened")
        streams -= 1
    }

    /// Not nil: close the connection with it. The same holds for every function below.
    package mutating func reset(_ reset: Reset, now: UInt64) -> HTTP2Fault? {
        let isWithin =
            switch reset {
            case .byPeerBeforeAnswer: earlyResets.take(now: now)
            case .byUsForFault: faultResets.take(now: now)
            case .byUsForLimit: limitResets.take(now: now)
            case .byPeerAfterAnswer: lateResets.take(now: now)
            }
        return isWithin ? nil : HTTP2Fault(.enhanceYourCalm, .MESH_REASON_RESET_FLOOD)
    }

    /// A PING that wants an answer.
    package mutating func ping(now: UInt64) -> HTTP2Fault? { pings.take(now: now) ? nil : Self.controlFlood }

    /// A SETTINGS frame that wants an acknowledgement.
    package mutating func settings(now: UInt64) -> HTTP2Fault? { settings.take(now: now) ? nil : Self.controlFlood }

    /// PRIORITY, unknown types, unasked acknowledgements: what costs work and changes nothing.
    package mutating func ignoredFrame(now: UInt64) -> HTTP2Fault? {
        ignored.take(now: now) ? nil : Self.controlFlood
    }

    /// A DATA frame without payload and without END_STREAM.
    package mutating func emptyData(now: UInt64) -> HTTP2Fault? {
        emptyData.take(now: now) ? nil : HTTP2Fault(.enhanceYourCalm, .MESH_REASON_EMPTY_DATA_FLOOD)
    }

    /// A WINDOW_UPDATE. Peers answer DATA with them, so sending DATA allows more of them.
    package mutating func windowUpdate(now: UInt64) -> HTTP2Fault? {
        windowUpdates.take(now: now) ? nil : Self.controlFlood
    }

    /// A DATA frame went out.
    package mutating func dataSent() { windowUpdates.earn(Self.windowUpdatesPerFrame) }

    // MARK: private

    /// A peer that credits each frame at once sends one for the stream and one for the connection.
    private static var windowUpdatesPerFrame: Int64 { 4 }
    private static var controlFlood: HTTP2Fault { HTTP2Fault(.enhanceYourCalm, .MESH_REASON_CONTROL_FLOOD) }
}

/// So many events at once, so many a second in the long run.
struct TokenBucket: Sendable {
    private var tokens: Int64
    private let burst: Int32
    private let perSecond: Int32
    private var refilled: UInt64

    init(burst: Int32, perSecond: Int32, now: UInt64) {
        tokens = Int64(burst)
        self.burst = burst
        self.perSecond = perSecond
        refilled = now
    }

    /// False where none is left. The clock is looked at only then: within the burst an event costs a subtraction.
    mutating func take(now: UInt64) -> Bool {
        if tokens <= 0 { refill(now) }
        guard tokens > 0 else { return false }
        tokens -= 1
        return true
    }

    mutating func earn(_ count: Int64) { tokens = min(tokens + count, Int64(burst)) }

    private mutating func refill(_ now: UInt64) {
        let elapsed = now > refilled ? now - refilled : 0
        let interval = 1_000_000_000 / UInt64(perSecond)
        let earned = elapsed / interval
        guard earned > 0 else { return }
        if earned >= UInt64(burst) {
            tokens = Int64(burst)
            refilled = now
        } else {
            tokens += Int64(earned)
            refilled += earned * interval
        }
    }
}
