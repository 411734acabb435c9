import Glibc

/// Memory that all connections of one thread use in turn: ciphertext that has just been received, and what was encrypted
/// and waits for its socket. A connection holds none of it while it is idle, and none is allocated while any is busy. The
/// owner keeps it at one address for as long as connections were made with it.
package struct TLSBuffers: ~Copyable {
    /// What one read from a socket may bring: 16 KiB cost 14 to 18 % more CPU, 128 KiB 3 % more.
    static let receiveSize = 262_144
    private static let keptMax = 4
    /// Of one buffer that is kept for the next taker, as much as an owner queues as a rule.
    private static let keptSizeMax = 2_097_152

    struct Buffer {
        var base: UnsafeMutableRawPointer
        var capacity: Int
    }

    /// For the bytes of `receiver`.
    private var received: UnsafeMutableRawPointer?
    private var receiver: ConnectionStatePointer?
    /// By capacity, the largest last.
    private var kept: [Buffer] = []
    private var wasUsed = false

    package init() { kept.reserveCapacity(Self.keptMax + 1) }

    deinit {
        free(received)
        for buffer in kept { free(buffer.base) }
    }

    /// Gives everything back to the system if nothing was needed since the last call.
    package mutating func trim() {
        defer { wasUsed = false }
        guard !wasUsed else { return }
        for buffer in kept { free(buffer.base) }
        kept.removeAll(keepingCapacity: true)
        guard receiver == nil else { return }
        free(received)
        received = nil
    }

    // MARK: for this target

    /// Memory for what `state` receives now. What the connection before has not used up yet moves to memory of its own;
    /// nil without memory.
    mutating func takeReceived(for state: ConnectionStatePointer) -> UnsafeMutableRawPointer? {
        if let receiver, receiver != state, !receiver.pointee.input.keep() { return nil }
        if received == nil { received = malloc(Self.receiveSize) }
        receiver = state
        wasUsed = true
        return received
    }

    /// `state` has used up what it received, or is gone.
    mutating func doneReceiving(_ state: ConnectionStatePointer) { if receiver == state { receiver = nil } }

    /// At least `size` bytes, the largest that is there, so that it need not grow; nil without memory.
    mutating func take(_ size: Int) -> Buffer? {
        wasUsed = true
        if let last = kept.last, last.capacity >= size { return kept.removeLast() }
        return malloc(size).map { Buffer(base: $0, capacity: size) }
    }

    mutating func give(_ buffer: Buffer) {
        guard buffer.capacity <= Self.keptSizeMax else { return free(buffer.base) }
        kept.insert(buffer, at: kept.firstIndex { $0.capacity > buffer.capacity } ?? kept.endIndex)
        if kept.count > Self.keptMax { free(kept.removeFirst().base) }
    }
}

package typealias TLSBuffersPointer = UnsafeMutablePointer<TLSBuffers>

/// Ciphertext that was received and not yet read: in the thread's buffer, or in memory of its own.
struct ReceivedBytes: ~Copyable {
    private var base: UnsafeMutableRawPointer?
    private var start = 0
    private var end = 0
    private var isOwn = false

    init() {}

    deinit { if isOwn { free(base) } }

    var count: Int { end - start }

    /// `count` bytes at `base`, which stays another's.
    mutating func set(_ base: UnsafeMutableRawPointer, count: Int) {
        removeAll()
        (self.base, start, end) = (base, 0, count)
    }

    mutating func read(into target: UnsafeMutableRawPointer, _ wanted: Int) -> Int {
        guard let base else { return 0 }
        let step = min(wanted, count)
        target.copyMemory(from: base + start, byteCount: step)
        start += step
        if start == end { removeAll() }
        return step
    }

    /// Moves what is left to memory of its own; false without memory.
    mutating func keep() -> Bool {
        guard let shared = base, !isOwn, count > 0 else { return true }
        guard let own = malloc(count) else { return false }
        memcpy(own, shared + start, count)
        (base, start, end, isOwn) = (own, 0, count, true)
        return true
    }

    private mutating func removeAll() {
        if isOwn { free(base) }
        (base, start, end, isOwn) = (nil, 0, 0, false)
    }
}
