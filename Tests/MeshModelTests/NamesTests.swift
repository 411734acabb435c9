import CMeshABI
import MeshModel
import Testing

@Suite struct NamesTests {
    @Test func everyReasonHasItsOwnNameAndComesBackFromIt() {
        for reason in Reason.all {
            #expect(Reason(name: reason.name) == reason)
            #expect(Reason(number: reason.rawValue) == reason)
        }
        #expect(Set(Reason.all.map(\.name)).count == Reason.all.count)
        #expect(Reason(name: "endpoint_unreachable") == .MESH_REASON_ENDPOINT_UNREACHABLE)
        #expect(Reason(name: "max") == nil)
    }

    @Test func numbersOutsideTheListAreNoReason() {
        for number in [20, 31, 50, 191, 192, 500, -1, Int.max] { #expect(Reason(number: number) == nil) }
        // Every enumerator of the header stands in `all`: a name that is not there would be unknown to records.
        let named = (0..<Int32(Reason.MESH_REASON_MAX.rawValue)).compactMap { Reason(number: $0) }
        #expect(named == Reason.all)
    }

    @Test func readsPrincipalsOfFiveSegments() throws {
        let principal = try #require(Principal(parsing: "spiffe://mesh.local/ns/shop/sa/web-1"))
        #expect(principal.trustDomain == "mesh.local")
        #expect(principal.namespace == "shop")
        #expect(principal.serviceAccount == "web-1")
        #expect(principal.uri == "spiffe://mesh.local/ns/shop/sa/web-1")
    }

    @Test(arguments: [
        "", "spiffe://", "spiffe://td", "spiffe://td/ns/a/sa", "spiffe://td/ns/a/sa/", "spiffe://td/ns/a/sa/b/",
        "spiffe://td/ns/a/sa/b/c", "spiffe://td/ns//sa/b", "spiffe:///ns/a/sa/b", "spiffe://TD/ns/a/sa/b",
        "SPIFFE://td/ns/a/sa/b", "spiffe://td/NS/a/sa/b", "spiffe://td/sa/a/ns/b", "spiffe://td:80/ns/a/sa/b",
        "spiffe://u@td/ns/a/sa/b", "spiffe://td/ns/a/sa/b?x", "spiffe://td/ns/a/sa/b#x", "spiffe://td/ns/./sa/b",
        "spiffe://td/ns/a/sa/..", "spiffe://td/ns/a%20/sa/b", "spiffe://td/ns/ä/sa/b", "https://td/ns/a/sa/b",
        "spiffe://td/node/a", "spiffe://td/ns/a/sa/b\0",
    ])
    func refusesOtherIdentities(uri: String) { #expect(Principal(parsing: uri) == nil) }

    @Test func refusesIdentitiesBeyondTheLengthsOfTheStandard() {
        #expect(Principal(parsing: "spiffe://\(String(repeating: "a", count: 256))/ns/a/sa/b") == nil)
        #expect(Principal(parsing: "spiffe://td/ns/\(String(repeating: "a", count: 2048))/sa/b") == nil)
    }
}
