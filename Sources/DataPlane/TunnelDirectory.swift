import MeshModel
import Synchronization

/// What makes two connections share a tunnel.
struct TunnelKey: Hashable, Sendable {
    var client: PrincipalID
    var server: PrincipalID
    var node: NodeID
}

/// Which loop has the tunnel for a key. Asked once for an accepted connection whose loop has none itself.
final class TunnelDirectory: Sendable {
    private struct Entry {
        var owner: Int
        var isBusy: Bool
        /// Loops that have a tunnel for the key, the owner included.
        var loops: Set<Int>
    }

    private let entries = Mutex<[TunnelKey: Entry]>([:])

    /// The loop that is to carry a connection which `loop` has accepted: its own when nobody has the key, or when the
    /// one who has it is busy.
    func owner(of key: TunnelKey, for loop: Int) -> Int {
        entries.withLock { entries in
            guard var entry = entries[key] else {
                entries[key] = Entry(owner: loop, isBusy: false, loops: [loop])
                return loop
            }
            if entry.loops.contains(loop) || !entry.isBusy { return entry.loops.contains(loop) ? loop : entry.owner }
            entry.loops.insert(loop)
            entries[key] = entry
            return loop
        }
    }

    func setBusy(_ key: TunnelKey, _ isBusy: Bool, loop: Int) {
        entries.withLock { entries in
            guard entries[key]?.owner == loop else { return }
            entries[key]?.isBusy = isBusy
        }
    }

    /// `loop` has no tunnel for the key any more.
    func leave(_ key: TunnelKey, loop: Int) {
        entries.withLock { entries in
            guard var entry = entries[key] else { return }
            entry.loops.remove(loop)
            if entry.owner == loop {
                entry.isBusy = false
                if let other = entry.loops.min() { entry.owner = other }
            }
            entries[key] = entry.loops.isEmpty ? nil : entry
        }
    }
}
