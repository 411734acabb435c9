package import MeshModel

/// What is said to a query that is not forwarded.
package enum DNSAnswer: Sendable {
    /// Addresses of a name of the mesh; those of the family that was asked for are written.
    case addresses([IPAddress])
    /// The name is the mesh's and has nothing of this type.
    case empty
    /// The name would be the mesh's and is not there.
    case nameError
    /// Said by nobody's authority.
    case failure(DNSResponseCode)
    /// An upstream's answer that does not fit: ask again by TCP.
    case truncated
}

/// Where the mesh's authority begins, and what its answers say beside themselves.
package struct DNSAuthority: Sendable {
    /// At most five seconds, and never longer than what stands behind a name lives on.
    package let timeToLive: UInt32
    /// Changes with the names.
    package let serial: UInt32

    package static let timeToLiveMax: UInt32 = 5

    package init(timeToLive: UInt32, serial: UInt32) {
        self.timeToLive = min(timeToLive, Self.timeToLiveMax)
        self.serial = serial
    }
}

/// Writes one answer. What does not fit is left out and said to be (TC); the question is given back as it came, letter
/// by letter, since some askers spell it at random to know their answers by.
package struct DNSAnswerWriter: ~Copyable {
    private let output: UnsafeMutableRawBufferPointer
    private let query: DNSQuery
    private let queryBytes: UnsafeRawBufferPointer
    private let sizeMax: Int
    private var count = DNSHeader.byteCount
    private var answers = 0
    private var authorities = 0
    private var additionals = 0
    private var isTruncated = false

    /// Header, question and OPT: `output` must have room for them and should have for `datagramBytesMin`.
    package static let outputBytesMin = DNSHeader.byteCount + DNSLimits.nameBytesMax + 4 + optByteCount
    private static let optByteCount = 11

    /// `isStream`: over TCP the asker's datagram size means nothing.
    package init(
        answering query: DNSQuery, _ queryBytes: UnsafeRawBufferPointer, isStream: Bool,
        to output: UnsafeMutableRawBufferPointer
    ) {
        precondition(output.count >= Self.outputBytesMin, "no room for an answer")
        self.output = output
        self.query = query
        self.queryBytes = queryBytes
        let limit = isStream ? DNSLimits.messageBytesMax : query.payloadSize
        sizeMax = min(limit, output.count, DNSLimits.messageBytesMax)
    }

    /// The number of bytes written. `zone`: where in the question's name its zone begins (`NameDecision.zone`).
    package consuming func write(_ answer: DNSAnswer, authority: DNSAuthority, zone: Int?) -> Int {
        var code = DNSResponseCode.noError
        var isAuthoritative = true
        copyQuestion()
        if let edns = query.edns, edns.version > 0 {
            return finish(.badVersion, isAuthoritative: false)
        }
        switch answer {
        case .addresses(let addresses):
            write(addresses, authority)
            if answers == 0 && !isTruncated { writeStart(authority, zone) }
        case .empty: writeStart(authority, zone)
        case .nameError:
            code = .nameError
            writeStart(authority, zone)
        case .failure(let failure):
            code = failure
            isAuthoritative = false
        case .truncated:
            isTruncated = true
            isAuthoritative = false
        }
        return finish(code, isAuthoritative: isAuthoritative)
    }

    // MARK: private

    private mutating func copyQuestion() {
        guard let question = query.question else { return }
        let bytes = UnsafeRawBufferPointer(rebasing: queryBytes[question.name.lowerBound..<question.end])
        UnsafeMutableRawBufferPointer(rebasing: output[count...]).copyMemory(from: bytes)
        count += bytes.count
    }

    /// Room that the OPT record will take.
    private var reserved: Int { query.edns == nil ? 0 : Self.optByteCount }

    private func hasRoom(_ size: Int) -> Bool { count + size + reserved <= sizeMax }

    private mutating func write(_ addresses: [IPAddress], _ authority: DNSAuthority) {
        guard let question = query.question else { return }
        for address in addresses {
            let type = address.isIPv4 ? DNSType.a : DNSType.aaaa
            guard question.type == type || question.type == DNSType.any else { continue }
            guard hasRoom(address.isIPv4 ? 16 : 28) else {
                isTruncated = true
                return
            }
            startRecord(type, authority.timeToLive, owner: question.name.lowerBound)
            put16(address.isIPv4 ? 4 : 16)
            if !address.isIPv4 {
                put32(UInt32(truncatingIfNeeded: address.high >> 32))
                put32(UInt32(truncatingIfNeeded: address.high))
                put32(UInt32(truncatingIfNeeded: address.low >> 32))
            }
            put32(UInt32(truncatingIfNeeded: address.low))
            answers += 1
        }
    }

    /// The start of authority, by which an asker knows how long there is nothing (RFC 2308).
    private mutating func writeStart(_ authority: DNSAuthority, _ zone: Int?) {
        guard let question = query.question else { return }
        let server: StaticString = "ns"
        let mailbox: StaticString = "hostmaster"
        let dataCount = server.utf8CodeUnitCount + mailbox.utf8CodeUnitCount + 6 + 20
        guard hasRoom(12 + dataCount) else { return }
        let owner = zone ?? question.name.lowerBound
        startRecord(DNSType.soa, authority.timeToLive, owner: owner)
        put16(UInt16(dataCount))
        for label in [server, mailbox] {
            put8(UInt8(label.utf8CodeUnitCount))
            label.withUTF8Buffer { for byte in $0 { put8(byte) } }
            put16(0xc000 | UInt16(owner))
        }
        put32(authority.serial)
        // Refresh, retry and expiry are for secondaries, of which there are none.
        for _ in 0..<3 { put32(60) }
        put32(authority.timeToLive)
        authorities = 1
    }

    private mutating func startRecord(_ type: UInt16, _ timeToLive: UInt32, owner: Int) {
        put16(0xc000 | UInt16(owner))
        put16(type)
        put16(DNSClass.internet)
        put32(timeToLive)
    }

    private consuming func finish(_ code: DNSResponseCode, isAuthoritative: Bool) -> Int {
        if query.edns != nil {
            put8(0)
            put16(DNSType.opt)
            put16(DNSLimits.ownPayloadSize)
            put32(UInt32(code.rawValue >> 4) << 24)
            put16(0)
            additionals = 1
        }
        let kept =
            DNSHeader.Flag.operation | DNSHeader.Flag.recursionDesired | DNSHeader.Flag.checkingDisabled
        var flags = query.header.flags & kept | DNSHeader.Flag.response | DNSHeader.Flag.recursionAvailable
        if isAuthoritative { flags |= DNSHeader.Flag.authoritative }
        if isTruncated { flags |= DNSHeader.Flag.truncated }
        flags |= code.rawValue & 0xf
        let end = count
        count = 0
        for word in [
            query.header.id, flags, query.question == nil ? 0 : 1, UInt16(truncatingIfNeeded: answers),
            UInt16(authorities), UInt16(additionals),
        ] { put16(word) }
        return end
    }

    private mutating func put8(_ byte: UInt8) {
        output[count] = byte
        count += 1
    }

    private mutating func put16(_ word: UInt16) {
        put8(UInt8(truncatingIfNeeded: word >> 8))
        put8(UInt8(truncatingIfNeeded: word))
    }

    private mutating func put32(_ word: UInt32) {
        put16(UInt16(truncatingIfNeeded: word >> 16))
        put16(UInt16(truncatingIfNeeded: word))
    }
}
