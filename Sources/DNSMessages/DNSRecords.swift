package import MeshModel

/// Names on the wire: labels with their lengths, a zero at the end, or a pointer to where the rest stands.
enum DNSNames {
    /// Where the bytes behind the name begin; nil for what is no name. A pointer may only mean what stands before the
    /// labels that it follows, so that going after them ends.
    static func end(_ bytes: UnsafeRawBufferPointer, at start: Int, takesPointers: Bool) -> Int? {
        var offset = start
        var runStart = start
        var length = 1
        var pointers = 0
        var end: Int?
        while offset < bytes.count {
            let count = Int(bytes[offset])
            if count == 0 { return end ?? offset + 1 }
            if count <= DNSLimits.labelBytesMax {
                length += count + 1
                offset += count + 1
                guard length <= DNSLimits.nameBytesMax else { return nil }
                continue
            }
            // 0x40 and 0x80 were never given a meaning that lasted.
            guard count & 0xc0 == 0xc0, takesPointers, offset + 1 < bytes.count else { return nil }
            if end == nil { end = offset + 2 }
            let target = Int(bytes.bigEndian16(at: offset) & 0x3fff)
            pointers += 1
            guard target < runStart, target >= DNSHeader.byteCount, pointers <= DNSLimits.pointersMax else {
                return nil
            }
            runStart = target
            offset = target
        }
        return nil
    }

    /// Writes the uncompressed name as text in lower case, without the last dot; nil where a label has a dot of its own
    /// or `text` is too small: no name of ours does.
    static func write(_ name: UnsafeRawBufferPointer, to text: UnsafeMutableRawBufferPointer) -> Int? {
        var offset = 0
        var count = 0
        while offset < name.count, name[offset] != 0 {
            let end = offset + 1 + Int(name[offset])
            guard end <= name.count else { return nil }
            if count > 0 {
                guard count < text.count else { return nil }
                text[count] = UInt8(ascii: ".")
                count += 1
            }
            for byte in name[(offset + 1)..<end] {
                guard byte != UInt8(ascii: "."), count < text.count else { return nil }
                text[count] = byte.asciiLowered
                count += 1
            }
            offset = end
        }
        return count
    }
}

/// One resource record, by its place in the message.
package struct DNSRecord: Sendable {
    package enum Section: Sendable {
        case answer, authority, additional
    }

    package let section: Section
    /// Of the owner's name.
    package let start: Int
    package let type: UInt16
    package let recordClass: UInt16
    package let timeToLive: UInt32
    package let data: Range<Int>

    /// The address of an A or AAAA record.
    package func address(_ bytes: UnsafeRawBufferPointer) -> IPAddress? {
        guard recordClass == DNSClass.internet else { return nil }
        switch (type, data.count) {
        case (DNSType.a, 4): return IPAddress(ipv4: bytes.bigEndian32(at: data.lowerBound))
        case (DNSType.aaaa, 16):
            let words = stride(from: data.lowerBound, to: data.upperBound, by: 4).map { bytes.bigEndian32(at: $0) }
            return IPAddress(
                high: UInt64(words[0]) << 32 | UInt64(words[1]), low: UInt64(words[2]) << 32 | UInt64(words[3]))
        default: return nil
        }
    }
}

/// Goes through the records behind the questions, as many as the header announces and the bytes hold.
package struct DNSRecords {
    private let bytes: UnsafeRawBufferPointer
    private var offset: Int
    private var answers: UInt16
    private var authorities: UInt16
    private var additionals: UInt16
    /// Whether it ended before what was announced.
    package private(set) var isMalformed = false

    package init(_ bytes: UnsafeRawBufferPointer, from offset: Int, counts: DNSHeader) {
        self.bytes = bytes
        self.offset = offset
        answers = counts.answerCount
        authorities = counts.authorityCount
        additionals = counts.additionalCount
    }

    /// Nil at the end, and where nothing can be read any more.
    package mutating func next() -> DNSRecord? {
        guard let section = nextSection() else { return nil }
        let start = offset
        guard !isMalformed, let end = DNSNames.end(bytes, at: start, takesPointers: true), end + 10 <= bytes.count,
            end + 10 + Int(bytes.bigEndian16(at: end + 8)) <= bytes.count
        else {
            isMalformed = true
            return nil
        }
        let dataStart = end + 10
        offset = dataStart + Int(bytes.bigEndian16(at: end + 8))
        return DNSRecord(
            section: section, start: start, type: bytes.bigEndian16(at: end),
            recordClass: bytes.bigEndian16(at: end + 2), timeToLive: bytes.bigEndian32(at: end + 4),
            data: dataStart..<offset)
    }

    private mutating func nextSection() -> DNSRecord.Section? {
        if answers > 0 {
            answers -= 1
            return .answer
        }
        if authorities > 0 {
            authorities -= 1
            return .authority
        }
        guard additionals > 0 else { return nil }
        additionals -= 1
        return .additional
    }
}
