import Glibc
import MeshModel
import ProxyControl
import Synchronization

/// The sockets that meshd made for this process to connect with: it may create none itself. One store for all loops,
/// under a lock that is taken once a connection.
final class DialSockets: Sendable {
    /// What a look into the store found.
    enum Taking {
        /// The caller owns it.
        case socket(Int32)
        /// None is there; the caller waits for `LoopMessage.dialSocketsArrived`.
        case empty
    }

    private struct Shelf {
        var sockets: [Int32] = []
        /// Asked for and not come yet.
        var awaited: UInt32 = 0
        var askedAt: UInt64 = 0
        var isUsed = false
    }

    private struct State {
        var shelves: [DialPool: Shelf] = [:]
    }

    /// Sockets held beyond the need of one burst; the node's own network namespace serves every tunnel.
    private func wanted(_ pool: DialPool) -> UInt32 {
        let wanted = pool.networkNamespace == .node || pool.purpose == .tunnel ? 128 : 32
        return UInt32(clamping: max(4, min(wanted, descriptors.limit / 32)))
    }

    /// After this, what was asked for is taken for lost.
    static let answerNanoseconds: UInt64 = 1_000_000_000

    private let state = Mutex(State())
    private let descriptors: DescriptorCount

    init(descriptors: DescriptorCount) { self.descriptors = descriptors }

    /// Takes a socket, the newest first. `need` is how many to ask meshd for; 0: none.
    func take(_ pool: DialPool, now: UInt64) -> (taking: Taking, need: UInt32) {
        state.withLock { state in
            // In place: a copy of the shelf would copy all of its sockets.
            take(from: &state.shelves[pool, default: Shelf()], pool, now: now)
        }
    }

    /// Puts a socket that was not used, or is as new again, back.
    func putBack(_ socket: Int32, _ pool: DialPool) {
        state.withLock { $0.shelves[pool, default: Shelf()].sockets.append(socket) }
    }

    /// Takes over sockets that meshd sent.
    func add(_ sockets: [Int32], to pool: DialPool) {
        descriptors.add(sockets.count)
        state.withLock { state in
            var shelf = state.shelves[pool] ?? Shelf()
            shelf.sockets.append(contentsOf: sockets)
            let come = UInt32(truncatingIfNeeded: sockets.count)
            shelf.awaited -= min(shelf.awaited, come)
            state.shelves[pool] = shelf
        }
    }

    /// What to ask for again: used pools that are low and whose answer is overdue. After a reconnect nothing is awaited.
    func overdue(now: UInt64, isNewConnection: Bool = false) -> [(pool: DialPool, count: UInt32)] {
        state.withLock { state in
            var needs: [(DialPool, UInt32)] = []
            for pool in state.shelves.keys {
                guard var shelf = state.shelves[pool], shelf.isUsed else { continue }
                if isNewConnection { shelf.awaited = 0 }
                let need = need(&shelf, pool, now: now)
                state.shelves[pool] = shelf
                if need > 0 { needs.append((pool, need)) }
            }
            return needs
        }
    }

    /// Closes everything made for a network namespace: an open socket would keep it alive.
    func close(where matches: (DialPool) -> Bool) {
        let closed = state.withLock { state in
            var sockets: [Int32] = []
            for (pool, shelf) in state.shelves where matches(pool) {
                sockets += shelf.sockets
                state.shelves[pool] = nil
            }
            return sockets
        }
        for socket in closed { _ = Glibc.close(socket) }
        descriptors.remove(closed.count)
    }

    // MARK: private

    private func take(from shelf: inout Shelf, _ pool: DialPool, now: UInt64) -> (taking: Taking, need: UInt32) {
        shelf.isUsed = true
        let socket = shelf.sockets.popLast()
        return (socket.map(Taking.socket) ?? .empty, need(&shelf, pool, now: now))
    }

    private func need(_ shelf: inout Shelf, _ pool: DialPool, now: UInt64) -> UInt32 {
        if shelf.awaited > 0 {
            guard now >= shelf.askedAt + Self.answerNanoseconds else { return 0 }
            shelf.awaited = 0
        }
        let wanted = wanted(pool)
        let have = UInt32(truncatingIfNeeded: shelf.sockets.count)
        guard have <= wanted / 2 else { return 0 }
        shelf.awaited = wanted - have
        shelf.askedAt = now
        return shelf.awaited
    }
}

/// Descriptors that the proxy holds, all loops together.
final class DescriptorCount: Sendable {
    private let held = Atomic<Int>(0)
    private let limitCount: Atomic<Int>

    init(limit: Int) { limitCount = Atomic(limit) }

    var count: Int { held.load(ordering: .relaxed) }
    var limit: Int { limitCount.load(ordering: .relaxed) }
    func setLimit(_ limit: Int) { limitCount.store(limit, ordering: .relaxed) }
    func add(_ count: Int = 1) { held.add(count, ordering: .relaxed) }
    func remove(_ count: Int = 1) { held.subtract(count, ordering: .relaxed) }

    /// Past 90 %: nothing new is accepted.
    var isTight: Bool { count > limit / 10 * 9 }
    /// Where acceptance begins again, lower so that it does not flap.
    var isRelaxed: Bool { count <= limit / 100 * 85 }
}
