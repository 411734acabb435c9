@testable import MeshModel
import MeshPolicy

/// `web` runs on this node for everyone; `curl` and `cron` are its possible clients.
struct PolicyWorld {
    static let web = WorkloadID(rawValue: 1)
    static let address = IPAddress(ipv4: 0x0a00_0001)
    static let clientAddress = IPAddress(ipv4: 0x0a00_0002)

    var policies: [AuthorizationPolicyResource] = []
    var modes: [PeerAuthenticationResource] = []
    var egress: [EgressPolicyResource] = []

    func snapshot() throws -> Snapshot {
        func workload(_ name: String, _ address: IPAddress) -> WorkloadResource {
            WorkloadResource(
                name: name, namespace: "shop", serviceAccount: name, node: "a",
                selector: WorkloadSelector(.cgroup(pattern: name)), addresses: [address], labels: ["app": name])
        }
        var resources = ResourceSet(
            nodes: [NodeResource(name: "a")],
            workloads: [
                workload("web", Self.address), workload("curl", Self.clientAddress),
                workload("cron", IPAddress(ipv4: 0x0a00_0003)),
            ], authorizationPolicies: policies, peerAuthentications: modes)
        resources.egressPolicies = egress
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "mesh.test")
        return try builder.build(
            resources,
            instances: [
                LocalInstance(
                    resource: ResourceName(namespace: "shop", name: "web"), workload: Self.web, networkNamespace: .node,
                    cgroupID: 1)
            ])
    }

    /// `client`: a service account, or nil for nobody.
    static func judge(
        _ client: String?, port: UInt16 = 80, from source: IPAddress = clientAddress, _ snapshot: Snapshot
    ) -> Decision {
        let principal = client.flatMap { snapshot.principalID(of: "spiffe://mesh.test/ns/shop/sa/\($0)") }
        return authorize(
            ConnectionFacts(
                clientPrincipal: principal ?? .none, clientNode: snapshot.localNode,
                source: SocketAddress(source, 4_000),
                destination: SocketAddress(address, port),
                channel: client == nil ? .plaintext(destinationWorkload: web) : .sameNode(destinationWorkload: web)),
            snapshot)
    }

    /// What decided: `allow shop/x rules[0]`, `deny policy_denied shop/x no-match`.
    static func text(_ decision: Decision, _ snapshot: Snapshot) -> String {
        switch decision {
        case .allowed(let permit):
            let trial = permit.dryRunDenial.map { ", on trial \(RuleName($0, snapshot))" } ?? ""
            return "allow \(RuleName(permit.rule, snapshot))\(trial)"
        case .denied(let denial): return "deny \(denial.reason.name) \(RuleName(denial.rule, snapshot))"
        }
    }
}
