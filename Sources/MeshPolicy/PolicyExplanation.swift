import CMeshABI
package import MeshModel

/// How a connection would be judged and why, step by step. For people: the decision itself is the data plane's own.
package struct PolicyExplanation: Sendable {
    package struct Step: Sendable {
        package var policy: ResourceName
        package var action: AuthorizationPolicyResource.Action
        package var isDryRun: Bool
        package var scope: PolicyScope
        package var matchingRule: Int?
        /// Why each of the rules does not match, where none does.
        package var misses: [String]
    }

    package var client: PolicyClient
    package var workload: ResourceName
    package var destination: SocketAddress
    package var mode: InboundMode
    package var isExempt: Bool
    /// In the order in which they are looked at.
    package var steps: [Step]
    package var isAllowed: Bool
    package var reason: Reason
    package var decidedBy: RuleName
    /// What would deny it if policies on trial were enforced.
    package var dryRunDenial: RuleName

    package init(_ client: PolicyClient, to workload: WorkloadView, port: UInt16, _ snapshot: Snapshot) {
        self.client = client
        self.workload = workload.key
        // Of the client's family, where there is one.
        let isIPv6 = !client.address.isUnspecified && !client.address.isIPv4
        let address = workload.address(isIPv6: isIPv6) ?? workload.address(isIPv6: !isIPv6)
        destination = SocketAddress(address ?? .unspecified, port)
        mode = snapshot.inboundMode(of: workload.id, port: port)
        isExempt = snapshot.isExempt(client.address, to: workload.id, port: port)
        steps = []
        isAllowed = false
        reason = .MESH_REASON_NONE
        decidedBy = .none
        dryRunDenial = .none
        decide(workload, snapshot)
        trace(workload, snapshot)
    }

    // MARK: private

    private mutating func decide(_ workload: WorkloadView, _ snapshot: Snapshot) {
        let port = destination.port
        if MeshPort.fixed.contains(port) {
            return deny(.MESH_REASON_AUTHORITY_MESH_PORT, .builtIn(.meshPort), snapshot)
        }
        var principal = PrincipalID.none
        if let uri = client.principal?.uri {
            guard let known = snapshot.principalID(of: uri) else {
                return deny(.MESH_REASON_PRINCIPAL_UNKNOWN, .builtIn(.membership), snapshot)
            }
            principal = known
        } else if let denial = plaintextDenial(client.address, to: workload.id, port, snapshot) {
            return deny(denial.reason, denial.rule, snapshot)
        }
        let subject = PolicySubject(principal: principal, source: client.address, destination: destination)
        switch policyVerdict(subject, workload.id, snapshot) {
        case .denied(let rule): deny(.MESH_REASON_POLICY_DENIED, rule, snapshot)
        case .allowed(let rule, let trial):
            isAllowed = true
            decidedBy = RuleName(rule, snapshot)
            dryRunDenial = trial.map { RuleName($0, snapshot) } ?? .none
        }
    }

    private mutating func deny(_ reason: Reason, _ rule: DecidingRule, _ snapshot: Snapshot) {
        self.reason = reason
        decidedBy = RuleName(rule, snapshot)
    }

    private mutating func trace(_ workload: WorkloadView, _ snapshot: Snapshot) {
        guard let selection = snapshot.policies(of: workload.id) else { return }
        let trace = RuleTrace(client: client, destination: destination)
        for index in selection where snapshot.hasPolicy(index) {
            let policy = snapshot.authorizationPolicy(index)
            let misses = policy.rules.map { trace.miss($0) }
            let match = misses.firstIndex { $0 == nil }
            steps.append(
                Step(
                    policy: policy.key, action: policy.action, isDryRun: policy.isDryRun,
                    scope: snapshot.scope(of: index), matchingRule: match,
                    misses: match == nil ? misses.compactMap { $0 } : []))
        }
    }
}
