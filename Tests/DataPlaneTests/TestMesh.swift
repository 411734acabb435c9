import Glibc
import MeshModel
import OpenSSLTLS
import ProxyControl
import Synchronization

@testable import DataPlane

/// A mesh of two nodes on loopback: `a` with workload `client`, `b` with `server` and `other`, and `near` on `a`.
final class TestMesh: @unchecked Sendable {
    static let trustDomain = "test.example"

    /// Below the ports that the kernel chooses. Each test process has its own: [::1] is the same for all.
    let tunnelPort = UInt16(20_000 + getpid() % 10_000)
    /// Each mesh of each test process has loopback addresses of its own.
    private let network: UInt32
    private static let serial = Atomic<UInt32>(UInt32(truncatingIfNeeded: getpid()) << 6)
    let authority: TestAuthority
    private(set) var nodes: [String: TestNode] = [:]

    init() throws {
        network = Self.serial.add(1, ordering: .relaxed).newValue
        authority = try TestAuthority(trustDomain: Self.trustDomain)
    }

    deinit { stop() }

    func start(
        _ name: String, executable: String? = nil, _ change: (inout ProxySettings) -> Void = { _ in }
    ) throws -> TestNode {
        var settings = ProxySettings()
        settings.descriptorsMax = 100_000
        change(&settings)
        let node = try TestNode(name, mesh: self, settings: settings, executable: executable)
        nodes[name] = node
        return node
    }

    func stop() {
        for node in nodes.values { node.stop() }
        nodes = [:]
    }

    func stop(_ name: String) {
        nodes[name]?.stop()
        nodes[name] = nil
    }

    // MARK: who is where

    func tunnelAddress(_ node: String) -> IPAddress { loopback(node == "a" ? 1 : 2) }

    /// Where tests have their resolvers.
    var resolver: SocketAddress { SocketAddress(loopback(6), 53) }

    private func loopback(_ host: UInt32) -> IPAddress {
        IPAddress(ipv4: 0x7f80_0000 | (network & 0xffff) << 4 | host)
    }

    /// What service `web.shop` maps its port 80 to; 0: there is no service.
    var targetPort: UInt16 = 0
    /// Node b has an IPv4 tunnel address where nobody is, and ::1.
    var hasDeadFirstAddress = false

    private func tunnelAddresses(_ node: String) -> [IPAddress] {
        guard node == "b", hasDeadFirstAddress else { return [tunnelAddress(node)] }
        return [loopback(9), IPAddress(high: 0, low: 1)]
    }

    /// A workload more, which gives all others new numbers in the next snapshot.
    var isRenumbered = false
    /// A service that selects nobody.
    var hasEmptyService = false
    static let emptyServiceAddress = IPAddress(ipv4: 0x0a60_0009)

    var policies: [AuthorizationPolicyResource] = []
    var egressPolicies: [EgressPolicyResource] = []

    static let workloads = ["client": "a", "near": "a", "server": "b", "other": "b"]

    func address(_ workload: String) -> IPAddress {
        switch workload {
        // Nobody dials it, so it may be one that can be presented.
        case "client": IPAddress(ipv4: 0x0a0b_0001)
        case "near": loopback(3)
        case "server": loopback(4)
        default: loopback(5)
        }
    }

    func instance(_ workload: String) -> WorkloadID {
        switch workload {
        case "client": WorkloadID(rawValue: 11)
        case "near": WorkloadID(rawValue: 12)
        case "server": WorkloadID(rawValue: 21)
        default: WorkloadID(rawValue: 22)
        }
    }

    func principal(_ workload: String) -> String { "spiffe://\(Self.trustDomain)/ns/shop/sa/\(workload)" }

    func snapshot(for node: String) throws -> Snapshot {
        var builder = SnapshotBuilder(localNode: node, trustDomain: Self.trustDomain)
        var resources = ResourceSet(
            nodes: ["a", "b"].map { NodeResource(name: $0, tunnelAddresses: tunnelAddresses($0)) },
            authorizationPolicies: policies)
        resources.egressPolicies = egressPolicies
        var instances: [LocalInstance] = []
        if isRenumbered {
            resources.workloads.append(
                WorkloadResource(
                    name: "aa", namespace: "aa", serviceAccount: "aa", node: node,
                    selector: WorkloadSelector(.cgroup(pattern: "aa"))))
        }
        if targetPort != 0 {
            resources.services.append(
                ServiceResource(
                    name: "web", namespace: "shop", ports: [.init(80, targetPort: targetPort)],
                    selector: ["app": "server"]))
        }
        if hasEmptyService {
            resources.services.append(
                ServiceResource(
                    name: "empty", namespace: "shop", virtualAddresses: [Self.emptyServiceAddress],
                    ports: [.init(80, targetPort: 80)], selector: ["app": "nobody"]))
        }
        for (name, home) in Self.workloads.sorted(by: { $0.key < $1.key }) {
            resources.workloads.append(
                WorkloadResource(
                    name: name, namespace: "shop", serviceAccount: name, node: home,
                    selector: WorkloadSelector(.cgroup(pattern: name)), addresses: [address(name)],
                    labels: ["app": name]))
            guard home == node else { continue }
            instances.append(
                LocalInstance(
                    resource: ResourceName(namespace: "shop", name: name), workload: instance(name),
                    networkNamespace: .node, cgroupID: UInt64(instance(name).rawValue)))
        }
        resources.services.append(
            ServiceResource(
                name: "web", namespace: "shop", virtualAddresses: [IPAddress(ipv4: 0x0a60_000a)],
                ports: [ServiceResource.Port(80, targetPort: 8_080)], selector: ["app": "web"]))
        return try builder.build(resources, instances: instances)
    }

    // MARK: certificates

    var trustBundle: [UInt8] { authority.bundle }

    func certificates(of node: String) throws -> [WorkloadCertificate] {
        try Self.workloads.filter { $0.value == node }.map { try authority.certificate(principal($0.key)) }
    }
}

/// Makes certificates for the test mesh.
final class TestAuthority: Sendable {
    private let certificate: Certificate
    private let key: PrivateKey
    let bundle: [UInt8]

    init(trustDomain: String) throws {
        key = try PrivateKey.makeP256()
        certificate = try Certificate.selfSigned(
            CertificateRequest(
                subject: .authority(commonName: "root of \(trustDomain)"), notBefore: Self.now - 3_600,
                notAfter: Self.now + 86_400), key: key)
        bundle = try certificate.pem()
    }

    func certificate(_ uri: String) throws -> WorkloadCertificate {
        guard let principal = Principal(parsing: uri) else { throw TestSocket.Failure(call: uri, code: 0) }
        let leafKey = try PrivateKey.makeP256()
        let leaf = try Certificate.signed(
            CertificateRequest(subject: .workload(principal), notBefore: Self.now - 3_600, notAfter: Self.now + 3_600),
            key: leafKey, by: certificate, key)
        return WorkloadCertificate(
            principal: uri, chain: try leaf.pem(), key: try leafKey.pem())
    }

    private static var now: Int64 { Int64(time(nil)) }
}
