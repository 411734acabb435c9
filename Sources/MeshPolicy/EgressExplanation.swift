import CMeshABI
package import MeshModel

/// How a workload's connection to a destination outside the mesh would be judged and why.
package struct EgressExplanation: Sendable {
    /// An EgressPolicy that selects the workload.
    package struct Step: Sendable {
        package var policy: ResourceName
        package var mode: EgressPolicyResource.Mode
        package var scope: PolicyScope
        /// Of several the most specific holds.
        package var holds: Bool
        /// Why each of its entries does not have the destination, where it holds and none does.
        package var misses: [String]
    }

    package var client: PolicyClient
    package var workload: ResourceName
    package var destination: EgressDestination
    package var port: UInt16
    package var rule: EgressRule
    package var decidedBy: RuleName
    /// The one that holds first.
    package var steps: [Step]
    /// Listed names that may stand for the address, which only the node of the workload knows.
    package var namesThatMayStandForIt: [String]

    package var isAllowed: Bool { rule.allows }
    package var reason: Reason { isAllowed ? .MESH_REASON_NONE : .MESH_REASON_EGRESS_DENIED }

    package init(
        _ client: PolicyClient, of workload: WorkloadView, to destination: EgressDestination, port: UInt16,
        _ snapshot: Snapshot
    ) {
        self.client = client
        self.workload = workload.key
        self.destination = destination
        self.port = port
        let view = snapshot.egress(of: workload.id)
        rule = EgressRule(destination, port: port, view)
        let isOfPolicy = rule != .noPolicy && rule != .names
        decidedBy = RuleName(
            policy: isOfPolicy ? view?.policy.description ?? "" : "", rule: rule.description)
        steps = []
        namesThatMayStandForIt = []
        trace(view, snapshot)
    }

    // MARK: private

    private mutating func trace(_ view: EgressView?, _ snapshot: Snapshot) {
        let root = snapshot.rootNamespace
        guard let resource = ResourceSet(of: snapshot).workloads.first(where: { $0.key == workload }) else { return }
        let selecting = snapshot.egressPolicies.filter { $0.selects(resource, rootNamespace: root) }
        for policy in selecting.sorted(by: { $0.scope(rootNamespace: root) > $1.scope(rootNamespace: root) }) {
            let holds = policy.key == view?.policy
            let misses = policy.allowed.compactMap { destination.miss(of: $0, port: port) }
            steps.append(
                Step(
                    policy: policy.key, mode: policy.mode, scope: policy.scope(rootNamespace: root), holds: holds,
                    misses: holds && rule == .noMatch ? misses : []))
        }
        guard rule == .noMatch, case .address = destination else { return }
        for entry in view?.allowed ?? [] where entry.ports.isEmpty || entry.ports.contains(port) {
            if case .name(let pattern) = entry.destination { namesThatMayStandForIt.append(pattern) }
        }
    }
}

/// The smallest change of EgressPolicies that would allow a connection which is denied.
package struct EgressRemedy: Sendable {
    package let policy: EgressPolicyResource
    /// It takes the place of the one with its name.
    package let replaces: Bool

    /// Nil where nothing is denied.
    package init?(_ explanation: EgressExplanation, _ snapshot: Snapshot) {
        let root = snapshot.rootNamespace
        var resources = ResourceSet(of: snapshot)
        guard !explanation.isAllowed, let deciding = explanation.steps.first(where: \.holds),
            let current = resources.egressPolicies.first(where: { $0.key == deciding.policy }),
            let workload = resources.workloads.first(where: { $0.key == explanation.workload })
        else { return nil }
        var policy = current
        if current.scope(rootNamespace: root) < .workload, !workload.labels.isEmpty, workload.namespace != root {
            // A wider one says it for others too: one for this workload alone holds before it.
            policy.name = "\(workload.name)-egress"
            policy.namespace = workload.namespace
            policy.selector = workload.labels
        }
        if policy.mode == .deny { policy.allowed = [] }
        policy.mode = .listed
        switch explanation.destination {
        case .address(let address):
            policy.allowed.append(.init(.addresses(AddressBlock(address)), ports: [explanation.port]))
        case .name(let name): policy.allowed.append(.init(.name(name), ports: [explanation.port]))
        }
        self.policy = policy
        replaces = resources.egressPolicies.contains { $0.key == policy.key }
        resources.egressPolicies.removeAll { $0.key == policy.key }
        resources.egressPolicies.append(policy)
        guard Self.allows(explanation, resources, snapshot) else { return nil }
    }

    /// Whether it does, asked as before.
    private static func allows(
        _ explanation: EgressExplanation, _ resources: ResourceSet, _ snapshot: Snapshot
    ) -> Bool {
        var builder = SnapshotBuilder(
            localNode: snapshot.node(snapshot.localNode)?.name ?? "", trustDomain: snapshot.trustDomain,
            rootNamespace: snapshot.rootNamespace, ids: SnapshotIDs(continuing: snapshot))
        guard let changed = try? builder.build(resources),
            let view = changed.allWorkloads.first(where: { $0.key == explanation.workload })
        else { return false }
        return EgressExplanation(
            explanation.client, of: view, to: explanation.destination, port: explanation.port, changed
        ).isAllowed
    }
}
