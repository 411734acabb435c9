// Whether the rules of a snapshot match a connection: compares the records as they lie there, allocates nothing.

/// A policy of a snapshot, by its place there.
package struct PolicyIndex: Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// What rules look at.
package struct PolicySubject: Hashable, Sendable {
    /// `.none` for a client that did not authenticate.
    package var principal: PrincipalID
    package var source: IPAddress
    package var destination: SocketAddress

    package init(principal: PrincipalID, source: IPAddress, destination: SocketAddress) {
        self.principal = principal
        self.source = source
        self.destination = destination
    }
}

/// The policies that select a workload, those that are enforced first and denials before the others.
package struct PolicySelection: RandomAccessCollection, Sendable {
    let snapshot: Snapshot
    let range: RecordRange

    package var startIndex: Int { 0 }
    package var endIndex: Int { Int(range.count) }

    package subscript(position: Int) -> PolicyIndex {
        precondition(position >= 0 && position < Int(range.count), "no such policy")
        return PolicyIndex(rawValue: snapshot.sections.policySelections[Int(range.first) + position])
    }
}

/// A subject whose principal was looked up in a snapshot: to be used with that snapshot only.
package struct ResolvedSubject: Sendable {
    let snapshot: Snapshot
    let subject: PolicySubject
    /// Nil for nobody, and for a principal that the snapshot does not know.
    let principal: PrincipalRecord?

    /// The first rule of a policy that matches. The policy must be one of the snapshot.
    package func matchingRule(of policy: PolicyIndex) -> Int? {
        let sections = snapshot.sections
        let rules = sections.policies[Int(policy.rawValue)].rules
        for index in 0..<Int(rules.count) where matches(sections.policyRules[Int(rules.first) + index], sections) {
            return index
        }
        return nil
    }

    // MARK: private

    private func matches(_ rule: PolicyRuleRecord, _ sections: SnapshotSections) -> Bool {
        matchesAny(rule.from, sections) && matchesAny(rule.to, sections) && matchesAll(rule.when, sections)
    }

    private func matchesAny(_ clauses: RecordRange, _ sections: SnapshotSections) -> Bool {
        if clauses.count == 0 { return true }
        for index in 0..<Int(clauses.count)
        where matches(sections.policyClauses[Int(clauses.first) + index], sections) { return true }
        return false
    }

    private func matchesAll(_ clauses: RecordRange, _ sections: SnapshotSections) -> Bool {
        for index in 0..<Int(clauses.count)
        where !matches(sections.policyClauses[Int(clauses.first) + index], sections) { return false }
        return true
    }

    /// A clause without tests says nothing about a connection: it matches none.
    private func matches(_ clause: PolicyClauseRecord, _ sections: SnapshotSections) -> Bool {
        for index in 0..<Int(clause.tests.count) {
            let test = sections.policyTests[Int(clause.tests.first) + index]
            if hasValue(test, sections) == (test.isNegated == 1) { return false }
        }
        return clause.tests.count > 0
    }

    /// Whether one of the values is the connection's.
    private func hasValue(_ test: PolicyTestRecord, _ sections: SnapshotSections) -> Bool {
        let values = Int(test.values.first)..<Int(test.values.first) + Int(test.values.count)
        // The snapshot was checked: no other number is there.
        switch PolicyField(rawValue: test.field) {
        case .sourcePrincipal:
            guard let principal else { return false }
            return values.contains { matches(sections.policyTexts[$0], principal.name, sections) }
        case .sourceNamespace:
            guard let principal else { return false }
            return values.contains { matches(sections.policyTexts[$0], principal.namespace, sections) }
        case .sourceServiceAccount:
            guard let principal else { return false }
            return values.contains {
                let value = sections.policyTexts[$0]
                return sections.isEqual(value.text, principal.namespace)
                    && sections.isEqual(value.account, principal.serviceAccount)
            }
        case .sourceAddress:
            return values.contains { sections.policyBlocks[$0].block.contains(subject.source) }
        case .destinationAddress:
            return values.contains { sections.policyBlocks[$0].block.contains(subject.destination.address) }
        case .destinationPort:
            return values.contains { sections.policyPorts[$0] == subject.destination.port }
        case nil:
            return false
        }
    }

    private func matches(_ value: PolicyTextRecord, _ text: TextReference, _ sections: SnapshotSections) -> Bool {
        switch value.form {
        case PolicyTextRecord.exact:
            return sections.isEqual(value.text, text)
        case PolicyTextRecord.prefix:
            guard value.text.length <= text.length else { return false }
            return sections.isEqual(value.text, TextReference(offset: text.offset, length: value.text.length))
        case PolicyTextRecord.suffix:
            guard value.text.length <= text.length else { return false }
            let start = text.offset + (text.length - value.text.length)
            return sections.isEqual(value.text, TextReference(offset: start, length: value.text.length))
        default:
            return true
        }
    }
}

extension Snapshot {
    package func resolve(_ subject: PolicySubject) -> ResolvedSubject {
        let principal = subject.principal == .none ? nil : principalRecord(subject.principal)
        return ResolvedSubject(snapshot: self, subject: subject, principal: principal)
    }

    /// What selects a workload; nil where the snapshot does not know it.
    package func policies(of workload: WorkloadID) -> PolicySelection? {
        workloadPolicies(workload).map { PolicySelection(snapshot: self, range: $0.policies) }
    }

    /// Whether a selection's policy is there; one that is not must deny.
    package func hasPolicy(_ index: PolicyIndex) -> Bool { Int(index.rawValue) < sections.policies.count }

    package func action(of policy: PolicyIndex) -> AuthorizationPolicyResource.Action {
        sections.policies[Int(policy.rawValue)].flags & PolicyRecord.denies != 0 ? .deny : .allow
    }

    package func isDryRun(_ policy: PolicyIndex) -> Bool {
        sections.policies[Int(policy.rawValue)].flags & PolicyRecord.isDryRun != 0
    }

    package func name(of policy: PolicyIndex) -> ResourceName {
        let record = sections.policies[Int(policy.rawValue)]
        return ResourceName(namespace: sections.string(record.namespace), name: sections.string(record.name))
    }

    package func scope(of policy: PolicyIndex) -> PolicyScope {
        PolicyScope(number: sections.policies[Int(policy.rawValue)].scope) ?? .mesh
    }
}

extension SnapshotSections {
    @inline(__always)
    fileprivate func isEqual(_ left: TextReference, _ right: TextReference) -> Bool {
        guard left.length == right.length else { return false }
        let own = bytes(of: left)
        let other = bytes(of: right)
        // Texts are short: a loop costs less than a call.
        for index in 0..<own.count where own[index] != other[index] { return false }
        return true
    }
}
