/// Header fields on their way into a block, kept in one run of bytes so that a list that is used again allocates
/// nothing. Names must be lower case; pseudo-fields come first (RFC 9113 section 8.3).
package struct HeaderFields: Sendable {
    struct Entry: Sendable {
        var nameEnd: Int
        var valueEnd: Int
        var isIndexed: Bool
    }

    private(set) var bytes: [UInt8] = []
    private(set) var entries: [Entry] = []

    package init() {}

    package var count: Int { entries.count }

    package mutating func removeAll() {
        bytes.removeAll(keepingCapacity: true)
        entries.removeAll(keepingCapacity: true)
    }

    /// `isIndexed: false` for values that do not repeat: they would only push others out of the peer's table.
    package mutating func append(_ name: StaticString, _ value: String, isIndexed: Bool = true) {
        bytes.append(contentsOf: UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        let nameEnd = bytes.count
        var value = value
        value.withUTF8 { bytes.append(contentsOf: $0) }
        entries.append(Entry(nameEnd: nameEnd, valueEnd: bytes.count, isIndexed: isIndexed))
    }

    /// Calls `body` with each field, in order.
    package func forEach(_ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) {
        bytes.withUnsafeBytes { bytes in
            var start = 0
            for entry in entries {
                body(
                    UnsafeRawBufferPointer(rebasing: bytes[start..<entry.nameEnd]),
                    UnsafeRawBufferPointer(rebasing: bytes[entry.nameEnd..<entry.valueEnd]))
                start = entry.valueEnd
            }
        }
    }
}
