import MeshModel
import Testing

@Suite struct IPAddressTests {
    @Test(arguments: [
        ("0.0.0.0", "0.0.0.0"), ("10.1.2.3", "10.1.2.3"), ("255.255.255.255", "255.255.255.255"),
        ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("2001:db8::1", "2001:db8::1"),
        ("2001:0DB8:0:0:0:0:0:1", "2001:db8::1"), ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"), ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("::ffff:192.0.2.1", "192.0.2.1"), ("::ffff:c000:201", "192.0.2.1"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ("fe80:0:0:0:1:0:0:0", "fe80::1:0:0:0"), ("1:0:0:2:0:0:3:0", "1::2:0:0:3:0"),
    ])
    func readsAddressesAndWritesTheirCanonicalText(text: String, canonical: String) throws {
        let address = try #require(IPAddress(parsing: text))
        #expect(address.description == canonical)
        #expect(IPAddress(parsing: canonical) == address)
    }

    @Test(arguments: [
        "", " ", "1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.04", "256.1.1.1", "1.2.3.-4", "1.2.3.4 ", " 1.2.3.4",
        "1..2.3", "0x1.2.3.4", ":", ":::", "1:::2", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "g::",
        "::1%lo", "[::1]", "1:2:3:4:5:6:7:8::", "::1.2.3", "::1.2.3.4:5", "1.2.3.4::", ":1::2", "1::2:",
        "1:2:3:4:5:6:7:",
        "١.2.3.4", "1.2.3.4\0", "::\u{fe0f}1", "1::2:3:4:5:6:7:8",
    ])
    func refusesWhatIsNoAddress(text: String) { #expect(IPAddress(parsing: text) == nil) }

    @Test func everyAddressComesBackFromItsText() {
        var random = SplitMix(seed: 1)
        for _ in 0..<2_000 {
            // Many zero groups, so that shortening is exercised.
            var mask: UInt64 = 0
            for _ in 0..<4 { mask = mask << 16 | (Bool.random(using: &random) ? 0xffff : 0) }
            let address = IPAddress(
                high: random.next() & mask, low: random.next() & (mask << 16 | mask >> 48))
            #expect(IPAddress(parsing: address.description) == address, "\(address.high) \(address.low)")
        }
    }

    @Test func readsSocketAddresses() {
        #expect(SocketAddress(parsing: "1.2.3.4:80")?.description == "1.2.3.4:80")
        #expect(SocketAddress(parsing: "[2001:db8::1]:65535")?.description == "[2001:db8::1]:65535")
        let refused = [
            "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:080", "1.2.3.4:65536", "::1:80", "[1.2.3.4]:80", "[::1]80",
            "[::1:80", "::1]:80", "1.2.3.4:+80", "1.2.3.4:8 0", ":80", "[]:80",
        ]
        for text in refused { #expect(SocketAddress(parsing: text) == nil, "\(text)") }
    }
}
