package import HTTP2Framing

/// What we may still send, of a stream or of a tunnel (RFC 9113 section 6.9). A stream's may be below zero after the
/// peer has lowered its initial window; then nothing is sent until credit has filled the gap.
package struct SendWindow: Equatable, Sendable {
    /// No window may pass this (section 6.9.1).
    @inlinable package static var sizeMax: UInt32 { 0x7fff_ffff }
    /// The connection's window at its start; SETTINGS do not change that one (section 6.9.2).
    @inlinable package static var connectionInitial: UInt32 { 65_535 }

    // Never below -(2^31-1): a stream's spending stops at zero, and one initial window is all that can be taken away.
    @usableFromInline var balance: Int32

    /// `initial` is the peer's INITIAL_WINDOW_SIZE for a stream, `connectionInitial` for the connection.
    @inlinable package init(initial: UInt32) { balance = Int32(min(initial, SendWindow.sizeMax)) }

    /// Bytes that may be sent now, never below zero.
    @inlinable package var available: Int { balance > 0 ? Int(balance) : 0 }

    /// Takes a WINDOW_UPDATE. Not nil: the window would pass 2^31-1, which costs what the window belongs to.
    @inlinable package mutating func grant(_ increment: UInt32) -> HTTP2Fault? { add(Int64(increment)) }

    /// Takes `PeerSettings.Change.windowDelta`. Not nil: the connection must go (section 6.9.2).
    @inlinable package mutating func adjust(by delta: Int64) -> HTTP2Fault? { add(delta) }

    /// Bytes of DATA payload (and padding, which we never send) that go out: at most `available`.
    @inlinable package mutating func spend(_ count: Int) {
        precondition(count >= 0 && count <= available, "sent more than the window allows")
        balance -= Int32(count)
    }

    @usableFromInline mutating func add(_ delta: Int64) -> HTTP2Fault? {
        let sum = Int64(balance) + delta
        guard sum <= Int64(SendWindow.sizeMax), sum >= -Int64(SendWindow.sizeMax) else { return .flowControl }
        balance = Int32(sum)
        return nil
    }
}
