/// Flows that wait for a time to pass, oldest first. A flow may have been removed and its place reused meanwhile: the
/// entry carries its id.
struct WaitingFlows {
    struct Entry {
        var index: Int32
        var id: UInt64
        var at: UInt64
    }

    private var queue: [Entry] = []
    private var head = 0

    var oldest: Entry? { head < queue.count ? queue[head] : nil }

    mutating func append(_ index: Int32, id: UInt64, at: UInt64) { queue.append(Entry(index: index, id: id, at: at)) }

    mutating func removeOldest() -> Entry? {
        guard let entry = oldest else { return nil }
        head += 1
        if head > 1_024, head * 2 > queue.count {
            queue.removeFirst(head)
            head = 0
        }
        return entry
    }
}
