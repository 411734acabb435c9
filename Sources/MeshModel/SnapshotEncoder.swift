/// Collects the records of a snapshot and lays them out as bytes.
struct SnapshotEncoder {
    private var sections = [[UInt8]](repeating: [], count: SnapshotSectionKind.allCases.count)
    private var counts = [Int](repeating: 0, count: SnapshotSectionKind.allCases.count)
    private var recordSizes = [Int](repeating: 1, count: SnapshotSectionKind.allCases.count)
    private var texts: [String: TextReference] = [:]

    /// Every string is kept once.
    mutating func reference(to string: String) -> TextReference {
        if let known = texts[string] { return known }
        let text = SnapshotSectionKind.text.rawValue
        let reference = TextReference(
            offset: UInt32(truncatingIfNeeded: sections[text].count),
            length: UInt32(truncatingIfNeeded: string.utf8.count))
        sections[text] += string.utf8
        counts[text] = sections[text].count
        texts[string] = reference
        return reference
    }

    /// Sets the whole section; to be called once for each, with no records too.
    mutating func append<Record: BitwiseCopyable>(_ records: [Record], to kind: SnapshotSectionKind) {
        recordSizes[kind.rawValue] = MemoryLayout<Record>.stride
        counts[kind.rawValue] = records.count
        sections[kind.rawValue] = records.withUnsafeBytes { Array($0) }
    }

    /// Adds an open-addressed table, at most half full, over the records with these hashes.
    mutating func appendTable(_ kind: SnapshotSectionKind, hashes: [UInt64]) {
        var capacity = 2
        while capacity < hashes.count * 2 { capacity *= 2 }
        var slots = [UInt32](repeating: 0, count: capacity)
        for (index, hash) in hashes.enumerated() {
            var slot = Int(truncatingIfNeeded: hash) & (capacity - 1)
            while slots[slot] != 0 { slot = (slot + 1) & (capacity - 1) }
            slots[slot] = UInt32(truncatingIfNeeded: index + 1)
        }
        recordSizes[kind.rawValue] = MemoryLayout<UInt32>.stride
        counts[kind.rawValue] = capacity
        sections[kind.rawValue] = slots.withUnsafeBytes { Array($0) }
    }

    /// The section table and the sections, as they follow the header.
    func body() throws(SnapshotError) -> [UInt8] {
        var offset =
            MemoryLayout<SnapshotHeader>.stride + sections.count * MemoryLayout<SnapshotSectionEntry>.stride
        var bytes: [UInt8] = []
        for index in sections.indices {
            guard let count = UInt32(exactly: counts[index]), sections[index].count <= Int(UInt32.max) else {
                throw .tooLarge
            }
            let entry = SnapshotSectionEntry(
                offset: UInt64(offset), count: count, recordSize: UInt32(recordSizes[index]))
            withUnsafeBytes(of: entry) { bytes += $0 }
            offset += (sections[index].count + 7) & ~7
        }
        for section in sections {
            bytes += section
            bytes += repeatElement(0, count: -section.count & 7)
        }
        return bytes
    }

    /// The finished bytes: `header`, completed with length and checksum, before `body`.
    static func seal(_ header: SnapshotHeader, _ body: [UInt8]) -> [UInt8] {
        var header = header
        header.length = UInt64(MemoryLayout<SnapshotHeader>.stride + body.count)
        var bytes = withUnsafeBytes(of: header) { Array($0) } + body
        complete(&bytes)
        return bytes
    }

    fileprivate static func complete(_ bytes: inout [UInt8]) {
        let checksum = bytes.withUnsafeBytes {
            SnapshotHash.checksum(UnsafeRawBufferPointer(rebasing: $0[SnapshotHeader.checksumFrom...]))
        }
        bytes.withUnsafeMutableBytes {
            $0.storeBytes(of: checksum, toByteOffset: SnapshotHeader.checksumFrom - 8, as: UInt64.self)
        }
    }
}

extension Snapshot {
    /// Makes length and checksum fit changed bytes again, so that what is behind them is looked at.
    package static func reseal(_ bytes: inout [UInt8]) {
        guard bytes.count >= MemoryLayout<SnapshotHeader>.stride, bytes.count % 8 == 0 else { return }
        let count = UInt64(bytes.count)
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: count, toByteOffset: 16, as: UInt64.self) }
        SnapshotEncoder.complete(&bytes)
    }
}
