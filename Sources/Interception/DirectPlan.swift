import CMeshABI
import MeshModel
import MeshPolicy

/// What one workload may reach on this node without the proxy: pure, from the snapshot. A destination as it is dialled
/// leads to targets among which the kernel chooses as the proxy would, each as likely as the other. Where it could not
/// choose the same, and where policy does not let the client reach every one, there is no plan and the proxy decides.
struct DirectPlan: Equatable {
    struct Path: Hashable {
        var workload: WorkloadID
        /// Of the caller's network namespace.
        var namespaceCookie: UInt64
        /// As dialled.
        var destination: SocketAddress
    }

    struct Target: Hashable {
        var workload: WorkloadID
        var address: SocketAddress
    }

    /// The client's own address, which policy was asked about.
    let source: IPAddress
    let targets: [Target]

    init?(_ path: Path, _ snapshot: Snapshot, tunnelPort: UInt16) {
        let isIPv6 = !path.destination.address.isIPv4
        guard let client = snapshot.workload(path.workload), client.isLocal, client.isRunning,
            let source = client.address(isIPv6: isIPv6),
            let endpoints = Self.endpoints(path.destination, from: client, snapshot)
        else { return nil }
        var targets: [Target] = []
        for endpoint in endpoints {
            guard let workload = snapshot.workload(endpoint.workload), workload.isLocal else { return nil }
            if !workload.isRunning { continue }
            // The same address may be another's elsewhere; and no workload is its own peer.
            guard workload.network == client.network, workload.id != client.id,
                let address = workload.address(isIPv6: isIPv6)
            else { return nil }
            let target = Target(workload: workload.id, address: SocketAddress(address, endpoint.targetPort))
            guard directDecision(client, source, target, snapshot, tunnelPort: tunnelPort) != nil else { return nil }
            targets.append(target)
        }
        guard !targets.isEmpty, targets.count <= Int(MESH_VERDICT_TARGETS_MAX) else { return nil }
        self.source = source
        self.targets = targets
    }

    private static func endpoints(
        _ destination: SocketAddress, from client: WorkloadView, _ snapshot: Snapshot
    ) -> [Endpoint]? {
        switch snapshot.route(network: client.network, destination: destination) {
        case nil: nil
        case .workload(let id, let port): [Endpoint(workload: id, targetPort: port)]
        case .service(let id, let port): snapshot.service(id).map { Array($0.endpoints(port: port)) }
        }
    }
}

/// The proof that policy lets the client reach the target; nil: it does not.
func directDecision(
    _ client: WorkloadView, _ source: IPAddress, _ target: DirectPlan.Target, _ snapshot: Snapshot, tunnelPort: UInt16
) -> Permit? {
    let facts = ConnectionFacts(
        clientPrincipal: client.principal, clientNode: snapshot.localNode, source: SocketAddress(source, 0),
        destination: target.address, channel: .sameNode(destinationWorkload: target.workload), tunnelPort: tunnelPort)
    guard case .allowed(let permit) = authorize(facts, snapshot) else { return nil }
    return permit
}
