import COpenSSL
import MeshModel
import Testing

@testable import OpenSSLTLS

/// A certificate authority for tests, with whatever faults they need.
struct Authority {
    let certificate: Certificate
    let key: PrivateKey
    let trustDomain: String

    /// All dates are relative to this one, seconds since 1970.
    static let now: Int64 = 1_800_000_000

    init(trustDomain: String = "mesh.example") throws {
        key = try PrivateKey.makeP256()
        self.trustDomain = trustDomain
        certificate = try Certificate.selfSigned(
            CertificateRequest(
                subject: .authority(commonName: "root of \(trustDomain)"), notBefore: Self.now - 100_000,
                notAfter: Self.now + 100_000), key: key)
    }

    /// One below `root`.
    init(below root: Authority) throws {
        key = try PrivateKey.makeP256()
        trustDomain = root.trustDomain
        certificate = try Certificate.signed(
            CertificateRequest(
                subject: .authority(commonName: "intermediate"), notBefore: Self.now - 100_000,
                notAfter: Self.now + 100_000), key: key, by: root.certificate, root.key)
    }

    func trust() throws -> TLSTrust { try TLSTrust(trustDomain: trustDomain, bundle: certificate.pem()) }

    static func principal(_ account: String, _ trustDomain: String = "mesh.example") throws -> Principal {
        try #require(Principal(trustDomain: trustDomain, namespace: "shop", serviceAccount: account))
    }

    func identity(
        _ account: String, of leafTrustDomain: String? = nil, from begin: Int64 = -300, to end: Int64 = 3_600,
        trust other: TLSTrust? = nil, issuers: [Certificate] = []
    ) throws -> TLSIdentity {
        let principal = try Self.principal(account, leafTrustDomain ?? trustDomain)
        let leafKey = try PrivateKey.makeP256()
        let leaf = try Certificate.signed(
            CertificateRequest(
                subject: .workload(principal), notBefore: Self.now + begin, notAfter: Self.now + end),
            key: leafKey, by: certificate, key)
        return try TLSIdentity(
            principal: principal.uri, chain: leaf.pem() + issuers.flatMap { try $0.pem() }, key: leafKey.pem(),
            trust: other ?? trust())
    }

    /// An identity whose certificate has just these extensions; the context is made for a good one and gets it then.
    func identity(extensions: [(name: Int32, value: String)]) throws -> TLSIdentity {
        let identity = try identity("odd")
        let leafKey = try PrivateKey.makeP256()
        let request = CertificateRequest(
            subject: .workload(try Self.principal("odd")), notBefore: Self.now - 300, notAfter: Self.now + 3_600)
        let leaf = try Certificate.make(
            request, extensions: extensions, key: leafKey, issuer: certificate, issuerKey: key)
        try #require(SSL_CTX_use_certificate(identity.context, leaf.handle) == 1)
        try #require(SSL_CTX_use_PrivateKey(identity.context, leafKey.handle) == 1)
        return identity
    }
}
