/// In which order a tunnel's streams send: deficit round robin, with streams that have just begun to send first, so that
/// a short exchange is not queued behind bulk. A stream that goes on sending is bulk; bulk is never starved: after so
/// many bytes of short ones it has its turn.
struct StreamScheduler {
    /// What a stream may send before it counts as bulk.
    static let freshQuantum: Int32 = 16_384
    /// Bytes of short streams between two turns of bulk.
    static let freshBytesMax = 131_072

    private var fresh = StreamQueue()
    private var bulk = StreamQueue()
    private var freshBytes = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    /// A stream may have something to send.
    mutating func add(_ stream: StreamPointer) {
        guard !stream.pointee.flags.contains(.queued) else { return }
        stream.pointee.flags.formUnion([.queued, .fresh])
        stream.pointee.deficit = Self.freshQuantum
        fresh.append(stream)
        count += 1
    }

    /// Takes out the stream whose turn it is; `deficit` is what it may send. Give it back with `served`.
    mutating func next(quantum: Int32) -> StreamPointer? {
        let prefersBulk = freshBytes >= Self.freshBytesMax && !bulk.isEmpty
        if !prefersBulk, let stream = fresh.popFirst() { return taken(stream) }
        guard let stream = bulk.popFirst() else { return fresh.popFirst().map { taken($0) } }
        freshBytes = 0
        stream.pointee.deficit += quantum
        return taken(stream)
    }

    /// The stream sent `bytes`; `hasMore` puts it at the end of its queue.
    mutating func served(_ stream: StreamPointer, bytes: Int, hasMore: Bool) {
        if stream.pointee.flags.contains(.fresh) { freshBytes += bytes }
        stream.pointee.deficit -= Int32(truncatingIfNeeded: bytes)
        guard hasMore else {
            stream.pointee.flags.remove(.fresh)
            return
        }
        count += 1
        stream.pointee.flags.insert(.queued)
        if stream.pointee.flags.contains(.fresh) && stream.pointee.deficit > 0 { return fresh.append(stream) }
        stream.pointee.flags.remove(.fresh)
        bulk.append(stream)
    }

    /// The turn could not be used (the tunnel's own window is shut): it comes first the next time.
    mutating func putBack(_ stream: StreamPointer) {
        count += 1
        stream.pointee.flags.insert(.queued)
        if stream.pointee.flags.contains(.fresh) { fresh.prepend(stream) } else { bulk.prepend(stream) }
    }

    /// Takes a stream out that ends.
    mutating func remove(_ stream: StreamPointer) {
        guard stream.pointee.flags.contains(.queued) else { return }
        if stream.pointee.flags.contains(.fresh) { fresh.remove(stream) } else { bulk.remove(stream) }
        stream.pointee.flags.subtract([.queued, .fresh])
        count -= 1
    }

    // MARK: private

    private mutating func taken(_ stream: StreamPointer) -> StreamPointer {
        stream.pointee.flags.remove(.queued)
        count -= 1
        return stream
    }
}

/// Streams in order, linked through `queueNext`.
struct StreamQueue {
    private(set) var first: StreamPointer?
    private var last: StreamPointer?

    var isEmpty: Bool { first == nil }

    mutating func append(_ stream: StreamPointer) {
        stream.pointee.queuePrevious = last
        stream.pointee.queueNext = nil
        if let last { last.pointee.queueNext = stream } else { first = stream }
        last = stream
    }

    mutating func prepend(_ stream: StreamPointer) {
        stream.pointee.queuePrevious = nil
        stream.pointee.queueNext = first
        if let first { first.pointee.queuePrevious = stream } else { last = stream }
        first = stream
    }

    mutating func popFirst() -> StreamPointer? {
        guard let stream = first else { return nil }
        remove(stream)
        return stream
    }

    mutating func remove(_ stream: StreamPointer) {
        let (previous, next) = (stream.pointee.queuePrevious, stream.pointee.queueNext)
        if let previous { previous.pointee.queueNext = next } else { first = next }
        if let next { next.pointee.queuePrevious = previous } else { last = previous }
        stream.pointee.queuePrevious = nil
        stream.pointee.queueNext = nil
    }
}
