/// One armed timer. It belongs to the wheel; its owner keeps the pointer until it fires or is disarmed.
struct TimerNode {
    var previous: TimerPointer?
    var next: TimerPointer?
    /// CLOCK_BOOTTIME nanoseconds.
    var deadline: UInt64
    /// A record whose first field is its `ObjectKind`.
    var owner: UnsafeMutableRawPointer
}

typealias TimerPointer = UnsafeMutablePointer<TimerNode>

/// A loop's timers: a wheel of slots of 32 ms. Arming and disarming take constant time; a timer further away than one
/// turn of the wheel stays in its slot until its turn has come. A timer never fires early.
struct TimerWheel: ~Copyable {
    private static let slotCount = 512
    private static let slotShift: UInt64 = 25

    private var slots = [TimerPointer?](repeating: nil, count: TimerWheel.slotCount)
    private var nodes = Pool<TimerNode>()
    /// The slot number (time shifted) that has not been swept yet.
    private var position: UInt64
    /// No slot from `position` up to this one has timers: found by looking, so that the next look begins here.
    private var emptyBefore: UInt64

    init(now: UInt64) {
        position = now >> Self.slotShift
        emptyBefore = position
    }

    var isEmpty: Bool { nodes.count == 0 }

    mutating func arm(deadline: UInt64, owner: UnsafeMutableRawPointer) -> TimerPointer {
        let node = nodes.take()
        let index = Self.index(deadline, notBefore: position)
        node.initialize(to: TimerNode(previous: nil, next: slots[index], deadline: deadline, owner: owner))
        slots[index]?.pointee.previous = node
        slots[index] = node
        let distance = (UInt64(index) &- position) & UInt64(Self.slotCount - 1)
        emptyBefore = min(emptyBefore, position + distance)
        return node
    }

    mutating func disarm(_ node: TimerPointer) {
        if let previous = node.pointee.previous {
            previous.pointee.next = node.pointee.next
        } else {
            slots[Self.index(node.pointee.deadline, notBefore: position, holding: node, in: slots)] = node.pointee.next
        }
        node.pointee.next?.pointee.previous = node.pointee.previous
        node.deinitialize(count: 1)
        nodes.give(node)
    }

    /// Takes one timer that is due off the wheel and returns its owner; nil when none is left. The timer is gone.
    mutating func popDue(now: UInt64) -> UnsafeMutableRawPointer? {
        let end = now >> Self.slotShift
        // A clock that jumped further than the wheel (a suspended machine) sweeps each slot once.
        if end > position + UInt64(Self.slotCount) { position = end - UInt64(Self.slotCount) }
        while true {
            var next = slots[Int(position) & (Self.slotCount - 1)]
            while let node = next {
                next = node.pointee.next
                if node.pointee.deadline <= now {
                    let owner = node.pointee.owner
                    disarm(node)
                    return owner
                }
            }
            guard position < end else { return nil }
            position += 1
        }
    }

    /// Milliseconds until a slot with timers comes up, rounded up; nil without timers.
    mutating func waitMilliseconds(now: UInt64) -> Int32? {
        guard !isEmpty else { return nil }
        for slot in max(emptyBefore, position)..<position + UInt64(Self.slotCount) {
            guard slots[Int(slot) & (Self.slotCount - 1)] != nil else { continue }
            emptyBefore = slot
            let due = (slot + 1) << Self.slotShift
            return due <= now ? 1 : Int32(truncatingIfNeeded: (due - now) / 1_000_000 + 1)
        }
        return nil
    }

    // MARK: private

    private static func index(_ deadline: UInt64, notBefore position: UInt64) -> Int {
        Int(max(deadline >> slotShift, position)) & (slotCount - 1)
    }

    /// The slot whose list `node` heads: a deadline that was past when it was armed went into the slot of that moment.
    private static func index(
        _ deadline: UInt64, notBefore position: UInt64, holding node: TimerPointer, in slots: [TimerPointer?]
    ) -> Int {
        let natural = Int(deadline >> slotShift) & (slotCount - 1)
        if slots[natural] == node { return natural }
        guard let index = slots.firstIndex(of: node) else { preconditionFailure("a timer that is not armed") }
        return index
    }
}
