import Glibc

/// Ciphertext that waits for the socket: one contiguous run of bytes, so that one send() takes it. Without content it
/// has no memory.
struct CiphertextQueue: ~Copyable {
    private var base: UnsafeMutableRawPointer?
    private var capacity = 0
    private var start = 0
    private var end = 0

    private static let capacityMin = 4_096

    init() {}

    deinit { free(base) }

    var count: Int { end - start }
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base.map { $0 + start }, count: count) }

    /// False without memory; nothing is lost then.
    mutating func append(_ bytes: UnsafeRawPointer, count: Int) -> Bool {
        guard reserve(count), let base else { return false }
        memcpy(base + end, bytes, count)
        end += count
        return true
    }

    /// Room for `room` bytes more.
    mutating func reserve(_ room: Int) -> Bool {
        if capacity - end >= room { return true }
        if start > 0, let base, capacity - count >= room && count <= capacity / 2 {
            memmove(base, base + start, count)
        } else {
            let wanted = max(Self.capacityMin, count + room, min(2 * capacity, count + room + 1_048_576))
            guard let larger = malloc(wanted) else { return false }
            if let base { memcpy(larger, base + start, count) }
            free(base)
            base = larger
            capacity = wanted
        }
        end -= start
        start = 0
        return true
    }

    mutating func removeFirst(_ removed: Int) {
        precondition(removed >= 0 && removed <= count)
        start += removed
        if start == end { removeAll() }
    }

    mutating func removeAll() {
        free(base)
        base = nil
        capacity = 0
        start = 0
        end = 0
    }
}
