import HTTP2Framing
import Testing

@Suite struct HeaderDecoderTests {
    /// RFC 7541 C.4: three requests with Huffman coding on one connection.
    static let requests: [(block: String, fields: [String])] = [
        (
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"]
        ),
        (
            "8286 84be 5886 a8eb 1064 9cbf",
            [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"]
        ),
        (
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            [
                ":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com",
                "custom-key: custom-value",
            ]
        ),
    ]

    /// RFC 7541 C.3: the same in plain literals.
    static let plainRequests = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ]

    @Test func readsTheRFCsRequests() throws {
        for blocks in [Self.requests.map(\.block), Self.plainRequests] {
            let decoder = try Decoder()
            for (block, expected) in zip(blocks, Self.requests.map(\.fields)) {
                #expect(decoder.decode(hex(block)) == .complete)
                #expect(decoder.fields == expected)
            }
        }
    }

    @Test func readsTheSameInPiecesOfAnySize() throws {
        for chunk in 1...29 {
            let decoder = try Decoder()
            for (block, expected) in Self.requests {
                #expect(decoder.decode(hex(block), chunk: chunk) == .complete)
                #expect(decoder.fields == expected, "pieces of \(chunk)")
            }
        }
    }

    @Test func readsSensitiveAndUnindexedLiterals() throws {
        // RFC 7541 C.2.1 to C.2.4
        let blocks = [
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "040c 2f73 616d 706c 652f 7061 7468",
            "1008 7061 7373 776f 7264 0673 6563 7265 74", "82",
        ]
        let expected = ["custom-key: custom-header", ":path: /sample/path", "password: secret", ":method: GET"]
        for (block, field) in zip(blocks, expected) {
            let decoder = try Decoder()
            #expect(decoder.decode(hex(block)) == .complete)
            #expect(decoder.fields == [field])
        }
    }

    @Test(arguments: [
        ("entry 0", "80"), ("an entry that is not there", "c6"), ("a truncated literal", "400a 6375"),
        ("a table above the maximum", "3fe2 1f"), ("a table update behind a field", "8220"),
        ("an integer without end", "ffff ffff ffff ffff ffff ffff"), ("a Huffman code of EOS", "0084 ffff ffff 00"),
        ("Huffman padding of a byte", "0082 07ff 00"),
    ])
    func refuses(_ what: String, _ block: String) throws {
        for chunk in [1, .max] {
            let decoder = try Decoder()
            #expect(decoder.decode(hex(block), chunk: chunk) == .failed(.compression), "\(what)")
            #expect(decoder.decode([0x82]) == .failed(.compression), "the connection goes on after \(what)")
        }
    }

    @Test func aBlockAboveTheLimitsKeepsTheTableInStep() throws {
        let decoder = try Decoder(listSizeMax: 200, fieldsMax: 8)
        // x: 100 bytes, indexed; then again by its entry; then a name that is indexed too.
        let long = hex("4001 78 64") + [UInt8](repeating: 0x61, count: 100)
        #expect(decoder.decode(long + hex("be be 4001 7901 7a")) == .tooLarge)
        #expect(decoder.fields.count == 1)
        #expect(decoder.decode(hex("be")) == .complete)
        #expect(decoder.fields == ["y: z"])
        #expect(decoder.decode(hex("bf")) == .complete)
        #expect(decoder.fields.first?.count == 103)
    }

    @Test func tooManyFieldsAreTooLarge() throws {
        let decoder = try Decoder(listSizeMax: 16_384, fieldsMax: 8)
        #expect(decoder.decode([UInt8](repeating: 0x82, count: 8)) == .complete)
        #expect(decoder.decode([UInt8](repeating: 0x82, count: 9)) == .tooLarge)
        #expect(decoder.fields.count == 8)
        #expect(decoder.decode([0x82]) == .complete)
    }

    @Test func aBombCostsTheConnection() throws {
        let decoder = try Decoder(listSizeMax: 1_024, fieldsMax: 8)
        let long = hex("4001 78 7f81 1e") + [UInt8](repeating: 0x61, count: 3_968)
        #expect(decoder.decode(long) == .tooLarge)
        #expect(decoder.decode([UInt8](repeating: 0xbe, count: 100)) == .failed(.headersTooLarge))
    }

    @Test func aTablePastItsLimitIsEmptied() throws {
        let decoder = try Decoder()
        #expect(decoder.decode(hex("4001 7801 61")) == .complete)
        #expect(decoder.decode(hex("20 82")) == .complete)
        #expect(decoder.decode(hex("be")) == .failed(.compression))
    }

    @Test func whatNghttp2CompressesComesBack() throws {
        var random = SystemRandomNumberGenerator()
        guard var encoder = HeaderEncoder() else { throw NoMemory() }
        let decoder = try Decoder()
        var fields = HeaderFields()
        for round in 0..<2_000 {
            fields.removeAll()
            if round == 700 { encoder.limitTable(to: 64) }
            if round == 1_400 { encoder.limitTable(to: 1 << 20) }
            var expected: [String] = []
            for _ in 0..<Int.random(in: 0...10) {
                let value = String(
                    decoding: (0..<Int.random(in: 0...60)).map { _ in UInt8.random(in: 0x21...0x7e, using: &random) },
                    as: UTF8.self)
                let short = String(Int.random(in: 0...20))
                let isIndexed = Bool.random()
                fields.append("x-name", isIndexed ? short : value, isIndexed: isIndexed)
                expected.append("x-name: \(isIndexed ? short : value)")
            }
            let size = encoder.sizeMax(of: fields)
            let block = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
                count = encoder.encode(fields, to: UnsafeMutableRawBufferPointer(buffer)) ?? 0
            }
            #expect(decoder.decode(block, chunk: Int.random(in: 1...64)) == .complete)
            #expect(decoder.fields == expected)
        }
    }

    @Test func randomBlocksNeverTrapAndFailTheSameInPieces() throws {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<5_000 {
            let block = (0..<Int.random(in: 0...64)).map { _ in UInt8.random(in: 0...255, using: &random) }
            let whole = try Decoder()
            let cut = try Decoder()
            let outcome = whole.decode(block)
            #expect(cut.decode(block, chunk: Int.random(in: 1...8)) == outcome)
            if outcome == .complete { #expect(whole.fields == cut.fields) }
        }
    }
}

/// A decoder with the last block's fields as text.
private final class Decoder {
    private var inner: HeaderDecoder
    private(set) var fields: [String] = []

    init(listSizeMax: Int = 16_384, fieldsMax: Int = 64) throws {
        guard let made = HeaderDecoder(listSizeMax: listSizeMax, fieldsMax: fieldsMax) else { throw NoMemory() }
        inner = made
    }

    func decode(_ block: [UInt8], chunk: Int = .max) -> HeaderDecoder.Outcome {
        fields = []
        var rest = block[...]
        repeat {
            let part = Array(rest.prefix(chunk))
            rest = rest.dropFirst(chunk)
            var found: [String] = []
            let outcome = part.withUnsafeBytes { part in
                inner.decode(part, isLast: rest.isEmpty) { name, value in
                    found.append("\(String(decoding: name, as: UTF8.self)): \(String(decoding: value, as: UTF8.self))")
                }
            }
            fields += found
            if outcome != .more || rest.isEmpty { return outcome }
        } while true
    }
}

private struct NoMemory: Error {}

private func hex(_ text: String) -> [UInt8] {
    let digits = text.filter { $0 != " " }
    return stride(from: 0, to: digits.count, by: 2).compactMap {
        UInt8(digits.dropFirst($0).prefix(2), radix: 16)
    }
}
