import CMeshABI
import MeshModel
import OpenSSLTLS
import Testing

@Suite struct HandshakeTests {
    let authority: Authority
    let web: TLSIdentity
    let shop: TLSIdentity

    init() throws {
        try TLSLibrary.prepare()
        authority = try Authority()
        web = try authority.identity("web")
        shop = try authority.identity("shop")
    }

    @Test func bothSidesLearnWhoThePeerIs() throws {
        let link = try Link(client: shop, server: web)
        try link.established()
        #expect(link.client?.peerPrincipal == web.principal)
        #expect(link.server?.peerPrincipal == shop.principal)
        #expect(link.client?.localPrincipal == shop.principal)
        #expect(link.server?.localPrincipal == web.principal)
        #expect(link.server?.serverName == web.serverName)
        #expect(link.server?.peerNotAfter == Authority.now + 3_600)
        #expect(link.client?.pendingCount == 0)
    }

    @Test func serverNameIsTheHashOfThePrincipal() {
        // printf 'spiffe://mesh.example/ns/shop/sa/web' | sha256sum
        #expect(
            TLSLibrary.serverName(forPrincipal: "spiffe://mesh.example/ns/shop/sa/web")
                == "p-1b4eb7dc3f2e41f76440942bf9077723.culvert.internal")
    }

    @Test(arguments: [1, 2, 3, 7, 100, 1_000]) func handshakesInPieces(of size: Int) throws {
        let link = try Link(client: shop, server: web)
        let outcome = link.handshake(chunk: size)
        #expect(outcome.client == .done)
        #expect(outcome.server == .done)
        #expect(link.clientWrites(Array("ping".utf8)) == nil)
        while link.flushClient(size) > 0 {}
        #expect(link.serverReads().bytes == Array("ping".utf8))
    }
}
