/// Which destinations outside the mesh a workload may call.
package struct EgressView: Hashable, Sendable {
    package var policy: ResourceName
    package var mode: EgressPolicyResource.Mode
    /// Of meaning in mode `listed`.
    package var allowed: [EgressPolicyResource.Entry]
    package var allowsRawSockets: Bool

    /// Whether what this name stands for may be called.
    package func lists(name: String) -> Bool { mode == .listed && allowed.contains { $0.lists(name: name) } }
}

extension Snapshot {
    /// What may reach `port` of a workload beside the mesh's tunnels. Strict for workloads that are not known.
    package func inboundMode(of workload: WorkloadID, port: UInt16) -> InboundMode {
        guard let record = workloadPolicies(workload) else { return .strict }
        for index in 0..<Int(record.inboundPorts.count) {
            let exception = sections.inboundPorts[Int(record.inboundPorts.first) + index]
            if exception.port == port { return InboundMode(number: UInt32(exception.mode)) ?? .strict }
        }
        return InboundMode(number: record.inboundMode) ?? .strict
    }

    /// Whether plaintext from `source` to `port` passes although the port is strict.
    package func isExempt(_ source: IPAddress, to workload: WorkloadID, port: UInt16) -> Bool {
        guard let range = workloadPolicies(workload)?.exemptions else { return false }
        for index in 0..<Int(range.count) {
            let record = sections.inboundExemptions[Int(range.first) + index]
            if record.port == port && record.source.block.contains(source) { return true }
        }
        return false
    }

    package func inboundExemptions(of workload: WorkloadID) -> [PeerAuthenticationResource.Exemption] {
        workloadPolicies(workload).map { sections.exemptions($0.exemptions, sections.inboundExemptions) } ?? []
    }

    /// The mode of the workload, and the ports that have another.
    package func inboundModes(
        of workload: WorkloadID
    ) -> (mode: InboundMode, ports: [(port: UInt16, mode: InboundMode)]) {
        guard let record = workloadPolicies(workload) else { return (.strict, []) }
        let range = record.inboundPorts
        return (
            InboundMode(number: record.inboundMode) ?? .strict,
            (0..<Int(range.count)).map {
                let exception = sections.inboundPorts[Int(range.first) + $0]
                return (exception.port, InboundMode(number: UInt32(exception.mode)) ?? .strict)
            }
        )
    }

    /// Nil where no EgressPolicy selects the workload.
    package func egress(of workload: WorkloadID) -> EgressView? {
        guard let record = workloadPolicies(workload), record.egress > 0 else { return nil }
        let resource = sections.egressPolicy(sections.egressPolicies[Int(record.egress) - 1])
        return EgressView(
            policy: resource.key, mode: resource.mode, allowed: resource.allowed,
            allowsRawSockets: resource.allowsRawSockets)
    }

    /// As declared, in the order in which they decide.
    package var authorizationPolicies: [AuthorizationPolicyResource] {
        (0..<sections.policies.count).map { sections.authorizationPolicy(sections.policies[$0]) }
    }

    package func authorizationPolicy(_ index: PolicyIndex) -> AuthorizationPolicyResource {
        sections.authorizationPolicy(sections.policies[Int(index.rawValue)])
    }

    package var peerAuthentications: [PeerAuthenticationResource] {
        (0..<sections.peerAuthentications.count).map {
            sections.peerAuthentication(sections.peerAuthentications[$0])
        }
    }

    package var egressPolicies: [EgressPolicyResource] {
        (0..<sections.egressPolicies.count).map { sections.egressPolicy(sections.egressPolicies[$0]) }
    }

    func workloadPolicies(_ id: WorkloadID) -> WorkloadPolicyRecord? {
        workloadIndex(id).map { sections.workloadPolicies[$0] }
    }
}

extension SnapshotSections {
    fileprivate func exemptions(
        _ range: RecordRange, _ section: SnapshotSection<InboundExemptionRecord>
    ) -> [PeerAuthenticationResource.Exemption] {
        range.indices.map {
            PeerAuthenticationResource.Exemption(source: section[$0].source.block, port: section[$0].port)
        }
    }

    fileprivate func peerAuthentication(_ record: PeerAuthenticationRecord) -> PeerAuthenticationResource {
        var portModes: [UInt16: InboundSetting] = [:]
        for index in record.ports.indices {
            portModes[declaredPorts[index].port] = InboundSetting(number: UInt32(declaredPorts[index].mode))
        }
        return PeerAuthenticationResource(
            name: string(record.name), namespace: string(record.namespace), selector: labels(in: record.selector),
            mode: InboundSetting(number: record.mode) ?? .strict, portModes: portModes,
            exemptions: exemptions(record.exemptions, declaredExemptions))
    }

    fileprivate func egressPolicy(_ record: EgressPolicyRecord) -> EgressPolicyResource {
        EgressPolicyResource(
            name: string(record.name), namespace: string(record.namespace), selector: labels(in: record.selector),
            mode: EgressPolicyResource.Mode(number: record.mode) ?? .deny,
            allowed: record.entries.indices.map {
                let entry = egressEntries[$0]
                let ports = entry.ports.indices.map { policyPorts[$0] }
                return EgressPolicyResource.Entry(
                    entry.name.length == 0 ? .addresses(entry.block.block) : .name(string(entry.name)), ports: ports)
            }, allowsRawSockets: record.allowsRawSockets != 0)
    }

    fileprivate func authorizationPolicy(_ record: PolicyRecord) -> AuthorizationPolicyResource {
        AuthorizationPolicyResource(
            name: string(record.name), namespace: string(record.namespace), selector: labels(in: record.selector),
            action: record.flags & PolicyRecord.denies != 0 ? .deny : .allow,
            isDryRun: record.flags & PolicyRecord.isDryRun != 0,
            rules: record.rules.indices.map { index in
                let rule = policyRules[index]
                return AuthorizationPolicyResource.Rule(
                    from: rule.from.indices.map { source(policyClauses[$0]) },
                    to: rule.to.indices.map { operation(policyClauses[$0]) },
                    when: rule.when.indices.compactMap { condition(policyClauses[$0]) })
            })
    }

    // MARK: private

    private func source(_ clause: PolicyClauseRecord) -> AuthorizationPolicyResource.Source {
        var source = AuthorizationPolicyResource.Source()
        for index in clause.tests.indices {
            let test = policyTests[index]
            switch PolicyField(rawValue: test.field) {
            case .sourcePrincipal: add(test, to: &source.principals, pattern)
            case .sourceNamespace: add(test, to: &source.namespaces, pattern)
            case .sourceServiceAccount: add(test, to: &source.serviceAccounts, account)
            case .sourceAddress: add(test, to: &source.addresses) { policyBlocks[$0].block }
            case .destinationAddress, .destinationPort, nil: break
            }
        }
        return source
    }

    private func operation(_ clause: PolicyClauseRecord) -> AuthorizationPolicyResource.Operation {
        var operation = AuthorizationPolicyResource.Operation()
        for index in clause.tests.indices where policyTests[index].field == PolicyField.destinationPort.rawValue {
            add(policyTests[index], to: &operation.ports) { policyPorts[$0] }
        }
        return operation
    }

    /// All tests of a condition's clause have its field.
    private func condition(_ clause: PolicyClauseRecord) -> AuthorizationPolicyResource.Condition? {
        guard let first = clause.tests.indices.first else { return nil }
        func match<Value>(_ value: (Int) -> Value) -> PolicyMatch<Value> {
            var match = PolicyMatch<Value>()
            for index in clause.tests.indices { add(policyTests[index], to: &match, value) }
            return match
        }
        switch PolicyField(rawValue: policyTests[first].field) {
        case .sourcePrincipal: return .sourcePrincipal(match(pattern))
        case .sourceNamespace: return .sourceNamespace(match(pattern))
        case .sourceServiceAccount: return .sourceServiceAccount(match(account))
        case .sourceAddress: return .sourceAddress(match { policyBlocks[$0].block })
        case .destinationAddress: return .destinationAddress(match { policyBlocks[$0].block })
        case .destinationPort: return .destinationPort(match { policyPorts[$0] })
        case nil: return nil
        }
    }

    private func add<Value>(_ test: PolicyTestRecord, to match: inout PolicyMatch<Value>, _ value: (Int) -> Value) {
        let values = test.values.indices.map(value)
        if test.isNegated == 1 { match.notValues += values } else { match.values += values }
    }

    private func pattern(_ index: Int) -> TextPattern {
        let text = string(policyTexts[index].text)
        switch policyTexts[index].form {
        case PolicyTextRecord.exact: return .exact(text)
        case PolicyTextRecord.prefix: return .prefix(text)
        case PolicyTextRecord.suffix: return .suffix(text)
        default: return .any
        }
    }

    private func account(_ index: Int) -> ServiceAccountName {
        ServiceAccountName(namespace: string(policyTexts[index].text), name: string(policyTexts[index].account))
    }
}

extension RecordRange {
    fileprivate var indices: Range<Int> { Int(first)..<Int(first) + Int(count) }
}
