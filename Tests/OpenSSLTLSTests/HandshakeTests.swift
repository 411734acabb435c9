import CMeshABI
import COpenSSL
import MeshModel
import Testing

@testable import OpenSSLTLS

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

    // MARK: chains that are sent

    private func certificatesSent(by server: TLSIdentity) throws -> Int32 {
        let context = try TLSContext.make(trust: nil)
        defer { SSL_CTX_free(context) }
        let link = try Link()
        let client = try RawClient(context: context, socket: link.clientSocket, serverName: server.serverName)
        link.server = try TLSConnection(
            server: TLSServerContext(identities: [server]), descriptor: link.serverSocket, clock: Authority.now)
        for _ in 0..<4 {
            client.handshake()
            _ = link.server?.handshake()
            link.flushServer()
        }
        return client.peerCertificateCount
    }

    @Test func theRootIsNotSent() throws { #expect(try certificatesSent(by: web) == 1) }

    @Test func whatLiesBetweenIsSentFromTheChainOrElseFromTheBundle() throws {
        let issuer = try Authority(below: authority)
        let roots = try authority.trust()
        let both = try TLSTrust(
            trustDomain: authority.trustDomain, bundle: authority.certificate.pem() + issuer.certificate.pem())
        let fromChain = try issuer.identity("web", trust: roots, issuers: [issuer.certificate])
        let fromBundle = try issuer.identity("web", trust: both)
        for server in [fromChain, fromBundle] {
            #expect(try certificatesSent(by: server) == 2)
            // To a peer that knows the root alone.
            let outcome = try handshake(clock: Authority.now, shop, server)
            #expect(outcome.client == .done, "\(outcome.client)")
        }
        #expect(try certificatesSent(by: issuer.identity("web", trust: roots)) == 1)
    }

    // MARK: chains that were found good before

    private func handshake(clock: Int64, _ client: TLSIdentity, _ server: TLSIdentity) throws -> Link.Outcome {
        let link = try Link(
            client: client, expecting: server.principal, server: TLSServerContext(identities: [server]), clock: clock)
        return link.handshake()
    }

    @Test func aChainIsVerifiedOnceForEachRole() throws {
        let trust = try authority.trust()
        let (web, shop) = (try authority.identity("web", trust: trust), try authority.identity("shop", trust: trust))
        for _ in 0..<3 {
            let outcome = try handshake(clock: Authority.now, shop, web)
            #expect(outcome.client == .done && outcome.server == .done)
            #expect(trust.verified.count == 2)
        }
        let outcome = try handshake(clock: Authority.now, web, shop)
        #expect(outcome.client == .done && outcome.server == .done)
        #expect(trust.verified.count == 4)
    }

    @Test func aChainIsGoodNoLongerThanItsDates() throws {
        let trust = try authority.trust()
        let (web, shop) = (
            try authority.identity("web", to: 100, trust: trust), try authority.identity("shop", trust: trust)
        )
        #expect(try handshake(clock: Authority.now, shop, web).client == .done)
        #expect(try handshake(clock: Authority.now + 99, shop, web).client == .done)
        for clock in [Authority.now + 100, Authority.now + 5_000, Authority.now - 301] {
            let outcome = try handshake(clock: clock, shop, web)
            #expect(outcome.client.failure != nil, "\(clock - Authority.now)")
        }
        #expect(
            try handshake(clock: Authority.now + 100, shop, web).client.failure?.reason
                == .MESH_REASON_CERTIFICATE_EXPIRED)
    }

    @Test func aKnownChainIsStillHeldToWhomWasAskedFor() throws {
        let trust = try authority.trust()
        let (web, shop) = (try authority.identity("web", trust: trust), try authority.identity("shop", trust: trust))
        #expect(try handshake(clock: Authority.now, shop, web).client == .done)
        // The same certificate where another principal is expected.
        let link = try Link()
        link.client = try TLSConnection(
            client: shop, expecting: shop.principal, descriptor: link.clientSocket, clock: Authority.now)
        link.server = try TLSConnection(
            server: TLSServerContext(answers: [shop.serverName: web]), descriptor: link.serverSocket,
            clock: Authority.now)
        #expect(link.handshake().client.failure?.reason == .MESH_REASON_SERVER_PRINCIPAL_MISMATCH)
    }

    @Test func anotherAuthorityVouchesForNothingThatThisOneDid() throws {
        let trust = try authority.trust()
        let (web, shop) = (try authority.identity("web", trust: trust), try authority.identity("shop", trust: trust))
        #expect(try handshake(clock: Authority.now, shop, web).server == .done)
        let other = try Authority()
        let stranger = try other.identity("web", trust: other.trust())
        #expect(try handshake(clock: Authority.now, shop, stranger).client.failure != nil)
        let turned = try authority.identity("web", trust: other.trust())
        #expect(try handshake(clock: Authority.now, shop, turned).server.failure != nil)
    }
}
