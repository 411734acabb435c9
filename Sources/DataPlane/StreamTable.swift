/// A tunnel's streams by identifier: open addressing with linear probing, at most two thirds full.
struct StreamTable {
    private var slots: UnsafeMutablePointer<StreamPointer?>?
    private var capacity = 0
    private(set) var count = 0

    private static let capacityMin = 16

    func find(_ id: UInt32) -> StreamPointer? {
        guard let slots else { return nil }
        var index = home(id)
        while let stream = slots[index] {
            if stream.pointee.id == id { return stream }
            index = (index + 1) & (capacity - 1)
        }
        return nil
    }

    /// `stream` must not be in the table.
    mutating func insert(_ stream: StreamPointer) {
        if (count + 1) * 3 > capacity * 2 { grow() }
        place(stream)
        count += 1
    }

    mutating func remove(_ stream: StreamPointer) {
        guard let slots else { return }
        var hole = home(stream.pointee.id)
        while slots[hole] != stream {
            guard slots[hole] != nil else { return }
            hole = (hole + 1) & (capacity - 1)
        }
        count -= 1
        // Moves what follows back, so that no probe meets a hole.
        var index = hole
        while true {
            index = (index + 1) & (capacity - 1)
            guard let next = slots[index] else { break }
            let wanted = home(next.pointee.id)
            if (index &- wanted) & (capacity - 1) >= (index &- hole) & (capacity - 1) {
                slots[hole] = next
                hole = index
            }
        }
        slots[hole] = nil
        if count == 0 && capacity > Self.capacityMin { free() }
    }

    func forEach(_ body: (StreamPointer) -> Void) {
        guard let slots else { return }
        for index in 0..<capacity { if let stream = slots[index] { body(stream) } }
    }

    /// All of them, for callers that remove while they look.
    func all() -> [StreamPointer] {
        var streams: [StreamPointer] = []
        streams.reserveCapacity(count)
        forEach { streams.append($0) }
        return streams
    }

    /// The owner calls it when it ends.
    mutating func free() {
        slots?.deallocate()
        slots = nil
        capacity = 0
        count = 0
    }

    // MARK: private

    /// Spread by Fibonacci hashing: identifiers rise by two, and taken as they are they would fill one long run of slots,
    /// to whose end every removal had to look.
    private func home(_ id: UInt32) -> Int {
        let spread = (id >> 1) &* 2_654_435_769
        return Int(spread >> 8) & (capacity - 1)
    }

    private mutating func place(_ stream: StreamPointer) {
        guard let slots else { return }
        var index = home(stream.pointee.id)
        while slots[index] != nil { index = (index + 1) & (capacity - 1) }
        slots[index] = stream
    }

    private mutating func grow() {
        let old = slots
        let oldCapacity = capacity
        capacity = max(Self.capacityMin, capacity * 2)
        let new = UnsafeMutablePointer<StreamPointer?>.allocate(capacity: capacity)
        new.initialize(repeating: nil, count: capacity)
        slots = new
        for index in 0..<oldCapacity { if let stream = old?[index] { place(stream) } }
        old?.deallocate()
    }
}
