import Glibc

/// Descriptors that travel beside a message, in order. Whoever takes one out owns it; the rest closes with the batch.
package struct DescriptorBatch: ~Copyable {
    private var numbers: [Int32]
    private var next = 0

    package init() { numbers = [] }

    package init(_ descriptor: consuming FileDescriptor) { numbers = [descriptor.release()] }

    /// Takes over open descriptors that nobody else owns.
    init(owning numbers: [Int32]) { self.numbers = numbers }

    deinit { for number in numbers[next...] { _ = Glibc.close(number) } }

    package var count: Int { numbers.count - next }
    package var isEmpty: Bool { count == 0 }

    package mutating func append(_ descriptor: consuming FileDescriptor) { numbers.append(descriptor.release()) }

    /// The first that is left; nil when all are taken.
    package mutating func takeFirst() -> FileDescriptor? {
        guard next < numbers.count else { return nil }
        defer { next += 1 }
        return FileDescriptor(owning: numbers[next])
    }

    /// Moves the first `count` (or all, if fewer) into a batch of their own.
    package mutating func takeFirst(_ count: Int) -> DescriptorBatch {
        let end = min(next + max(count, 0), numbers.count)
        defer { next = end }
        return DescriptorBatch(owning: Array(numbers[next..<end]))
    }

    borrowing func withNumbers<Result>(_ body: (UnsafeBufferPointer<Int32>) -> Result) -> Result {
        numbers[next...].withUnsafeBufferPointer(body)
    }
}
