import DNSMessages
import MeshModel
import Testing

@Suite struct AnswerTests {
    private static let ipv4 = IPAddress(ipv4: 0x0a60_000a)
    private static let ipv6 = IPAddress(high: 0xfd96_0000_0000_0000, low: 0x10)

    @Test func answersWithTheFamilyThatWasAskedFor() throws {
        let both = DNSAnswer.addresses([Self.ipv4, Self.ipv6])
        let a = try #require(answer(Message.query("web"), both))
        #expect(a.counts == [1, 1, 0, 0] && a.isAuthoritative && a.code == 0)
        #expect(a.bytes.suffix(4) == [10, 96, 0, 10])
        let aaaa = try #require(answer(Message.query("web", type: DNSType.aaaa), both))
        #expect(aaaa.counts == [1, 1, 0, 0])
        #expect(aaaa.bytes.suffix(16) == [0xfd, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10])
        let any = try #require(answer(Message.query("web", type: DNSType.any), both))
        #expect(any.counts == [1, 2, 0, 0])
    }

    @Test func givesIDFlagsAndSpellingBack() throws {
        let query = Message.query("wEb.SHop", id: 0xbeef)
        let read = try #require(answer(query, .addresses([Self.ipv4])))
        #expect(read.id == 0xbeef)
        #expect(read.flags == 0x8580, "response, authoritative, recursion desired and available")
        #expect(Array(read.bytes[12..<query.count]) == Array(query[12...]))
    }

    @Test func noAnswerLivesLongerThanFiveSeconds() throws {
        for (asked, given) in [(UInt32(3), UInt8(3)), (60, 5), (0, 0)] {
            let read = try #require(answer(Message.query("web"), .addresses([Self.ipv4]), seconds: asked))
            #expect(Array(read.bytes.suffix(10).prefix(4)) == [0, 0, 0, given])
        }
    }

    @Test func aKnownNameWithoutTheFamilyIsEmptyAndNoError() throws {
        let read = try #require(
            answer(Message.query("web", type: DNSType.aaaa), .addresses([Self.ipv4]), seconds: 5))
        #expect(read.code == 0 && read.isAuthoritative)
        #expect(read.counts == [1, 0, 1, 0], "an SOA says how long")
        #expect(read.bytes.suffix(4) == [0, 0, 0, 5])
    }

    @Test func aNameThatIsNotThereIsDeniedWithAuthority() throws {
        let query = Message.query("no.shop.svc.mesh.internal")
        let read = try #require(answer(query, .nameError, zone: 24))
        #expect(read.code == 3 && read.isAuthoritative && read.counts == [1, 0, 1, 0])
        #expect(Array(read.bytes[query.count..<(query.count + 2)]) == [0xc0, 24])
    }

    @Test func failuresAreNobodysAuthority() throws {
        let read = try #require(answer(Message.query("web"), .failure(.serverFailure)))
        #expect(read.code == 2 && !read.isAuthoritative && read.counts == [1, 0, 0, 0])
    }

    @Test func whatDoesNotFitIsSaidToBeMissing() throws {
        let many = DNSAnswer.addresses((0..<100).map { IPAddress(ipv4: 0x0a00_0000 + UInt32($0)) })
        let small = try #require(answer(Message.query("web"), many))
        #expect(small.isTruncated && small.bytes.count <= 512 && small.counts[1] > 20)
        let large = try #require(answer(Message.query("web", payloadSize: 4_000), many))
        #expect(!large.isTruncated && large.counts[1] == 100)
        let stream = try #require(answer(Message.query("web"), many, isStream: true))
        #expect(!stream.isTruncated && stream.counts[1] == 100)
    }

    @Test func anAnswerToEDNSSaysWhatWeTake() throws {
        let read = try #require(answer(Message.query("web", payloadSize: 4_096), .addresses([Self.ipv4])))
        #expect(read.counts[3] == 1)
        #expect(Array(read.bytes.suffix(11)) == [0] + Message.words([41, 1_232, 0, 0, 0]))
    }

    @Test func anUnknownEDNSVersionIsToldSo() throws {
        let read = try #require(answer(Message.query("web", payloadSize: 512, version: 1), .empty))
        #expect(read.code == 0 && read.counts == [1, 0, 0, 1])
        #expect(Array(read.bytes.suffix(6).prefix(1)) == [1], "BADVERS is 16: its upper bits stand in the OPT")
    }

    @Test func anAnswerTooLongForTheAskerBecomesAHint() throws {
        let read = try #require(answer(Message.query("www.example", payloadSize: 1_232), .truncated))
        #expect(read.isTruncated && !read.isAuthoritative && read.counts == [1, 0, 0, 1])
    }
}
