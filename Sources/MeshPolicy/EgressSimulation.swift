package import MeshModel

/// Judges connections that left the mesh, or were refused to, by other policies, and keeps what would be different.
package struct EgressSimulation: Sendable {
    package struct Connection: Hashable, Sendable {
        package var workload: ResourceName
        package var destination: SocketAddress
        package var wasAllowed: Bool

        package init(workload: ResourceName, destination: SocketAddress, wasAllowed: Bool) {
            self.workload = workload
            self.destination = destination
            self.wasAllowed = wasAllowed
        }
    }

    package struct Change: Hashable, Sendable {
        package var connection: Connection
        package var isAllowed: Bool
        package var decidedBy: RuleName
    }

    package private(set) var changes: [Change: Int] = [:]
    package private(set) var replayed = 0
    /// Their workload is not there any more.
    package private(set) var skipped = 0
    /// Records have addresses: whether one of the policy's names stood for it they don't say.
    package private(set) var unclear = 0

    private enum Outcome {
        case same
        case unclear
        case changed(Change)
    }

    private let snapshot: Snapshot
    private let workloads: [ResourceName: WorkloadView]
    private let ofTheMesh: Set<IPAddress>
    private var known: [Connection: Outcome] = [:]

    package init(_ candidate: Snapshot) {
        snapshot = candidate
        workloads = Dictionary(candidate.allWorkloads.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
        ofTheMesh = Set(candidate.allServices.flatMap(\.virtualAddresses))
    }

    package mutating func replay(_ connection: Connection) {
        guard let workload = workloads[connection.workload] else {
            skipped += 1
            return
        }
        replayed += 1
        let outcome = known[connection] ?? judge(connection, workload)
        known[connection] = outcome
        switch outcome {
        case .same: break
        case .unclear: unclear += 1
        case .changed(let change): changes[change, default: 0] += 1
        }
    }

    // MARK: private

    private func judge(_ connection: Connection, _ workload: WorkloadView) -> Outcome {
        let (address, port) = (connection.destination.address, connection.destination.port)
        let owners = snapshot.allWorkloads.filter { view in
            view.network == workload.network && [false, true].contains { view.address(isIPv6: $0) == address }
                && (view.ports.isEmpty || view.ports.contains(port))
        }
        // A destination of the mesh by now: other policies are asked, and other records tell of it.
        if ofTheMesh.contains(address) || !owners.isEmpty { return .same }
        let client = PolicyClient(principal: nil, address: .unspecified, name: "\(workload.key)")
        let now = EgressExplanation(client, of: workload, to: .address(address), port: port, snapshot)
        if !now.namesThatMayStandForIt.isEmpty { return .unclear }
        guard now.isAllowed != connection.wasAllowed else { return .same }
        return .changed(Change(connection: connection, isAllowed: now.isAllowed, decidedBy: now.decidedBy))
    }
}
