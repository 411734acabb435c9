import DNSMessages
import Testing

@Suite struct QueryTests {
    private func outcome(_ bytes: [UInt8]) -> String {
        bytes.withUnsafeBytes { bytes in
            switch DNSQuery.parse(bytes) {
            case .unanswerable: "unanswerable"
            case .faulty(_, let code): "faulty \(code.rawValue)"
            case .query(let query): query.question == nil ? "bare" : "query \(query.payloadSize)"
            }
        }
    }

    @Test func readsAQuestionWithAndWithoutEDNS() {
        #expect(outcome(Message.query("web.shop")) == "query 512")
        #expect(outcome(Message.query("web.shop", payloadSize: 1_400)) == "query 1400")
    }

    @Test func takesNoPayloadSizeBelow512() {
        #expect(outcome(Message.query("web", payloadSize: 100)) == "query 512")
    }

    @Test func doesNotAnswerAnswersOrScraps() {
        var response = Message.query("web")
        response[2] |= 0x80
        #expect(outcome(response) == "unanswerable")
        #expect(outcome([]) == "unanswerable")
        #expect(outcome(Array(Message.query("web").prefix(11))) == "unanswerable")
    }

    @Test func everyCutIsAFaultAndNoTrap() {
        let whole = Message.query("web.shop.svc.mesh.internal", payloadSize: 1_232)
        for count in 12..<whole.count { #expect(outcome(Array(whole.prefix(count))) == "faulty 1", "\(count) bytes") }
    }

    @Test func forwardsOtherOperationsUnread() {
        var update = Message.query("web")
        update[2] = 5 << 3
        #expect(outcome(update) == "bare")
    }

    @Test func refusesTwoQuestionsAndTwoOPTs() {
        var two = Message.query("web")
        two[5] = 2
        #expect(outcome(two) == "faulty 1")
        var opts = Message.query("web", payloadSize: 1_232)
        opts += opts.suffix(11)
        opts[11] = 2
        #expect(outcome(opts) == "faulty 1")
    }

    @Test func refusesPointersAndReservedLabelsInAQuestion() {
        for first: UInt8 in [0xc0, 0x40, 0x80] {
            let bytes = Message.words([1, 0x0100, 1, 0, 0, 0]) + [first, 12, 0, 1, 0, 1]
            #expect(outcome(bytes) == "faulty 1")
        }
    }

    @Test func takesNamesOf255BytesAndNoLonger() {
        let label = String(repeating: "a", count: 63)
        let longest = [label, label, label, String(repeating: "a", count: 61)].joined(separator: ".")
        #expect(outcome(Message.query(longest)) == "query 512")
        #expect(outcome(Message.query(longest + ".a")) == "faulty 1")
    }

    @Test func readsAddressesOfAnUpstreamsAnswer() {
        let query = Message.query("a.example")
        let response = Message.response(to: query, addresses: [[192, 0, 2, 1], [192, 0, 2, 2]], seconds: 60)
        response.withUnsafeBytes { bytes in
            guard let read = DNSResponse(bytes) else { return #expect(Bool(false), "not readable") }
            var seen: [String] = []
            #expect(read.forEachAddress(bytes) { seen.append("\($0) \($1)") })
            #expect(seen == ["192.0.2.1 60", "192.0.2.2 60"])
        }
    }

    @Test func knowsTheAnswerToItsQuestionInAnySpelling() {
        let query = Message.query("www.example")
        for (name, belongs) in [("WWW.Example", true), ("www.exampla", false), ("ww.example", false)] {
            let response = Message.response(to: Message.query(name), addresses: [])
            query.withUnsafeBytes { queryBytes in
                response.withUnsafeBytes { bytes in
                    guard case .query(let asked) = DNSQuery.parse(queryBytes), let read = DNSResponse(bytes) else {
                        return #expect(Bool(false), "not readable")
                    }
                    #expect(read.answers(bytes, asked, queryBytes) == belongs, "\(name)")
                }
            }
        }
    }

    @Test func pointersThatLoopOrPointForwardEndTheRecord() {
        let question = Message.wire("a") + Message.words([1, 1])
        for pointer in [[0xc0, 0x13], [0xc0, 0x14], [0xc0, 0xff]] as [[UInt8]] {
            // The owner of the record begins at 12 + 7 = 19 (0x13).
            let bytes =
                Message.words([1, 0x8180, 1, 1, 0, 0]) + question + pointer + Message.words([1, 1, 0, 60, 4])
                + [1, 2, 3, 4]
            bytes.withUnsafeBytes { bytes in
                #expect(DNSResponse(bytes)?.forEachAddress(bytes) { _, _ in } == false, "\(pointer)")
            }
        }
    }
}
