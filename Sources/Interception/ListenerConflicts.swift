import CMeshABI
import MeshModel

/// Listeners that should not be: of two workloads on one place, or on a port of the mesh. No hook can refuse listen(), so
/// they are reported when they are there. What was not seen again for a while is forgotten: their end is not told.
struct ListenerConflicts {
    struct Place: Hashable {
        var namespaceCookie: UInt64
        var address: SocketAddress
    }

    private struct Key: Hashable {
        var place: Place
        var workload: WorkloadID
    }

    private struct Conflict {
        var text: String
        var seenNanoseconds: UInt64
    }

    /// A workload could open any number of ports.
    static let conflictsMax = 64

    /// How long one is shown; then the namespace's listeners are looked at again.
    var keepNanoseconds: UInt64 = 30_000_000_000
    private var conflicts: [Key: Conflict] = [:]

    var problems: [String] { conflicts.values.map(\.text) }

    mutating func note(_ text: String, at place: Place, of workload: WorkloadID, now: UInt64) {
        let key = Key(place: place, workload: workload)
        guard conflicts[key] != nil || conflicts.count < Self.conflictsMax else { return }
        conflicts[key] = Conflict(text: text, seenNanoseconds: now)
    }

    /// Forgets what was last seen long ago; the namespaces in which that was.
    mutating func expire(now: UInt64) -> Set<UInt64> {
        let old = conflicts.filter { now >= $0.value.seenNanoseconds &+ keepNanoseconds }
        for key in old.keys { conflicts[key] = nil }
        return Set(old.keys.map(\.place.namespaceCookie))
    }
}
