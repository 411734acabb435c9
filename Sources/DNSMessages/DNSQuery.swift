// DNSMessages reads and writes DNS messages where they lie, and says which names are the mesh's. It is pure: sockets,
// time and what to do with a name that is not the mesh's are DataPlane's. What it reads was written by strangers: it
// never traps, follows no pointer forward and keeps nothing.

/// A message that asks, read in place. It holds offsets: the bytes must be there as long as it is used.
package struct DNSQuery: Sendable {
    package let header: DNSHeader
    /// Nil where the message has none (a bare cookie request) or is of another kind than QUERY (an update): such are
    /// forwarded as they are.
    package let question: DNSQuestion?
    package let edns: EDNS?

    package enum Outcome: Sendable {
        case query(DNSQuery)
        /// To be told so; the header could be read.
        case faulty(DNSQuery, DNSResponseCode)
        /// Too short, or an answer: nobody can be answered.
        case unanswerable
    }

    /// Questions in one message; more than one was never used on the wire.
    private static let questionsMax = 1

    package static func parse(_ bytes: UnsafeRawBufferPointer) -> Outcome {
        guard bytes.count <= DNSLimits.messageBytesMax, let header = DNSHeader(bytes), !header.isResponse else {
            return .unanswerable
        }
        let bare = DNSQuery(header: header, question: nil, edns: nil)
        guard header.operation == 0 else { return .query(bare) }
        guard header.questionCount <= questionsMax else { return .faulty(bare, .formatError) }
        var question: DNSQuestion?
        var offset = DNSHeader.byteCount
        if header.questionCount == 1 {
            guard let asked = DNSQuestion(bytes, at: offset) else { return .faulty(bare, .formatError) }
            question = asked
            offset = asked.end
        }
        let withQuestion = DNSQuery(header: header, question: question, edns: nil)
        var records = DNSRecords(bytes, from: offset, counts: header)
        var edns: EDNS?
        while let record = records.next() {
            guard record.type == DNSType.opt else { continue }
            // RFC 6891 section 6.1.1: one, in the additional section, owned by the root.
            guard edns == nil, record.section == .additional, bytes[record.start] == 0 else {
                return .faulty(withQuestion, .formatError)
            }
            edns = EDNS(record)
        }
        guard !records.isMalformed else { return .faulty(withQuestion, .formatError) }
        return .query(DNSQuery(header: header, question: question, edns: edns))
    }

    /// What the asker takes in one datagram.
    package var payloadSize: Int { max(DNSLimits.datagramBytesMin, Int(edns?.payloadSize ?? 0)) }
}

package enum DNSLimits {
    /// Of any message: what the length before it on TCP can say.
    package static let messageBytesMax = 65_535
    /// What every asker takes (RFC 1035 section 2.3.4).
    package static let datagramBytesMin = 512
    /// What we say that we take: passes every path without fragments.
    package static let ownPayloadSize: UInt16 = 1_232
    /// Of a name on the wire, its root included.
    package static let nameBytesMax = 255
    package static let labelBytesMax = 63
    /// Compression pointers that one name may go through.
    package static let pointersMax = 32
}

/// The first twelve bytes.
package struct DNSHeader: Equatable, Sendable {
    package var id: UInt16
    package var flags: UInt16
    package var questionCount: UInt16
    package var answerCount: UInt16
    package var authorityCount: UInt16
    package var additionalCount: UInt16

    package static let byteCount = 12

    init(id: UInt16, flags: UInt16, questions: Int, answers: Int, authorities: Int, additionals: Int) {
        self.id = id
        self.flags = flags
        questionCount = UInt16(truncatingIfNeeded: questions)
        answerCount = UInt16(truncatingIfNeeded: answers)
        authorityCount = UInt16(truncatingIfNeeded: authorities)
        additionalCount = UInt16(truncatingIfNeeded: additionals)
    }

    package init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.byteCount else { return nil }
        id = bytes.bigEndian16(at: 0)
        flags = bytes.bigEndian16(at: 2)
        questionCount = bytes.bigEndian16(at: 4)
        answerCount = bytes.bigEndian16(at: 6)
        authorityCount = bytes.bigEndian16(at: 8)
        additionalCount = bytes.bigEndian16(at: 10)
    }

    package var isResponse: Bool { flags & Flag.response != 0 }
    package var isTruncated: Bool { flags & Flag.truncated != 0 }
    package var isAuthoritative: Bool { flags & Flag.authoritative != 0 }
    /// 0: QUERY.
    package var operation: UInt8 { UInt8(truncatingIfNeeded: flags >> 11) & 0xf }
    /// Its low four bits; EDNS has the others.
    package var responseCode: DNSResponseCode { DNSResponseCode(rawValue: flags & 0xf) }

    enum Flag {
        static let response: UInt16 = 0x8000
        static let operation: UInt16 = 0x7800
        static let authoritative: UInt16 = 0x0400
        static let truncated: UInt16 = 0x0200
        static let recursionDesired: UInt16 = 0x0100
        static let recursionAvailable: UInt16 = 0x0080
        static let checkingDisabled: UInt16 = 0x0010
    }
}

/// What an answer says of its success (RFC 1035 section 4.1.1, RFC 6891 section 9).
package struct DNSResponseCode: RawRepresentable, Equatable, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }

    package static let noError = DNSResponseCode(rawValue: 0)
    package static let formatError = DNSResponseCode(rawValue: 1)
    package static let serverFailure = DNSResponseCode(rawValue: 2)
    package static let nameError = DNSResponseCode(rawValue: 3)
    package static let refused = DNSResponseCode(rawValue: 5)
    /// An EDNS version that we do not know; needs EDNS to be told.
    package static let badVersion = DNSResponseCode(rawValue: 16)
}

package enum DNSType {
    package static let a: UInt16 = 1
    package static let soa: UInt16 = 6
    package static let aaaa: UInt16 = 28
    package static let opt: UInt16 = 41
    package static let any: UInt16 = 255
}

package enum DNSClass {
    package static let internet: UInt16 = 1
}

/// The asker's own limits (RFC 6891).
package struct EDNS: Equatable, Sendable {
    package let payloadSize: UInt16
    package let version: UInt8

    init(_ record: DNSRecord) {
        payloadSize = record.recordClass
        version = UInt8(truncatingIfNeeded: record.timeToLive >> 16)
    }
}

/// What is asked, by its place in the message.
package struct DNSQuestion: Equatable, Sendable {
    /// Without compression: there is nothing before it that could be meant.
    package let name: Range<Int>
    package let type: UInt16
    package let questionClass: UInt16
    package var end: Int { name.upperBound + 4 }

    init?(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        guard let end = DNSNames.end(bytes, at: offset, takesPointers: false), end + 4 <= bytes.count else {
            return nil
        }
        name = offset..<end
        type = bytes.bigEndian16(at: end)
        questionClass = bytes.bigEndian16(at: end + 2)
    }

    /// The name in lower case, without the last dot; nil for the root, and for what is no text: a name of ours has no
    /// dots in its labels, and is UTF-8.
    package func text(_ bytes: UnsafeRawBufferPointer) -> String? {
        withUnsafeTemporaryAllocation(byteCount: DNSLimits.nameBytesMax, alignment: 1) { text in
            guard let count = DNSNames.write(UnsafeRawBufferPointer(rebasing: bytes[name]), to: text), count > 0 else {
                return nil
            }
            return String(validating: text[..<count], as: UTF8.self)
        }
    }

    /// Whether `other`, in `otherBytes`, asks the same; letters of either case are the same.
    package func isSame(
        _ bytes: UnsafeRawBufferPointer, as other: DNSQuestion, _ otherBytes: UnsafeRawBufferPointer
    ) -> Bool {
        guard type == other.type, questionClass == other.questionClass, name.count == other.name.count else {
            return false
        }
        return zip(bytes[name], otherBytes[other.name]).allSatisfy { $0.asciiLowered == $1.asciiLowered }
    }
}

extension UnsafeRawBufferPointer {
    /// The caller has checked that both bytes are there.
    func bigEndian16(at offset: Int) -> UInt16 { UInt16(self[offset]) << 8 | UInt16(self[offset + 1]) }

    func bigEndian32(at offset: Int) -> UInt32 {
        UInt32(bigEndian16(at: offset)) << 16 | UInt32(bigEndian16(at: offset + 2))
    }
}

extension UInt8 {
    /// Letters of DNS names are the same in either case (RFC 4343), and only ASCII's.
    package var asciiLowered: UInt8 { self >= 0x41 && self <= 0x5a ? self | 0x20 : self }
}
