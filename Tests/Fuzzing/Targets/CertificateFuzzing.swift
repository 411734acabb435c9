import Glibc
import MeshIdentity
import MeshModel
import OpenSSLTLS

/// Input: a bundle as PEM text, or (first byte odd) one certificate's DER, which is put into PEM here. What can be read
/// of a certificate is the same after it was written and read again, and only a workload's name makes a principal.
func fuzzCertificates(_ input: UnsafeRawBufferPointer) {
    var parts = FuzzInput(input)
    let isDER = parts.byte() & 1 == 1
    let text = isDER ? Base64.pem(Array(parts.rest), "CERTIFICATE") : Array(parts.rest)
    _ = try? TLSTrust(trustDomain: "fuzzed", bundle: text)
    _ = try? PrivateKey(pem: SecretBytes(copying: isDER ? Base64.pem(Array(parts.rest), "PRIVATE KEY") : text))
    guard let list = try? Certificate.all(pem: text) else { return }
    precondition(!list.isEmpty, "no certificate and no error")
    for certificate in list.prefix(4) {
        let facts = CertificateFacts(certificate, file: "fuzzed")
        if let principal = certificate.principal {
            precondition(Principal(parsing: principal.uri) == principal, "\(principal.uri) is no principal")
            precondition(facts.principal == principal.uri, "\(facts.principal) is not \(principal.uri)")
        }
        _ = (
            facts.state(at: 0), facts.sentence(at: .max), certificate.isAuthority, certificate.isIssued(by: certificate)
        )
        guard let written = try? certificate.pem(), let again = try? Certificate.all(pem: written) else { continue }
        precondition(again.count == 1 && CertificateFacts(again[0], file: "fuzzed") == facts, "\(facts) changed")
    }
}

/// Input: what a stranger says first on the tunnel port. Nobody is let in by it, and an identity is chosen only by the
/// name that asks for it.
func fuzzHello(_ input: UnsafeRawBufferPointer) {
    guard let scene = HelloScene.shared else { preconditionFailure("no certificates to answer with") }
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0, &ends) == 0 else { return }
    defer { for end in ends where end >= 0 { close(end) } }
    // Small enough for the socket's buffer: the target's inputs are at most 4 KiB.
    guard write(ends[0], input.baseAddress, input.count) == input.count else { return }
    guard var server = try? TLSConnection(server: scene.context, descriptor: ends[1], clock: 1) else {
        preconditionFailure("no connection")
    }
    for _ in 0..<3 {
        switch server.handshake() {
        case .done: preconditionFailure("let in without a certificate")
        case .wantRead, .wantWrite: break
        case .failed(let failure): precondition(!failure.description.isEmpty, "refused without a word")
        }
    }
    precondition(server.peerPrincipal == nil && server.peerNotAfter == 0, "a peer out of nothing")
    if let chosen = server.localPrincipal {
        let names = HelloScene.names.map(TLSLibrary.serverName)
        precondition(names.contains(server.serverName.lowercased()), "\(chosen) for \(server.serverName)")
    }
    server.consume(server.pendingCount)
}

private struct HelloScene: @unchecked Sendable {
    /// The corpus has real hellos that ask for these.
    static let names = ["spiffe://fuzzed/ns/n/sa/one", "spiffe://fuzzed/ns/n/sa/two"]
    static let shared: HelloScene? = try? HelloScene()

    let context: TLSServerContext

    init() throws {
        let rootKey = try PrivateKey.makeP256()
        let root = try Certificate.selfSigned(
            CertificateRequest(subject: .authority(commonName: "fuzzed"), notBefore: 0, notAfter: 2), key: rootKey)
        let trust = try TLSTrust(trustDomain: "fuzzed", bundle: root.pem())
        context = try TLSServerContext(
            identities: Self.names.compactMap(Principal.init(parsing:)).map { principal in
                let key = try PrivateKey.makeP256()
                let leaf = try Certificate.signed(
                    CertificateRequest(subject: .workload(principal), notBefore: 0, notAfter: 2), key: key, by: root,
                    rootKey)
                return try TLSIdentity(principal: principal.uri, chain: leaf.pem(), key: key, trust: trust)
            })
    }
}

private enum Base64 {
    static func pem(_ bytes: [UInt8], _ label: String) -> [UInt8] {
        let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text = Array("-----BEGIN \(label)-----\n".utf8)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let word = (group + [0, 0]).prefix(3).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            for place in 0..<4 {
                text.append(place <= group.count ? digits[Int(word >> UInt32(18 - 6 * place)) & 63] : UInt8(ascii: "="))
            }
            if start % 48 == 45 { text.append(0x0a) }
        }
        return text + Array("\n-----END \(label)-----\n".utf8)
    }
}
