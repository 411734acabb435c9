/// Flows by index, with a list in the order of change. Grows in chunks: doubling an array would hold the table twice.
struct FlowStorage {
    private static let chunkSize = 256
    private var chunks: [[Flow]] = []
    private var used = 0
    private var free: [Int32] = []
    private var first: Int32 = -1
    private var last: Int32 = -1
    private var lastChange: UInt64 = 0

    var count: Int { used - free.count }
    /// The number of the newest change.
    var newestChange: UInt64 { lastChange }

    subscript(index: Int32) -> Flow {
        get { chunks[Int(index) / Self.chunkSize][Int(index) % Self.chunkSize] }
        _modify { yield &chunks[Int(index) / Self.chunkSize][Int(index) % Self.chunkSize] }
    }

    mutating func insert(_ flow: Flow) -> Int32 {
        let index: Int32
        if let reused = free.popLast() {
            index = reused
            self[index] = flow
        } else {
            if used % Self.chunkSize == 0 {
                chunks.append([])
                chunks[chunks.count - 1].reserveCapacity(Self.chunkSize)
            }
            index = Int32(used)
            used += 1
            chunks[chunks.count - 1].append(flow)
        }
        append(index)
        return index
    }

    mutating func remove(_ index: Int32) {
        unlink(index)
        // Lets go of the names at once.
        self[index] = Flow(id: 0, openedNanoseconds: 0, source: self[index].source, destination: self[index].source)
        free.append(index)
    }

    /// Marks the flow as changed: it goes to the end of the list.
    mutating func touch(_ index: Int32) {
        unlink(index)
        append(index)
    }

    /// The oldest flow that changed after `change`.
    func firstIndex(changedAfter change: UInt64) -> Int32? {
        guard change > 0 else { return first < 0 ? nil : first }
        var index = last
        var found: Int32?
        while index >= 0, self[index].change > change {
            found = index
            index = self[index].previous
        }
        return found
    }

    func index(after index: Int32) -> Int32? {
        let next = self[index].next
        return next < 0 ? nil : next
    }

    // MARK: private

    private mutating func append(_ index: Int32) {
        lastChange += 1
        self[index].change = lastChange
        self[index].previous = last
        self[index].next = -1
        if last >= 0 { self[last].next = index } else { first = index }
        last = index
    }

    private mutating func unlink(_ index: Int32) {
        let (previous, next) = (self[index].previous, self[index].next)
        if previous >= 0 { self[previous].next = next } else { first = next }
        if next >= 0 { self[next].previous = previous } else { last = previous }
    }
}
