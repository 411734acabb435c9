package import HTTP2Framing

/// How much room the process's memory budget has, as far as windows are concerned. The budget counts bytes held.
package enum BudgetRoom: Sendable {
    /// Windows may grow.
    case ample
    /// Credit is returned, windows stay as they are.
    case scarce
    /// Past 90 %: no stream gets credit.
    case none
}

/// What the peer may send on a stream. It starts at 64 KiB for every stream, is raised to 256 KiB at once where there
/// is room, and doubles up to 4 MiB while the application reads as fast as the peer sends. Every byte of the window is
/// always in one of three places: still the peer's to send, held for the application, or owed to the peer.
package struct ReceiveWindow: Equatable, Sendable {
    @inlinable package static var sizeInitial: UInt32 { 65_536 }
    @inlinable package static var sizeAtStart: UInt32 { 262_144 }
    @inlinable package static var sizeMax: UInt32 { 4_194_304 }

    /// The sum of the three places.
    package private(set) var size: UInt32 = ReceiveWindow.sizeInitial
    /// What the peer may still send.
    package private(set) var remaining: UInt32 = ReceiveWindow.sizeInitial
    /// What the application took and no WINDOW_UPDATE has returned yet.
    package private(set) var owed: UInt32 = 0
    /// Received since the window last grew, up to `size`: growth is for streams that use what they have.
    private var receivedSinceGrowth: UInt32 = 0

    package init() {}

    /// Bytes received and not taken by the application.
    package var held: UInt32 { size - remaining - owed }

    /// What it has grown by beyond what every stream may have at its start.
    package var grown: Int { size > Self.sizeAtStart ? Int(size - Self.sizeAtStart) : 0 }

    /// The increment to send when the stream opens; 0: none.
    package mutating func start(_ room: BudgetRoom) -> UInt32 {
        guard room == .ample, size < Self.sizeAtStart else { return 0 }
        return grow(to: Self.sizeAtStart)
    }

    /// Takes `DataFragment.flowControlledBytes`. Not nil: the peer sent more than it may; the stream goes.
    package mutating func receive(_ count: UInt32) -> HTTP2Fault? {
        guard count <= remaining else { return .flowControl }
        remaining -= count
        receivedSinceGrowth = min(receivedSinceGrowth + count, size)
        return nil
    }

    /// Bytes are out of our hands: written to the application, or padding and other bytes that were never held.
    package mutating func consume(_ count: UInt32) {
        precondition(count <= held, "consumed more than was received")
        owed += count
    }

    /// The increment to send now; 0: none yet. Ask after `consume`, and of every stream when the budget has room again.
    package mutating func credit(_ room: BudgetRoom) -> UInt32 {
        guard room != .none else { return 0 }
        var increment: UInt32 = 0
        let readerKeepsUp = held <= size / 8
        if room == .ample && size < Self.sizeMax && receivedSinceGrowth >= size && readerKeepsUp {
            increment = grow(to: min(size * 2, Self.sizeMax))
        } else if owed < size / 4 {
            // Each update costs the peer a frame: a quarter of the window is soon enough.
            return 0
        }
        remaining += owed
        increment += owed
        owed = 0
        return increment
    }

    // MARK: private

    private mutating func grow(to newSize: UInt32) -> UInt32 {
        let added = newSize - size
        size = newSize
        remaining += added
        receivedSinceGrowth = 0
        return added
    }
}

/// What the peer may send on the whole tunnel. Its credit comes back when bytes come off the wire, whatever becomes of
/// them, so that neither a slow application nor a dying stream can stall the others.
package struct ConnectionReceiveWindow: Equatable, Sendable {
    /// Four times the largest stream window: with equal sizes a few full streams stop a tunnel.
    package static let sizeDefault: UInt32 = 16_777_216

    private let size: UInt32
    package private(set) var remaining: UInt32 = SendWindow.connectionInitial
    /// Bytes that are off the wire and not credited yet.
    package private(set) var owed: UInt32 = 0

    /// `size` is above the protocol's 65,535 and at most 2^31-1.
    package init(size: UInt32 = sizeDefault) {
        precondition(size >= SendWindow.connectionInitial && size <= SendWindow.sizeMax)
        self.size = size
    }

    /// The increment to send with the first SETTINGS: the protocol starts every connection at 65,535.
    package mutating func start() -> UInt32 {
        let increment = size - remaining - owed
        remaining += increment
        return increment
    }

    /// Takes `DataFragment.flowControlledBytes` of every DATA frame, of unknown, dead and refused streams too. Not nil:
    /// the peer sent more than it may; the connection goes.
    package mutating func receive(_ count: UInt32) -> HTTP2Fault? {
        guard count <= remaining else { return .flowControl }
        remaining -= count
        owed += count
        return nil
    }

    /// The increment to send now; 0: none yet. Ask once a turn.
    package mutating func credit() -> UInt32 {
        guard owed >= size / 8 else { return 0 }
        let increment = owed
        remaining += increment
        owed = 0
        return increment
    }
}
