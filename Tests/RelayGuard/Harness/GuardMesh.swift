import Glibc
import MeshModel
import OpenSSLTLS
import ProxyControl

/// Two nodes on loopback, `a` with the workload `client` and `b` with `server`, and their certificates.
struct GuardMesh {
    static let trustDomain = "guard.example"
    static let tunnelPort: UInt16 = 25_108
    static let client = WorkloadID(rawValue: 11)
    static let server = WorkloadID(rawValue: 21)
    /// Nobody dials it, so it need not be an address of this machine.
    static let clientAddress = IPAddress(ipv4: 0x0a0b_0001)

    private let authority: Certificate
    private let authorityKey: PrivateKey
    let trustBundle: [UInt8]

    init() throws {
        authorityKey = try PrivateKey.makeP256()
        authority = try Certificate.selfSigned(
            CertificateRequest(
                subject: .authority(commonName: "root"), notBefore: Self.now - 3_600, notAfter: Self.now + 86_400),
            key: authorityKey)
        trustBundle = try authority.pem()
    }

    private static var now: Int64 { Int64(time(nil)) }

    /// Apart from other runs on this machine.
    private static func loopback(_ host: UInt32) -> IPAddress {
        IPAddress(ipv4: 0x7f40_0000 | (UInt32(truncatingIfNeeded: getpid()) & 0xffff) << 4 | host)
    }

    static func tunnelAddress(_ node: String) -> IPAddress { loopback(node == "a" ? 1 : 2) }
    static var serverAddress: IPAddress { loopback(3) }

    func snapshot(for node: String) throws -> Snapshot {
        let workloads = [
            ("client", "a", Self.client, Self.clientAddress), ("server", "b", Self.server, Self.serverAddress),
        ]
        var resources = ResourceSet(
            nodes: ["a", "b"].map { NodeResource(name: $0, tunnelAddresses: [Self.tunnelAddress($0)]) })
        var instances: [LocalInstance] = []
        for (name, home, id, address) in workloads {
            resources.workloads.append(
                WorkloadResource(
                    name: name, namespace: "shop", serviceAccount: name, node: home,
                    selector: WorkloadSelector(.cgroup(pattern: name)), addresses: [address]))
            guard home == node else { continue }
            instances.append(
                LocalInstance(
                    resource: ResourceName(namespace: "shop", name: name), workload: id, networkNamespace: .node,
                    cgroupID: UInt64(id.rawValue)))
        }
        var builder = SnapshotBuilder(localNode: node, trustDomain: Self.trustDomain)
        return try builder.build(resources, instances: instances)
    }

    func certificate(for node: String) throws -> WorkloadCertificate {
        let account = node == "a" ? "client" : "server"
        guard let principal = Principal(trustDomain: Self.trustDomain, namespace: "shop", serviceAccount: account)
        else { throw GuardFailure("no principal for \(account)") }
        let key = try PrivateKey.makeP256()
        let leaf = try Certificate.signed(
            CertificateRequest(subject: .workload(principal), notBefore: Self.now - 3_600, notAfter: Self.now + 3_600),
            key: key, by: authority, authorityKey)
        return WorkloadCertificate(
            principal: principal.uri, chain: try leaf.pem(), key: try key.pem())
    }
}

struct GuardFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
