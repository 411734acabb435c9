import DNSMessages
import MeshModel

/// Messages as bytes, for tests.
enum Message {
    static func query(
        _ name: String, type: UInt16 = DNSType.a, id: UInt16 = 0x1234, payloadSize: UInt16? = nil, version: UInt8 = 0
    ) -> [UInt8] {
        var bytes = words([id, 0x0100, 1, 0, 0, payloadSize == nil ? 0 : 1])
        bytes += wire(name) + words([type, DNSClass.internet])
        if let payloadSize { bytes += [0] + words([DNSType.opt, payloadSize, UInt16(version), 0, 0]) }
        return bytes
    }

    /// An answer of an upstream with A records.
    static func response(to query: [UInt8], addresses: [[UInt8]], seconds: UInt16 = 300) -> [UInt8] {
        var bytes = query
        bytes[2] |= 0x80
        (bytes[6], bytes[7]) = (0, UInt8(addresses.count))
        (bytes[10], bytes[11]) = (0, 0)
        for address in addresses {
            bytes += words([0xc00c, DNSType.a, DNSClass.internet, 0, seconds, UInt16(address.count)]) + address
        }
        return bytes
    }

    static func wire(_ name: String) -> [UInt8] {
        name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }

    static func words(_ words: [UInt16]) -> [UInt8] {
        words.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] }
    }
}

/// An answer taken apart by other code than the product's: answers without compression but for 0xc00c are all it knows.
struct ReadAnswer {
    var id: UInt16
    var flags: UInt16
    var counts: [UInt16]
    var bytes: [UInt8]

    init(_ bytes: [UInt8]) {
        func word(_ at: Int) -> UInt16 { UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]) }
        (id, flags, self.bytes) = (word(0), word(2), bytes)
        counts = [word(4), word(6), word(8), word(10)]
    }

    var code: UInt16 { flags & 0xf }
    var isAuthoritative: Bool { flags & 0x0400 != 0 }
    var isTruncated: Bool { flags & 0x0200 != 0 }
}

func answer(
    _ query: [UInt8], _ answer: DNSAnswer, seconds: UInt32 = 5, isStream: Bool = false, zone: Int? = nil
) -> ReadAnswer? {
    query.withUnsafeBytes { bytes in
        let parsed: DNSQuery
        switch DNSQuery.parse(bytes) {
        case .query(let query), .faulty(let query, _): parsed = query
        case .unanswerable: return nil
        }
        var output = [UInt8](repeating: 0xee, count: 4_096)
        let count = output.withUnsafeMutableBytes { output in
            DNSAnswerWriter(answering: parsed, bytes, isStream: isStream, to: output).write(
                answer, authority: DNSAuthority(timeToLive: seconds, serial: 7), zone: zone)
        }
        return ReadAnswer(Array(output[..<count]))
    }
}
