import CMeshABI
package import MeshModel

/// Judges connections that there were by other policies, and keeps what would be different.
package struct PolicySimulation: Sendable {
    package struct Connection: Hashable, Sendable {
        /// Empty: nobody.
        package var principal: String
        package var source: IPAddress
        package var workload: ResourceName
        /// Of the workload.
        package var port: UInt16
        package var wasAllowed: Bool

        package init(
            principal: String, source: IPAddress, workload: ResourceName, port: UInt16, wasAllowed: Bool
        ) {
            self.principal = principal
            self.source = source
            self.workload = workload
            self.port = port
            self.wasAllowed = wasAllowed
        }
    }

    /// Connections that differ in nothing but their addresses' ports.
    package struct Change: Hashable, Sendable {
        package var connection: Connection
        package var isAllowed: Bool
        package var decidedBy: RuleName
    }

    package private(set) var changes: [Change: Int] = [:]
    package private(set) var replayed = 0
    /// Their workload is not there any more.
    package private(set) var skipped = 0

    private let snapshot: Snapshot
    private let workloads: [ResourceName: WorkloadView]
    private var known: [Connection: Change?] = [:]

    package init(_ candidate: Snapshot) {
        snapshot = candidate
        workloads = Dictionary(candidate.allWorkloads.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
    }

    package mutating func replay(_ connection: Connection) {
        guard let workload = workloads[connection.workload] else {
            skipped += 1
            return
        }
        replayed += 1
        let change: Change?
        if let seen = known[connection] {
            change = seen
        } else {
            change = judge(connection, workload)
            known[connection] = .some(change)
        }
        if let change { changes[change, default: 0] += 1 }
    }

    /// The port of the workload that a service's port leads to.
    package func targetPort(service: String, port: UInt16) -> UInt16? {
        snapshot.allServices.first { $0.key.description == service }?.ports.first { $0.port == port }?.targetPort
    }

    // MARK: private

    private func judge(_ connection: Connection, _ workload: WorkloadView) -> Change? {
        let principal = Principal(parsing: connection.principal)
        let client = PolicyClient(
            principal: principal, address: connection.source, name: connection.principal)
        let now = PolicyExplanation(client, to: workload, port: connection.port, snapshot)
        guard now.isAllowed != connection.wasAllowed else { return nil }
        return Change(connection: connection, isAllowed: now.isAllowed, decidedBy: now.decidedBy)
    }
}
