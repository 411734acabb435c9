package import MeshConfig
import MeshModel

/// The names that hold for the whole mesh, which policies are checked against.
package struct MeshNames: Equatable, Sendable {
    /// Nil: not known, so that principals of another one are not found.
    package var trustDomain: String?
    package var rootNamespace: String

    package init(trustDomain: String? = nil, rootNamespace: String = PolicyResourceDefaults.rootNamespace) {
        self.trustDomain = trustDomain
        self.rootNamespace = rootNamespace
    }

    package init(_ configuration: Configuration) {
        self.init(trustDomain: configuration.trustDomain, rootNamespace: configuration.rootNamespace)
    }
}

/// What policies say about the workloads that there are. Two that contradict each other are an error; one that can
/// never match is a warning, as the workload that it waits for may still come.
struct PolicyChecks {
    private let declared: DeclaredResources
    private let names: MeshNames
    var diagnostics: Diagnostics
    private let workloads: [WorkloadResource]
    private let byLabel: WorkloadsByLabel
    private let namespaces: Set<String>
    private let accounts: Set<ServiceAccountName>

    init(_ declared: DeclaredResources, names: MeshNames, diagnostics: Diagnostics) {
        self.declared = declared
        self.names = names
        self.diagnostics = diagnostics
        workloads = declared.workloads.map(\.resource)
        byLabel = WorkloadsByLabel(workloads)
        namespaces = Set(workloads.map(\.namespace))
        accounts = Set(workloads.map { ServiceAccountName(namespace: $0.namespace, name: $0.serviceAccount) })
    }

    /// Two policies where only one can hold.
    mutating func checkOverlaps() {
        checkOverlaps(of: "PeerAuthentication", declared.peerAuthentications)
        checkOverlaps(of: "EgressPolicy", declared.egressPolicies)
    }

    /// What can't match any workload or any client that is declared.
    mutating func checkReach() {
        for policy in declared.authorizationPolicies {
            let selected = checkSelection(of: "AuthorizationPolicy", policy)
            if policy.resource.action == .deny && policy.resource.rules.isEmpty {
                diagnostics.warning(
                    policy.position,
                    "DENY policy `\(policy.resource.key)` has no rules and denies nothing, expected `spec.rules`; "
                        + "`rules: [{}]` denies everything")
            }
            for (index, rule) in policy.resource.rules.enumerated() {
                check(rule, of: policy, path: "spec.rules[\(index)]", selected: selected)
            }
        }
        for policy in declared.peerAuthentications {
            let selected = checkSelection(of: "PeerAuthentication", policy)
            for port in policy.resource.portModes.keys.sorted() {
                checkPort(port, at: policy.position(of: "spec.portLevelMtls"), selected)
            }
            for (index, exemption) in policy.resource.exemptions.enumerated() {
                checkPort(exemption.port, at: policy.position(of: "spec.exempt[\(index)].port"), selected)
            }
        }
        for policy in declared.egressPolicies { _ = checkSelection(of: "EgressPolicy", policy) }
    }

    // MARK: private

    private mutating func checkOverlaps<Policy: PolicyResource>(of kind: String, _ policies: [Declared<Policy>]) {
        let byLabel = PoliciesByLabel(policies.map(\.resource), rootNamespace: names.rootNamespace)
        var reported: Set<Int> = []
        for policy in wide(policies) where policy.first != policy.index {
            reported.insert(policy.index)
            reportOverlap(of: kind, policies[policy.index], policies[policy.first], what: "the same workloads")
        }
        for workload in workloads {
            var first: [PolicyScope: Int] = [:]
            for index in byLabel.selecting(workload) {
                let scope = policies[index].resource.scope(rootNamespace: names.rootNamespace)
                guard let other = first[scope] else {
                    first[scope] = index
                    continue
                }
                guard policies[other].resource.key != policies[index].resource.key,
                    reported.insert(index).inserted
                else { continue }
                reportOverlap(
                    of: kind, policies[index], policies[other], what: "workload `\(workload.key)`")
            }
        }
    }

    /// The policies without selector, each with the first one of its namespace.
    private func wide<Policy: PolicyResource>(_ policies: [Declared<Policy>]) -> [(index: Int, first: Int)] {
        var first: [String: Int] = [:]
        return policies.indices.filter { policies[$0].resource.selector.isEmpty }.map { index in
            let namespace = policies[index].resource.namespace
            let earlier = first[namespace] ?? index
            first[namespace] = earlier
            // The same name twice is reported as that.
            return (index, policies[index].resource.key == policies[earlier].resource.key ? index : earlier)
        }
    }

    private mutating func reportOverlap<Policy: PolicyResource>(
        of kind: String, _ policy: Declared<Policy>, _ other: Declared<Policy>, what: String
    ) {
        diagnostics.error(
            policy.position,
            "\(kind) `\(policy.resource.key)` selects \(what) in the same scope as `\(other.resource.key)` at "
                + "\(other.position), expected one; merge them or change `spec.selector`")
    }

    private mutating func checkSelection<Policy: PolicyResource>(
        of kind: String, _ policy: Declared<Policy>
    ) -> [WorkloadResource] {
        let resource = policy.resource
        let selected = selected(by: resource)
        if selected.isEmpty {
            let isMesh = resource.namespace == names.rootNamespace
            let place = isMesh ? "any namespace" : "namespace `\(resource.namespace)`"
            diagnostics.warning(
                policy.position(of: resource.selector.isEmpty ? "metadata.namespace" : "spec.selector"),
                "\(kind) `\(resource.key)` selects no workload, expected "
                    + (resource.selector.isEmpty
                        ? "a namespace that has one" : "labels that one of \(place) has")
                    + (isMesh || namespaces.contains(resource.namespace)
                        ? "" : Suggestion.clause(for: resource.namespace, among: namespaces.sorted())))
        }
        return selected
    }

    /// Without a look at every workload where labels and the namespace say enough: policies are many.
    private func selected(by policy: some PolicyResource) -> [WorkloadResource] {
        let isByLabels = policy.namespace != names.rootNamespace && !policy.selector.isEmpty
        let candidates =
            isByLabels
            ? byLabel.candidates(namespace: policy.namespace, labels: policy.selector).map { workloads[$0] } : workloads
        return candidates.filter { policy.selects($0, rootNamespace: names.rootNamespace) }
    }

    private mutating func check(
        _ rule: AuthorizationPolicyResource.Rule, of policy: Declared<AuthorizationPolicyResource>, path: String,
        selected: [WorkloadResource]
    ) {
        func place(_ path: String) -> SourcePosition { policy.position(of: path) }
        for (index, source) in rule.from.enumerated() {
            let path = "\(path).from[\(index)].source"
            checkPrincipals(source.principals.values, "\(path).principals", place)
            checkNamespaces(source.namespaces.values, "\(path).namespaces", place)
            checkAccounts(source.serviceAccounts.values, "\(path).serviceAccounts", place)
            checkContradiction(source.principals, "\(path).principals", place, covers: Self.covers)
            checkContradiction(source.namespaces, "\(path).namespaces", place, covers: Self.covers)
            checkContradiction(source.serviceAccounts, "\(path).serviceAccounts", place) { $0 == $1 }
            checkContradiction(source.addresses, "\(path).ipBlocks", place) { $0.contains($1) }
        }
        for (index, operation) in rule.to.enumerated() {
            let path = "\(path).to[\(index)].operation.ports"
            checkContradiction(operation.ports, path, place) { $0 == $1 }
            for (value, port) in operation.ports.values.enumerated() {
                checkPort(port, at: place("\(path)[\(value)]"), selected)
            }
        }
        for (index, condition) in rule.when.enumerated() {
            check(condition, "\(path).when[\(index)].values", place, selected)
        }
    }

    private mutating func check(
        _ condition: AuthorizationPolicyResource.Condition, _ path: String, _ place: (String) -> SourcePosition,
        _ selected: [WorkloadResource]
    ) {
        switch condition {
        case .sourcePrincipal(let match):
            checkPrincipals(match.values, path, place)
            checkContradiction(match, path, place, covers: Self.covers)
        case .sourceNamespace(let match):
            checkNamespaces(match.values, path, place)
            checkContradiction(match, path, place, covers: Self.covers)
        case .sourceServiceAccount(let match):
            checkAccounts(match.values, path, place)
            checkContradiction(match, path, place) { $0 == $1 }
        case .sourceAddress(let match): checkContradiction(match, path, place) { $0.contains($1) }
        case .destinationAddress(let match):
            checkContradiction(match, path, place) { $0.contains($1) }
            let addresses = selected.flatMap(\.addresses)
            for (index, block) in match.values.enumerated()
            where !selected.isEmpty && !addresses.contains(where: block.contains) {
                diagnostics.warning(
                    place("\(path)[\(index)]"),
                    "no workload that the policy selects has an address in \(block): it never matches")
            }
        case .destinationPort(let match):
            checkContradiction(match, path, place) { $0 == $1 }
            for (index, port) in match.values.enumerated() { checkPort(port, at: place("\(path)[\(index)]"), selected) }
        }
    }

    private mutating func checkPrincipals(
        _ values: [TextPattern], _ path: String, _ place: (String) -> SourcePosition
    ) {
        for (index, value) in values.enumerated() {
            guard case .exact(let text) = value, let principal = Principal(parsing: "spiffe://" + text) else {
                continue
            }
            let position = place("\(path)[\(index)]")
            if let trustDomain = names.trustDomain, principal.trustDomain != trustDomain {
                diagnostics.warning(
                    position,
                    "`\(text)` is of another trust domain than `\(trustDomain)`, whose principals alone are let in: it "
                        + "never matches" + Suggestion.clause(for: principal.trustDomain, among: [trustDomain]))
            } else if !accounts.contains(
                ServiceAccountName(namespace: principal.namespace, name: principal.serviceAccount))
            {
                let known = accounts.map { "\(principal.trustDomain)/ns/\($0.namespace)/sa/\($0.name)" }.sorted()
                diagnostics.warning(
                    position,
                    "no workload has the principal `\(text)`: it never matches"
                        + Suggestion.clause(for: text, among: known))
            }
        }
    }

    private mutating func checkNamespaces(
        _ values: [TextPattern], _ path: String, _ place: (String) -> SourcePosition
    ) {
        for (index, value) in values.enumerated() where !namespaces.contains(where: value.matches) {
            diagnostics.warning(
                place("\(path)[\(index)]"),
                "no workload is in a namespace `\(value)`: it never matches"
                    + Suggestion.clause(for: value.description, among: namespaces.sorted()))
        }
    }

    private mutating func checkAccounts(
        _ values: [ServiceAccountName], _ path: String, _ place: (String) -> SourcePosition
    ) {
        for (index, value) in values.enumerated() where !accounts.contains(value) {
            diagnostics.warning(
                place("\(path)[\(index)]"),
                "no workload has the service account `\(value)`: it never matches"
                    + Suggestion.clause(for: value.description, among: accounts.map(\.description).sorted()))
        }
    }

    private mutating func checkPort(_ port: UInt16, at position: SourcePosition, _ selected: [WorkloadResource]) {
        guard !selected.isEmpty, selected.allSatisfy({ !$0.ports.isEmpty && !$0.ports.contains(port) }) else { return }
        let ports = Set(selected.flatMap(\.ports)).sorted().map(String.init).joined(separator: ", ")
        diagnostics.warning(
            position,
            "no workload that the policy selects has port \(port) in `spec.ports`: it never matches; they have "
                + "\(ports), and the port of a service means nothing here")
    }

    /// Values whose negation stands beside them.
    private mutating func checkContradiction<Value>(
        _ match: PolicyMatch<Value>, _ path: String, _ place: (String) -> SourcePosition,
        covers: (Value, Value) -> Bool
    ) {
        guard !match.values.isEmpty, !match.notValues.isEmpty,
            match.values.allSatisfy({ value in match.notValues.contains { covers($0, value) } })
        else { return }
        diagnostics.warning(
            place(path), "every value of `\(path)` is excluded by its negation: it never matches")
    }

    private static func covers(_ wide: TextPattern, _ narrow: TextPattern) -> Bool {
        switch narrow {
        case .exact(let text): return wide.matches(text)
        case .prefix(let text):
            if case .prefix(let own) = wide { return text.hasPrefix(own) }
        case .suffix(let text):
            if case .suffix(let own) = wide { return text.hasSuffix(own) }
        case .any: break
        }
        return wide == .any
    }
}
