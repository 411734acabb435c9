import Glibc

/// Ciphertext that waits for the socket: one contiguous run of bytes, so that one send() takes it. Without content it
/// has no memory; what it has comes from the thread's buffers and goes back to them.
struct CiphertextQueue: ~Copyable {
    private var buffer: TLSBuffers.Buffer?
    private var start = 0
    private var end = 0
    private let buffers: TLSBuffersPointer

    private static let capacityMin = 32_768

    init(_ buffers: TLSBuffersPointer) { self.buffers = buffers }

    deinit { if let buffer { buffers.pointee.give(buffer) } }

    var count: Int { end - start }
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: buffer.map { $0.base + start }, count: count) }

    /// False without memory; nothing is lost then.
    mutating func append(_ bytes: UnsafeRawPointer, count: Int) -> Bool {
        guard reserve(count), let base = buffer?.base else { return false }
        memcpy(base + end, bytes, count)
        end += count
        return true
    }

    /// Room for `room` bytes more.
    mutating func reserve(_ room: Int) -> Bool {
        let capacity = buffer?.capacity ?? 0
        if capacity - end >= room { return true }
        if start > 0, let base = buffer?.base, capacity - count >= room && count <= capacity / 2 {
            memmove(base, base + start, count)
        } else {
            let wanted = max(Self.capacityMin, count + room, min(2 * capacity, count + room + 1_048_576))
            guard let larger = buffers.pointee.take(wanted) else { return false }
            if let buffer {
                memcpy(larger.base, buffer.base + start, count)
                buffers.pointee.give(buffer)
            }
            buffer = larger
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
        if let buffer { buffers.pointee.give(buffer) }
        buffer = nil
        start = 0
        end = 0
    }
}
