import HBONE
import Synchronization

/// What the process may hold for connections, in bytes: counted when memory is taken and given back, never when a
/// window is granted. Shared by all loops; touched once a chunk, not once a byte.
final class MemoryBudget: Sendable {
    private let limitBytes: Atomic<Int>
    private let heldBytes = Atomic<Int>(0)
    private let grownBytes = Atomic<Int>(0)

    init(limit: Int) { limitBytes = Atomic(limit) }

    var limit: Int { limitBytes.load(ordering: .relaxed) }
    var held: Int { heldBytes.load(ordering: .relaxed) }

    func setLimit(_ limit: Int) { limitBytes.store(limit, ordering: .relaxed) }
    func take(_ count: Int) { heldBytes.add(count, ordering: .relaxed) }
    func give(_ count: Int) { heldBytes.subtract(count, ordering: .relaxed) }

    /// Past 70 % windows stop growing, past 90 % no stream gets credit.
    var room: BudgetRoom {
        let held = held
        let limit = limit
        if held > limit / 10 * 9 { return .none }
        return held > limit / 10 * 7 ? .scarce : .ample
    }

    /// What windows have grown by, of streams that live: it may be filled by all at once, long after it was granted.
    func grow(by count: Int) { grownBytes.add(count, ordering: .relaxed) }
    func shrink(by count: Int) { grownBytes.subtract(count, ordering: .relaxed) }

    /// The same for streams whose window may grow: once grown windows could fill half of the budget, none does.
    var roomToGrow: BudgetRoom {
        let room = room
        return room == .ample && grownBytes.load(ordering: .relaxed) > limit / 2 ? .scarce : room
    }

    /// Past 90 %: new streams are refused.
    var isTight: Bool { held > limit / 10 * 9 }
    /// Past 100 %: whoever holds most is reset.
    var isExceeded: Bool { held > limit }
}
