import CMeshABI
package import MeshModel

/// The smallest change of policies that would allow a connection which is denied: found by trying, one denial after
/// the other, until it is allowed.
package struct PolicyRemedy: Sendable {
    /// Policies to add, or to put in place of those with their names.
    package private(set) var authorizationPolicies: [AuthorizationPolicyResource] = []
    package private(set) var peerAuthentications: [PeerAuthenticationResource] = []
    /// Names of those that are there already.
    package private(set) var changed: Set<ResourceName> = []

    /// Nil where no policy can help: the client is not of the mesh, or the port is one of the mesh's own.
    package init?(_ explanation: PolicyExplanation, _ snapshot: Snapshot) {
        resources = ResourceSet(of: snapshot)
        builder = SnapshotBuilder(
            localNode: snapshot.node(snapshot.localNode)?.name ?? "", trustDomain: snapshot.trustDomain,
            rootNamespace: snapshot.rootNamespace, ids: SnapshotIDs(continuing: snapshot))
        client = explanation.client
        port = explanation.destination.port
        guard let workload = resources.workloads.first(where: { $0.key == explanation.workload }) else { return nil }
        self.workload = workload
        var next = explanation
        for _ in 0..<Self.stepsMax {
            if next.isAllowed { return }
            guard amend(next), let snapshot = try? builder.build(resources),
                let view = snapshot.allWorkloads.first(where: { $0.key == workload.key })
            else { return nil }
            next = PolicyExplanation(client, to: view, port: port, snapshot)
        }
        return nil
    }

    // MARK: private

    private static let stepsMax = 16

    private var resources: ResourceSet
    private var builder: SnapshotBuilder
    private let client: PolicyClient
    private let port: UInt16
    private let workload: WorkloadResource

    /// Takes the cause of one denial away.
    private mutating func amend(_ denied: PolicyExplanation) -> Bool {
        switch denied.reason {
        case .MESH_REASON_PLAINTEXT_REFUSED: permitPlaintext()
        case .MESH_REASON_POLICY_DENIED where denied.decidedBy.rule == "no-match": allow()
        case .MESH_REASON_POLICY_DENIED:
            guard
                let index = resources.authorizationPolicies.firstIndex(where: {
                    $0.key.description == denied.decidedBy.policy
                }),
                let rule = denied.steps.first(where: { $0.policy == resources.authorizationPolicies[index].key })?
                    .matchingRule
            else { return false }
            spare(policy: index, rule: rule)
        default: return false
        }
        return true
    }

    private mutating func permitPlaintext() {
        let root = builder.rootNamespace
        let selects = { (policy: PeerAuthenticationResource) in
            policy.selects(workload, rootNamespace: root)
                && policy.scope(rootNamespace: root) == (workload.labels.isEmpty ? .namespace : .workload)
        }
        var policy =
            resources.peerAuthentications.first(where: selects)
            ?? PeerAuthenticationResource(
                name: "\(workload.name)-plaintext", namespace: workload.namespace, selector: workload.labels)
        if policy.selector.isEmpty {
            policy.mode = .permissive
        } else {
            policy.portModes[port] = .permissive
        }
        if resources.peerAuthentications.contains(where: { $0.key == policy.key }) { changed.insert(policy.key) }
        resources.peerAuthentications.removeAll { $0.key == policy.key }
        resources.peerAuthentications.append(policy)
        peerAuthentications.removeAll { $0.key == policy.key }
        peerAuthentications.append(policy)
    }

    private mutating func allow() {
        var source = AuthorizationPolicyResource.Source()
        if let principal = client.principal {
            source.principals.values = [.exact(principal.nameInPolicies)]
        } else {
            source.principals.notValues = [.any]
            if !client.address.isUnspecified { source.addresses.values = [AddressBlock(client.address)] }
        }
        let who = client.principal?.serviceAccount ?? "nobody"
        put(
            AuthorizationPolicyResource(
                name: "\(workload.name)-from-\(who)", namespace: workload.namespace, selector: workload.labels,
                rules: [.init(from: [source], to: [.init(ports: PolicyMatch([port]))])]))
    }

    /// Excepts the client from a rule that denies it.
    private mutating func spare(policy index: Int, rule: Int) {
        var policy = resources.authorizationPolicies[index]
        var sources = policy.rules[rule].from
        if sources.isEmpty { sources = [AuthorizationPolicyResource.Source()] }
        for number in sources.indices {
            if let principal = client.principal {
                sources[number].principals.notValues.append(.exact(principal.nameInPolicies))
            } else if !client.address.isUnspecified {
                sources[number].addresses.notValues.append(AddressBlock(client.address))
            } else {
                sources[number].principals.values.append(.any)
            }
        }
        policy.rules[rule].from = sources
        changed.insert(policy.key)
        put(policy)
    }

    private mutating func put(_ policy: AuthorizationPolicyResource) {
        resources.authorizationPolicies.removeAll { $0.key == policy.key }
        resources.authorizationPolicies.append(policy)
        authorizationPolicies.removeAll { $0.key == policy.key }
        authorizationPolicies.append(policy)
    }
}
