import MeshModel
import OpenSSLTLS
import ProxyControl

/// The certificates that loops use now: immutable, shared by all of them.
final class IdentitySet: Sendable {
    let principals: Set<String>
    static let empty = IdentitySet(principals: [])
    init(principals: Set<String>) { self.principals = principals }

    func connect(client: String, server: String, descriptor: Int32) -> TLSConnection? {
        #if DEBUG
            guard principals.contains(client) else { return nil }
            return TLSConnection(client: client, server: server, fd: descriptor)
        #else
            return nil
        #endif
    }

    func accept(descriptor: Int32) -> TLSConnection? {
        #if DEBUG
            return TLSConnection(fd: descriptor)
        #else
            return nil
        #endif
    }
}

struct IdentityBuilder {
    private var names: Set<String> = []
    var principals: [String] { names.sorted() }
    mutating func add(_ certificate: WorkloadCertificate) throws { names.insert(certificate.principal) }
    mutating func retire(_ principal: String) throws { names.remove(principal) }
    mutating func setTrust(domain: String, bundle: [UInt8]) throws {}
    func build() -> IdentitySet { IdentitySet(principals: names) }
}
