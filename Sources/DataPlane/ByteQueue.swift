import CLinux
import Glibc

/// A piece of memory of fixed size; its header lies before its bytes.
struct Chunk {
    var next: UnsafeMutablePointer<Chunk>?
    var start: UInt32 = 0
    var end: UInt32 = 0

    /// With its header. Small enough that a stream which holds a few bytes costs little, large enough that a writev of
    /// a full vector moves a megabyte.
    static let size = 16_384
    static var headerSize: Int { MemoryLayout<Chunk>.stride }
    static var capacity: Int { size - headerSize }
}

typealias ChunkPointer = UnsafeMutablePointer<Chunk>

extension UnsafeMutablePointer<Chunk> {
    var bytes: UnsafeMutableRawPointer { UnsafeMutableRawPointer(self) + Chunk.headerSize }
    var count: Int { Int(pointee.end - pointee.start) }
    var room: Int { Chunk.capacity - Int(pointee.end) }
}

/// A loop's chunks. What is taken counts in the budget; a bounded number of free ones is kept for the next taker.
struct ChunkPool: ~Copyable {
    private static let keptMax = 64

    private let budget: MemoryBudget
    private var free: ChunkPointer?
    private var kept = 0

    init(budget: MemoryBudget) { self.budget = budget }

    deinit {
        var next = free
        while let chunk = next {
            next = chunk.pointee.next
            Glibc.free(chunk)
        }
    }

    mutating func take() -> ChunkPointer {
        budget.take(Chunk.size)
        if let chunk = free {
            free = chunk.pointee.next
            kept -= 1
            chunk.initialize(to: Chunk())
            return chunk
        }
        let chunk = UnsafeMutableRawPointer.allocate(byteCount: Chunk.size, alignment: 16)
            .bindMemory(to: Chunk.self, capacity: 1)
        chunk.initialize(to: Chunk())
        return chunk
    }

    mutating func give(_ chunk: ChunkPointer) {
        budget.give(Chunk.size)
        guard kept < Self.keptMax else { return UnsafeMutableRawPointer(chunk).deallocate() }
        chunk.pointee.next = free
        free = chunk
        kept += 1
    }
}

/// Bytes in order, in chunks. Empty, it holds no memory; whoever owns it empties it before it ends.
struct ByteQueue {
    private var head: ChunkPointer?
    private var tail: ChunkPointer?
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    mutating func append(_ source: UnsafeRawPointer, count length: Int, pool: inout ChunkPool) {
        var done = 0
        while done < length {
            let chunk = chunkWithRoom(&pool)
            let step = min(chunk.room, length - done)
            (chunk.bytes + Int(chunk.pointee.end)).copyMemory(from: source + done, byteCount: step)
            chunk.pointee.end += UInt32(truncatingIfNeeded: step)
            done += step
        }
        count += length
    }

    /// Takes over all that `other` holds, behind what is here.
    mutating func append(taking other: inout ByteQueue) {
        guard let first = other.head else { return }
        if let tail { tail.pointee.next = first } else { head = first }
        tail = other.tail
        count += other.count
        other = ByteQueue()
    }

    /// Describes the first bytes in at most `vectors.count` pieces and returns how many pieces there are.
    func describe(_ vectors: UnsafeMutableBufferPointer<iovec>) -> Int {
        var index = 0
        var next = head
        while let chunk = next, index < vectors.count {
            vectors[index] = iovec(iov_base: chunk.bytes + Int(chunk.pointee.start), iov_len: chunk.count)
            index += 1
            next = chunk.pointee.next
        }
        return index
    }

    /// Forgets the first `length` bytes.
    mutating func consume(_ length: Int, pool: inout ChunkPool) {
        precondition(length <= count, "consumed more than is queued")
        count -= length
        var rest = length
        while let chunk = head, rest > 0 || chunk.count == 0 {
            let step = min(rest, chunk.count)
            chunk.pointee.start += UInt32(truncatingIfNeeded: step)
            rest -= step
            guard chunk.count == 0 else { return }
            head = chunk.pointee.next
            if head == nil { tail = nil }
            pool.give(chunk)
        }
    }

    /// Copies the first bytes out, at most `room` of them, and forgets them; returns how many.
    mutating func take(into target: UnsafeMutableRawPointer, room: Int, pool: inout ChunkPool) -> Int {
        let total = min(room, count)
        var done = 0
        var next = head
        while let chunk = next, done < total {
            let step = min(chunk.count, total - done)
            (target + done).copyMemory(from: chunk.bytes + Int(chunk.pointee.start), byteCount: step)
            done += step
            next = chunk.pointee.next
        }
        consume(total, pool: &pool)
        return total
    }

    mutating func removeAll(pool: inout ChunkPool) { consume(count, pool: &pool) }

    // MARK: private

    private mutating func chunkWithRoom(_ pool: inout ChunkPool) -> ChunkPointer {
        if let tail, tail.room > 0 { return tail }
        let chunk = pool.take()
        if let tail { tail.pointee.next = chunk } else { head = chunk }
        tail = chunk
        return chunk
    }
}
