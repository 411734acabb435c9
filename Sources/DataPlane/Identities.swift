import MeshModel
import OpenSSLTLS
import ProxyControl

/// The certificates that loops use now: immutable, shared by all of them.
final class IdentitySet: Sendable {
    private let identities: [String: TLSIdentity]
    /// Nil until there is anything to be reached by.
    private let server: TLSServerContext?

    static let empty = IdentitySet(identities: [:], server: nil)

    fileprivate init(identities: [String: TLSIdentity], server: TLSServerContext?) {
        self.identities = identities
        self.server = server
    }

    /// A connection that speaks as `client` to `server` and to nobody else; nil without a certificate for `client`.
    func connect(client: String, server: String, descriptor: Int32, _ buffers: TLSBuffersPointer) -> TLSConnection? {
        guard let identity = identities[client] else { return nil }
        return try? TLSConnection(client: identity, expecting: server, descriptor: descriptor, buffers: buffers)
    }

    /// A connection that answers as whom the client asks for; nil while this node has no certificate at all.
    func accept(descriptor: Int32, _ buffers: TLSBuffersPointer) -> TLSConnection? {
        guard let server else { return nil }
        return try? TLSConnection(server: server, descriptor: descriptor, buffers: buffers)
    }
}

/// The control thread's certificates, from which it makes `IdentitySet`s.
struct IdentityBuilder {
    private struct Held {
        var chain: [UInt8]
        var key: PrivateKey
        var identity: TLSIdentity?
    }

    private var held: [String: Held] = [:]
    private var trust: TLSTrust?

    var principals: [String] { held.keys.sorted() }

    mutating func add(_ certificate: WorkloadCertificate) throws(TLSSetupError) {
        // Its text is not kept: from here on the key is in OpenSSL's hands alone.
        let key = try PrivateKey(pem: certificate.key)
        // Checked before it takes the place of one that works.
        var identity: TLSIdentity?
        if let trust {
            identity = try TLSIdentity(
                principal: certificate.principal, chain: certificate.chain, key: key, trust: trust)
        }
        held[certificate.principal] = Held(chain: certificate.chain, key: key, identity: identity)
    }

    mutating func retire(_ principal: String) { held[principal] = nil }

    /// New authorities hold for every identity, from its next handshake on.
    mutating func setTrust(domain: String, bundle: [UInt8]) throws(TLSSetupError) {
        let trust = try TLSTrust(trustDomain: domain, bundle: bundle)
        self.trust = trust
        var firstError: TLSSetupError?
        for (principal, entry) in held {
            do throws(TLSSetupError) {
                held[principal]?.identity = try TLSIdentity(
                    principal: principal, chain: entry.chain, key: entry.key, trust: trust)
            } catch {
                held[principal]?.identity = nil
                firstError = firstError ?? error
            }
        }
        if let firstError { throw firstError }
    }

    func build() throws(TLSSetupError) -> IdentitySet {
        let identities = held.compactMapValues(\.identity)
        guard !identities.isEmpty else { return .empty }
        return IdentitySet(
            identities: identities, server: try TLSServerContext(identities: Array(identities.values)))
    }
}
