import HBONE
import MeshModel
import Testing

@Suite struct RequestHeaderTests {
    @Test func forwardedIsWrittenAsZtunnelDoes() throws {
        let v4 = try #require(SocketAddress(parsing: "10.0.0.1:4242"))
        let v6 = try #require(SocketAddress(parsing: "[2001:db8::1]:4242"))
        #expect(Forwarded(client: v4).description == "for=\"10.0.0.1:4242\"")
        #expect(Forwarded(client: v6, host: "web.shop").description == "for=\"[2001:db8::1]:4242\";host=web.shop")
        for forwarded in [
            Forwarded(client: v4), Forwarded(client: v6, host: "web.shop"), Forwarded(client: nil, host: "a"),
        ] {
            #expect(Forwarded(forwarded.description) == forwarded)
        }
    }

    @Test(arguments: [
        ("For=\"10.0.0.1:80\";proto=http;by=203.0.113.43", "10.0.0.1:80", nil),
        ("host=\"web.shop:80\";for=\"[2001:db8::1]:80\"", "[2001:db8::1]:80", "web.shop:80"),
        ("for=\"10.0.0.1:80\" , for=\"10.0.0.2:80\"", "10.0.0.1:80", nil), ("for=10.0.0.1", nil, nil),
        ("for=unknown", nil, nil), ("for=\"_hidden:80\"", nil, nil), ("for=\"10.0.0.1\\:80\"", "10.0.0.1:80", nil),
        ("for=\"10.0.0.1\"", nil, nil), ("for=\"\"", nil, nil),
    ])
    func readsForwarded(_ text: String, _ client: String?, _ host: String?) {
        #expect(Forwarded(text) == Forwarded(client: client.flatMap { SocketAddress(parsing: $0) }, host: host))
    }

    @Test(arguments: [
        "", "for", "for=", "=x", "for=\"10.0.0.1:80", "for=\"10.0.0.1:80\\", "for=\"10.0.0.1:80\";", "for=a;for=b",
        "for=[2001:db8::1]:80", "for=10.0.0.1:80", "for=\"a\u{1}\"", "for=\"é\"", "for=a,", "for=a b", "for =a",
        ";for=a",
        "host=a;host=b", "for=\"a\"x",
    ])
    func refusesForwarded(_ text: String) { #expect(Forwarded(text) == nil) }

    @Test func longForwardedIsNotLookedAt() {
        #expect(Forwarded("for=\"\(String(repeating: "a", count: 506))\"") != nil)
        #expect(Forwarded("for=\"\(String(repeating: "a", count: 507))\"") == nil)
    }

    @Test func traceParentIsTheSameBothWays() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        #expect(TraceParent(text)?.description == text)
        let own = TraceParent(traceHigh: 1, traceLow: 2, parent: 3)
        #expect(own.description == "00-00000000000000010000000000000002-0000000000000003-00")
        #expect(own.description.utf8.count == TraceParent.length)
        #expect(TraceParent(own.description) == own)
        #expect(TraceParent(TraceParent(traceHigh: 0, traceLow: 0, parent: 0).description) != nil)
    }

    @Test(arguments: [
        "", "00", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319cxb7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
    ])
    func refusesTraceParent(_ text: String) { #expect(TraceParent(text) == nil) }

    @Test func baggageIsTheSameBothWays() {
        var baggage = Baggage()
        baggage.cluster = "c1"
        baggage.namespace = "shop"
        baggage.workloadKind = "pod"
        baggage.workload = "web-0"
        baggage.service = "web"
        baggage.version = "v1"
        baggage.region = "r"
        baggage.zone = "z"
        #expect(
            baggage.description
                == "k8s.cluster.name=c1,k8s.namespace.name=shop,k8s.pod.name=web-0,service.name=web,service.version=v1,"
                + "cloud.region=r,cloud.availability_zone=z")
        #expect(Baggage(baggage.description) == baggage)
        baggage.zone = "a,b"
        #expect(!baggage.description.contains("zone"))
    }

    @Test func baggageTakesWhatItKnowsAndLeavesTheRest() {
        let baggage = Baggage(
            " service.name = web ; p=1 ,other=x,,=,k8s.namespace.name,service.version=a b,cloud.region=r")
        #expect(baggage?.service == "web" && baggage?.namespace == "" && baggage?.version == "")
        #expect(baggage?.region == "r")
        #expect(Baggage(String(repeating: "a", count: 4_097)) == nil)
        #expect(Baggage("service.name=\(String(repeating: "a", count: 254))")?.service == "")
        let many = String(repeating: "a=b,", count: 32) + "service.name=late"
        #expect(Baggage(many)?.service == "")
    }

    @Test func randomHeadersNeverTrap() {
        var random = SystemRandomNumberGenerator()
        let alphabet = Array("for=\"10.0:];,\\host \t[a%=-0".utf8)
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...56)).map { _ in
                alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
            }
            bytes.withUnsafeBytes { bytes in
                _ = Forwarded(parsing: bytes)
                _ = TraceParent(parsing: bytes)
                _ = Baggage(parsing: bytes)
            }
        }
    }
}
