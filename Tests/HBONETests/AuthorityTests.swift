import HBONE
import MeshModel
import Testing

@Suite struct AuthorityTests {
    @Test(arguments: [
        ("10.0.0.1:80", "10.0.0.1:80"), ("255.255.255.255:65535", "255.255.255.255:65535"),
        ("[2001:db8::1]:8080", "[2001:db8::1]:8080"), ("[2001:DB8:0:0::1]:8080", "[2001:db8::1]:8080"),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"), ("[::1]:1", "[::1]:1"),
    ])
    func readsAddresses(_ text: String, _ expected: String) throws {
        let address = try #require(SocketAddress(parsing: expected))
        #expect(Authority(text) == .address(address))
        #expect(Authority(text)?.description == expected)
    }

    @Test(arguments: [
        ("web:80", "web", 80), ("Web.Shop.SVC.cluster.local:8080", "web.shop.svc.cluster.local", 8080),
        ("a-b_c.d1:65535", "a-b_c.d1", 65535), ("1.2.3.4.example:1", "1.2.3.4.example", 1), ("3com:80", "3com", 80),
    ])
    func readsNames(_ text: String, _ host: String, _ port: Int) {
        #expect(Authority(text) == .name(host, port: UInt16(port)))
    }

    @Test(arguments: [
        "", ":", ":80", "web", "web:", "web:0", "web:080", "web:65536", "web:99999999999", "web:+80", "web:8 0",
        "web:80 ",
        " web:80", "web:80:80", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:08", "10.0.0.256:80", "10.0.0:80", "10.0.0.1.:80",
        "010.0.0.1:80", "1.2.3.4.5:80", "0x7f.1:0x50", "2001:db8::1:80", "[2001:db8::1]", "[2001:db8::1]80",
        "[fe80::1%eth0]:80", "[fe80::1%25eth0]:80", "[10.0.0.1]:80", "[::1:80", "::1]:80", "[]:80", "[web]:80",
        "user@web:80", "user:password@10.0.0.1:80", "http://web:80", "web:80/", "web/x:80", "web?:80", "web#:80",
        "-web:80", "web-:80", "web-.x:80", "web..shop:80", ".web:80", "web.:80", "we b:80", "web\0:80", "web\n:80",
        "wéb:80", "web%2e:80", "*.web:80", "web,shop:80", "web;80:80", "\u{ff11}0.0.0.1:80", "12345:80", "web.123:80",
    ])
    func refuses(_ text: String) {
        #expect(Authority(text) == nil, "\(text) was read as \(String(describing: Authority(text)))")
    }

    @Test func namesHaveTheLengthsOfTheRFC() {
        let label = String(repeating: "a", count: 63)
        #expect(Authority("\(label):80") != nil)
        #expect(Authority("a\(label):80") == nil)
        let longest = "\(label).\(label).\(label).\(label.dropFirst(2))"
        #expect(Authority("\(longest):65535") == .name(longest, port: 65535))
        #expect(Authority("\(longest)a:80") == nil)
        #expect(Authority(String(repeating: "a.", count: 5_000) + "a:80") == nil)
    }

    @Test func bytesThatAreNoTextAreRefused() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...24)).map { _ in UInt8.random(in: 0...255, using: &random) }
            let authority = bytes.withUnsafeBytes { Authority(parsing: $0) }
            guard let authority else { continue }
            #expect(Authority(authority.description) == authority)
        }
    }

    @Test func damagedAuthoritiesAreRefusedOrReadAlike() {
        let samples = ["10.20.30.40:8080", "[2001:db8::ff:1]:443", "web.shop.svc:80"].map { Array($0.utf8) }
        var random = SystemRandomNumberGenerator()
        for round in 0..<20_000 {
            var bytes = samples[round % samples.count]
            for _ in 0...Int.random(in: 0...2) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0x20...0x7f, using: &random)
            }
            guard let authority = bytes.withUnsafeBytes({ Authority(parsing: $0) }) else { continue }
            #expect(Authority(authority.description) == authority, "\(String(decoding: bytes, as: UTF8.self))")
        }
    }
}
