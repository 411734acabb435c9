import CMeshABI
import COpenSSL
import Glibc
import MeshModel
import Testing

@testable import OpenSSLTLS

/// Each refusal has its name at the side that refuses, and the nearest true one at the other.
@Suite struct RefusalTests {
    let authority: Authority
    let web: TLSIdentity
    let shop: TLSIdentity

    init() throws {
        try TLSLibrary.prepare()
        authority = try Authority()
        web = try authority.identity("web")
        shop = try authority.identity("shop")
    }

    /// What the client learns: its handshake is over before the server has judged its certificate.
    private func clientLearns(_ link: Link, _ outcome: Link.Outcome) -> TLSFailure? {
        outcome.client.failure ?? link.clientReads().end.failure
    }

    private func refusedByServer(_ link: Link, _ reason: Reason, clientSees: Reason) {
        let outcome = link.handshake()
        #expect(outcome.server.failure?.reason == reason, "\(outcome.server)")
        #expect(outcome.server.failure?.side == .local)
        let learnt = clientLearns(link, outcome)
        #expect(learnt?.reason == clientSees, "\(String(describing: learnt))")
        #expect(learnt?.side == .peer)
        #expect(link.server?.peerPrincipal == nil)
    }

    private func refusedByClient(_ link: Link, _ reason: Reason, serverSees: Reason) {
        let outcome = link.handshake()
        #expect(outcome.client.failure?.reason == reason, "\(outcome.client)")
        #expect(outcome.client.failure?.side == .local)
        #expect(outcome.server.failure?.reason == serverSees, "\(outcome.server)")
        #expect(outcome.server.failure?.side == .peer)
        #expect(link.client?.peerPrincipal == nil)
    }

    // MARK: certificates of clients

    @Test func refusesClientWithoutCertificate() throws {
        let bare = try authority.identity("bare")
        let context = try TLSContext.make(trust: authority.trust())
        defer { SSL_CTX_free(context) }
        let link = try Link()
        let client = try RawClient(context: context, socket: link.clientSocket, serverName: web.serverName)
        link.server = try TLSConnection(
            server: TLSServerContext(identities: [web, bare]), descriptor: link.serverSocket, clock: Authority.now)
        var progress = TLSConnection.Progress.wantRead
        for _ in 0..<6 where !progress.isOver {
            client.handshake()
            progress = link.server?.handshake() ?? .done
            link.flushServer()
        }
        #expect(progress.failure?.reason == .MESH_REASON_NO_CLIENT_CERTIFICATE, "\(progress)")
        #expect(client.alert() == SSL_AD_CERTIFICATE_REQUIRED)
    }

    @Test func refusesClientOfOtherTrustDomain() throws {
        let foreigner = try authority.identity("shop", of: "other.example")
        refusedByServer(
            try Link(client: foreigner, server: web), .MESH_REASON_TRUST_DOMAIN_MISMATCH,
            clientSees: .MESH_REASON_CERTIFICATE_INVALID)
    }

    @Test func namesTheTrustDomainOfClientWithOtherAuthority() throws {
        let foreigner = try Authority(trustDomain: "other.example").identity("shop", trust: authority.trust())
        refusedByServer(
            try Link(client: foreigner, server: web), .MESH_REASON_TRUST_DOMAIN_MISMATCH,
            clientSees: .MESH_REASON_CERTIFICATE_INVALID)
    }

    @Test func refusesClientOfOtherAuthority() throws {
        let pretender = try Authority().identity("shop", trust: authority.trust())
        refusedByServer(
            try Link(client: pretender, server: web), .MESH_REASON_CERTIFICATE_INVALID,
            clientSees: .MESH_REASON_CERTIFICATE_INVALID)
    }

    @Test func refusesExpiredClient() throws {
        let expired = try authority.identity("shop", from: -1_000, to: -1)
        let link = try Link(client: expired, server: web)
        refusedByServer(link, .MESH_REASON_CERTIFICATE_EXPIRED, clientSees: .MESH_REASON_CERTIFICATE_EXPIRED)
    }

    @Test func refusesClientThatIsNotYetValid() throws {
        let early = try authority.identity("shop", from: 100, to: 1_000)
        refusedByServer(
            try Link(client: early, server: web), .MESH_REASON_CERTIFICATE_INVALID,
            clientSees: .MESH_REASON_CERTIFICATE_INVALID)
    }

    @Test func takesAnExpiredCertificateAtATimeWhenItWasValid() throws {
        let expired = try authority.identity("shop", from: -1_000, to: -1)
        let link = try Link(
            client: expired, expecting: web.principal, server: TLSServerContext(identities: [web]),
            clock: Authority.now - 100)
        try link.established()
    }

    static let uri = "URI:spiffe://mesh.example/ns/shop/sa/odd"
    static let usage: [(name: Int32, value: String)] = [
        (NID_basic_constraints, "critical,CA:FALSE"), (NID_key_usage, "critical,digitalSignature"),
        (NID_ext_key_usage, "serverAuth,clientAuth"),
    ]

    @Test(arguments: [
        "", "DNS:web.example", "\(uri),\(uri)", "\(uri),URI:https://example.com/", "URI:spiffe://mesh.example",
        "URI:spiffe://mesh.example/node/a", "URI:spiffe://mesh.example/ns/shop/sa/odd/more",
        "URI:spiffe://mesh.example/ns/shop/sa/", "URI:spiffe://mesh.example/ns/../sa/odd",
        "URI:SPIFFE://mesh.example/ns/shop/sa/odd", "URI:spiffe://Mesh.example/ns/shop/sa/odd",
        "URI:spiffe://mesh.example/ns/shop/sa/odd?x", "URI:https://mesh.example/ns/shop/sa/odd",
    ]) func refusesClientWhoseNamesAreNotOneSPIFFEID(names: String) throws {
        let list = names.isEmpty ? [] : [(name: NID_subject_alt_name, value: "critical,\(names)")]
        let odd = try authority.identity(extensions: Self.usage + list)
        refusedByServer(
            try Link(client: odd, server: web), .MESH_REASON_CERTIFICATE_INVALID,
            clientSees: .MESH_REASON_CERTIFICATE_INVALID)
    }

    @Test func takesOtherNamesBesideTheSPIFFEID() throws {
        let odd = try authority.identity(
            extensions: Self.usage + [(NID_subject_alt_name, "DNS:web.example,\(Self.uri)")])
        try Link(client: odd, server: web).established()
    }

    @Test func refusesClientWithoutTheRightKeyUsage() throws {
        for usage in ["serverAuth", "emailProtection"] {
            let odd = try authority.identity(extensions: [
                (NID_ext_key_usage, usage), (NID_subject_alt_name, "critical,\(Self.uri)"),
            ])
            refusedByServer(
                try Link(client: odd, server: web), .MESH_REASON_CERTIFICATE_INVALID,
                clientSees: .MESH_REASON_CERTIFICATE_INVALID)
        }
    }

    @Test func refusesAuthorityAsClient() throws {
        let odd = try authority.identity(extensions: [
            (NID_basic_constraints, "critical,CA:TRUE"), (NID_subject_alt_name, "critical,\(Self.uri)"),
        ])
        refusedByServer(
            try Link(client: odd, server: web), .MESH_REASON_CERTIFICATE_INVALID,
            clientSees: .MESH_REASON_CERTIFICATE_INVALID)
    }

    // MARK: certificates of servers

    @Test func clientRefusesServerOfOtherPrincipal() throws {
        let impostor = try authority.identity("impostor")
        let link = try Link()
        let client = try TLSConnection(
            client: shop, expecting: web.principal, descriptor: link.clientSocket, clock: Authority.now)
        link.client = consume client
        // It answers to the name of another.
        link.server = try TLSConnection(
            server: TLSServerContext(answers: [web.serverName: impostor]), descriptor: link.serverSocket,
            clock: Authority.now)
        refusedByClient(link, .MESH_REASON_SERVER_PRINCIPAL_MISMATCH, serverSees: .MESH_REASON_CERTIFICATE_INVALID)
    }

    @Test func clientRefusesExpiredServer() throws {
        let expired = try authority.identity("web", from: -1_000, to: -1)
        refusedByClient(
            try Link(client: shop, server: expired), .MESH_REASON_CERTIFICATE_EXPIRED,
            serverSees: .MESH_REASON_CERTIFICATE_EXPIRED)
    }

    @Test func clientRefusesServerOfOtherAuthority() throws {
        let pretender = try Authority().identity("web", trust: authority.trust())
        refusedByClient(
            try Link(client: shop, server: pretender), .MESH_REASON_CERTIFICATE_INVALID,
            serverSees: .MESH_REASON_CERTIFICATE_INVALID)
    }

    // MARK: names and protocols

    @Test func refusesUnknownServerName() throws {
        let link = try Link(
            client: shop, expecting: try Authority.principal("nobody").uri,
            server: TLSServerContext(identities: [web]), unnamed: web)
        let outcome = link.handshake()
        #expect(outcome.server.failure?.reason == .MESH_REASON_SNI_UNKNOWN)
        #expect(outcome.client.failure?.reason == .MESH_REASON_SNI_UNKNOWN, "\(outcome.client)")
        #expect(outcome.client.failure?.side == .peer)
    }

    @Test func clientWithoutServerNameGetsTheWorkloadOfTheAddress() throws {
        for (unnamed, reason) in [(web, nil), (nil, Reason.MESH_REASON_SNI_UNKNOWN)] {
            let link = try Link()
            let client = try RawClient(context: shop.context, socket: link.clientSocket, serverName: nil)
            link.server = try TLSConnection(
                server: TLSServerContext(identities: []), unnamedIdentity: unnamed, descriptor: link.serverSocket,
                clock: Authority.now)
            var progress = TLSConnection.Progress.wantRead
            for _ in 0..<6 where !progress.isOver {
                client.handshake()
                progress = link.server?.handshake() ?? .done
                link.flushServer()
            }
            #expect(progress.failure?.reason == reason, "\(progress)")
            #expect(link.server?.localPrincipal == unnamed?.principal)
        }
    }

    @Test(arguments: [nil, [8] + Array("http/1.1".utf8), [1, 0x68], [2, 0x68, 0x33]] as [[UInt8]?])
    func refusesClientThatDoesNotOfferHTTP2(protocols: [UInt8]?) throws {
        let link = try Link()
        let client = try RawClient(context: shop.context, socket: link.clientSocket, serverName: web.serverName)
        client.offer(protocols)
        link.server = try TLSConnection(
            server: TLSServerContext(identities: [web]), descriptor: link.serverSocket, clock: Authority.now)
        client.handshake()
        let progress = link.server?.handshake() ?? .done
        link.flushServer()
        #expect(progress.failure?.reason == .MESH_REASON_ALPN_MISMATCH, "\(progress)")
        client.handshake()
        #expect(client.alert() == SSL_AD_NO_APPLICATION_PROTOCOL)
    }

    @Test func refusesOlderTLS() throws {
        let link = try Link()
        let client = try RawClient(context: shop.context, socket: link.clientSocket, serverName: web.serverName)
        client.speakOnlyTLS12()
        link.server = try TLSConnection(
            server: TLSServerContext(identities: [web]), descriptor: link.serverSocket, clock: Authority.now)
        client.handshake()
        #expect(link.server?.handshake().failure?.reason == .MESH_REASON_TLS_FAILED)
    }

    // MARK: bytes that are no TLS

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: web\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-OpenSSH\r\n", "\n", "\u{0}",
        "\u{16}GET /", "\u{16}\u{2}\u{1}", "CONNECT web:80 HTTP/1.1\r\n\r\n",
    ]) func refusesPlainText(text: String) throws {
        for size in [text.utf8.count, 1] {
            let link = try Link()
            link.server = try TLSConnection(
                server: TLSServerContext(identities: [web]), descriptor: link.serverSocket, clock: Authority.now)
            var bytes = Array(text.utf8)[...]
            var progress = TLSConnection.Progress.wantRead
            while !bytes.isEmpty && !progress.isOver {
                let piece = Array(bytes.prefix(size))
                bytes = bytes.dropFirst(size)
                #expect(write(link.clientSocket, piece, piece.count) == piece.count)
                progress = link.server?.handshake() ?? .done
            }
            #expect(progress.failure?.reason == .MESH_REASON_PLAINTEXT_ON_TUNNEL_PORT, "\(progress)")
        }
    }

    @Test func aServerThatSpeaksPlainTextFailsTheClient() throws {
        let link = try Link()
        link.client = try TLSConnection(
            client: shop, expecting: web.principal, descriptor: link.clientSocket, clock: Authority.now)
        #expect(link.client?.handshake() == .wantRead)
        let text = Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8)
        #expect(write(link.serverSocket, text, text.count) == text.count)
        #expect(link.client?.handshake().failure?.reason == .MESH_REASON_TLS_FAILED)
    }

    @Test func aLostConnectionIsNoRefusal() throws {
        let link = try Link(client: shop, server: web)
        #expect(link.client?.handshake() == .wantRead)
        link.flushClient()
        shutdown(link.serverSocket, Int32(SHUT_WR))
        let failure = link.client?.handshake().failure
        #expect(failure?.isConnectionLoss == true, "\(String(describing: failure))")
        #expect(failure?.reason == .MESH_REASON_TLS_FAILED)
    }
}
