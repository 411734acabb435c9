package import MeshModel

/// Rules that no policy declares.
package enum BuiltInRule: String, Hashable, Sendable {
    /// No ALLOW policy selects the destination, and no DENY rule matches: whoever is in the mesh may call it.
    case noPolicy = "no-policy"
    /// A principal is let in only from nodes where the snapshot places it.
    case membership
    /// A tunnel must come from a known node.
    case knownNode = "known-node"
    /// A destination must be an endpoint of this node under the principal that this node presented.
    case destination
    /// No port of the mesh itself is a destination.
    case meshPort = "mesh-port"
    /// The port takes no plaintext.
    case strict
    /// The destination names a policy that the snapshot does not have: nobody knows what it says.
    case unknownPolicy = "unknown-policy"
}

/// What decided a connection. Numbers only; a snapshot has the names.
package enum DecidingRule: Hashable, Sendable {
    case builtIn(BuiltInRule)
    /// A rule that matched; rules count from 0.
    case rule(Int, of: PolicyIndex)
    /// ALLOW policies select the destination and none of them matches; this is the first one.
    case noMatch(PolicyIndex)
}

extension RuleName {
    package init(_ rule: DecidingRule, _ snapshot: Snapshot) {
        switch rule {
        case .builtIn(let rule): self.init(rule: rule.rawValue)
        case .rule(let number, let index):
            self.init(policy: snapshot.name(of: index).description, rule: "rules[\(number)]")
        case .noMatch(let index): self.init(policy: snapshot.name(of: index).description, rule: "no-match")
        }
    }
}

/// What the policies of a workload say about a connection to it.
package enum PolicyVerdict: Hashable, Sendable {
    case allowed(DecidingRule, dryRunDenial: DecidingRule?)
    case denied(DecidingRule)
}

/// Judges by policies alone. A DENY rule that matches denies; else one of the ALLOW policies must match, where there are
/// any. The policies on trial are judged as if they were enforced beside the others.
package func policyVerdict(
    _ subject: PolicySubject, _ workload: WorkloadID, _ snapshot: Snapshot
) -> PolicyVerdict {
    guard let selection = snapshot.policies(of: workload) else { return .denied(.builtIn(.unknownPolicy)) }
    let count = selection.count
    if count == 0 { return .allowed(.builtIn(.noPolicy), dryRunDenial: nil) }
    let resolved = snapshot.resolve(subject)
    var enforced = AllowPolicies()
    var trial = AllowPolicies()
    var trialDenial: DecidingRule?
    // To the end even when it is clear: a policy that is not there denies wherever it stands.
    for position in 0..<count {
        let policy = selection[position]
        guard snapshot.hasPolicy(policy) else { return .denied(.builtIn(.unknownPolicy)) }
        switch (snapshot.isDryRun(policy), snapshot.action(of: policy)) {
        case (false, .deny):
            if let rule = resolved.matchingRule(of: policy) { return .denied(.rule(rule, of: policy)) }
        case (false, .allow): enforced.take(policy, resolved)
        case (true, .deny):
            if trialDenial == nil {
                trialDenial = resolved.matchingRule(of: policy).map { .rule($0, of: policy) }
            }
        case (true, .allow): trial.take(policy, resolved)
        }
    }
    if enforced.match == nil, let first = enforced.first { return .denied(.noMatch(first)) }
    if trialDenial == nil, enforced.match == nil, trial.match == nil, let first = trial.first {
        trialDenial = .noMatch(first)
    }
    return .allowed(enforced.match ?? .builtIn(.noPolicy), dryRunDenial: trialDenial)
}

// MARK: private

private struct AllowPolicies {
    var first: PolicyIndex?
    var match: DecidingRule?

    mutating func take(_ policy: PolicyIndex, _ subject: ResolvedSubject) {
        if first == nil { first = policy }
        if match == nil { match = subject.matchingRule(of: policy).map { .rule($0, of: policy) } }
    }
}
