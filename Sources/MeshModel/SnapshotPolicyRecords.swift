// How policies become the records of a snapshot.

/// The policies of a plan, sorted by key, each kind without duplicates.
struct PolicyPlan {
    let rootNamespace: String
    /// Those that are enforced first, denials before the others: the order in which they decide.
    let authorization: [AuthorizationPolicyResource]
    let peerAuthentication: [PeerAuthenticationResource]
    let egress: [EgressPolicyResource]

    init(_ resources: ResourceSet, rootNamespace: String) {
        self.rootNamespace = rootNamespace
        authorization = SnapshotPlan.unique(resources.authorizationPolicies, by: \.key)
            .sorted { Self.rank($0) < Self.rank($1) }
        peerAuthentication = SnapshotPlan.unique(resources.peerAuthentications, by: \.key)
        egress = SnapshotPlan.unique(resources.egressPolicies, by: \.key)
    }

    /// Of everything that the policies say, whatever else the snapshot holds.
    func digest() throws(SnapshotError) -> UInt64 {
        var encoder = SnapshotEncoder()
        var labels: [LabelRecord] = []
        _ = encoder.reference(to: rootNamespace)
        encode(into: &encoder, &labels)
        encoder.append(labels, to: .labels)
        return try encoder.body().withUnsafeBytes(SnapshotHash.checksum)
    }

    func encode(into encoder: inout SnapshotEncoder, _ labels: inout [LabelRecord]) {
        var values = PolicyValues()
        encodeAuthorization(into: &encoder, &labels, &values)
        encodePeerAuthentication(into: &encoder, &labels)
        encodeEgress(into: &encoder, &labels, &values)
        values.finish(into: &encoder)
    }

    /// For each workload of the plan, and the sections that they share.
    func encodeWorkloads(_ workloads: [WorkloadResource], into encoder: inout SnapshotEncoder) {
        let policies = PoliciesByLabel(authorization, rootNamespace: rootNamespace)
        let modes = PoliciesByLabel(peerAuthentication, rootNamespace: rootNamespace)
        let egresses = PoliciesByLabel(egress, rootNamespace: rootNamespace)
        var selections = SharedRuns<UInt32>()
        var ports = SharedRuns<InboundPort>()
        var exemptions = SharedRuns<PeerAuthenticationResource.Exemption>()
        var records: [WorkloadPolicyRecord] = []
        var byKey: [ResourceName: WorkloadPolicyRecord] = [:]
        for workload in workloads {
            if let known = byKey[workload.key] {
                records.append(known)
                continue
            }
            let plan = InboundPlan(
                modes.selecting(workload).map { peerAuthentication[$0] }, rootNamespace: rootNamespace)
            var record = WorkloadPolicyRecord()
            record.policies = selections.range(of: policies.selecting(workload).map { UInt32($0) })
            record.inboundMode = UInt32(plan.mode.rawValue)
            record.inboundPorts = ports.range(
                of: plan.ports.sorted { $0.key < $1.key }.map { InboundPort(port: $0.key, mode: $0.value) })
            record.exemptions = exemptions.range(of: plan.exemptions)
            record.egress = egressIndex(egresses.selecting(workload)).map { UInt32($0 + 1) } ?? 0
            byKey[workload.key] = record
            records.append(record)
        }
        encoder.append(records, to: .workloadPolicies)
        encoder.append(selections.elements, to: .policySelections)
        encoder.append(
            ports.elements.map { InboundPortRecord(port: $0.port, mode: UInt16($0.mode.rawValue)) },
            to: .inboundPorts)
        encoder.append(exemptions.elements.map(Self.record), to: .inboundExemptions)
    }

    // MARK: private

    private struct InboundPort: Hashable {
        var port: UInt16
        var mode: InboundMode
    }

    private static func rank(_ policy: AuthorizationPolicyResource) -> (Int, Int, ResourceName) {
        (policy.isDryRun ? 1 : 0, policy.action == .deny ? 0 : 1, policy.key)
    }

    private static func record(_ exemption: PeerAuthenticationResource.Exemption) -> InboundExemptionRecord {
        InboundExemptionRecord(source: AddressBlockRecord(exemption.source), port: exemption.port)
    }

    /// The most specific; of one scope, which MeshDiscovery rejects, the one that allows least.
    private func egressIndex(_ selecting: [Int]) -> Int? {
        func rank(_ index: Int) -> (UInt8, Int) {
            let severity = [EgressPolicyResource.Mode.allow, .listed, .deny].firstIndex(of: egress[index].mode) ?? 0
            return (egress[index].scope(rootNamespace: rootNamespace).rawValue, severity)
        }
        return selecting.max { rank($0) < rank($1) }
    }

    private func encodeAuthorization(
        into encoder: inout SnapshotEncoder, _ labels: inout [LabelRecord], _ values: inout PolicyValues
    ) {
        var records: [PolicyRecord] = []
        var rules: [PolicyRuleRecord] = []
        for policy in authorization {
            let first = UInt32(rules.count)
            for rule in policy.rules {
                rules.append(
                    PolicyRuleRecord(
                        from: values.clauses(rule.from) { values, source in
                            values.test(source.principals, .sourcePrincipal, &encoder)
                            values.test(source.namespaces, .sourceNamespace, &encoder)
                            values.test(source.serviceAccounts, .sourceServiceAccount, &encoder)
                            values.test(source.addresses, .sourceAddress)
                        },
                        to: values.clauses(rule.to) { values, operation in
                            values.test(operation.ports, .destinationPort)
                        },
                        when: values.clauses(rule.when) { values, condition in
                            values.test(condition, &encoder)
                        }))
            }
            records.append(
                PolicyRecord(
                    name: encoder.reference(to: policy.name), namespace: encoder.reference(to: policy.namespace),
                    selector: encoder.labels(policy.selector, &labels),
                    rules: RecordRange(first: first, count: UInt32(rules.count) - first),
                    flags: (policy.action == .deny ? PolicyRecord.denies : 0)
                        | (policy.isDryRun ? PolicyRecord.isDryRun : 0),
                    scope: UInt32(policy.scope(rootNamespace: rootNamespace).rawValue)))
        }
        encoder.append(records, to: .policies)
        encoder.append(rules, to: .policyRules)
    }

    private func encodePeerAuthentication(into encoder: inout SnapshotEncoder, _ labels: inout [LabelRecord]) {
        var records: [PeerAuthenticationRecord] = []
        var ports: [InboundPortRecord] = []
        var exemptions: [InboundExemptionRecord] = []
        for resource in peerAuthentication {
            let own = resource.portModes.sorted { $0.key < $1.key }.map {
                InboundPortRecord(port: $0.key, mode: UInt16($0.value.rawValue))
            }
            records.append(
                PeerAuthenticationRecord(
                    name: encoder.reference(to: resource.name), namespace: encoder.reference(to: resource.namespace),
                    selector: encoder.labels(resource.selector, &labels),
                    ports: RecordRange(first: UInt32(ports.count), count: UInt32(own.count)),
                    exemptions: RecordRange(
                        first: UInt32(exemptions.count), count: UInt32(resource.exemptions.count)),
                    mode: UInt32(resource.mode.rawValue)))
            ports += own
            exemptions += resource.exemptions.map(Self.record)
        }
        encoder.append(records, to: .peerAuthentications)
        encoder.append(ports, to: .declaredPorts)
        encoder.append(exemptions, to: .declaredExemptions)
    }

    private func encodeEgress(
        into encoder: inout SnapshotEncoder, _ labels: inout [LabelRecord], _ values: inout PolicyValues
    ) {
        var records: [EgressPolicyRecord] = []
        var entries: [EgressEntryRecord] = []
        for resource in egress {
            let first = UInt32(entries.count)
            for entry in resource.allowed {
                let ports = values.range(ofPorts: entry.ports)
                switch entry.destination {
                case .addresses(let block):
                    entries.append(
                        EgressEntryRecord(
                            block: AddressBlockRecord(block), name: encoder.reference(to: ""), ports: ports))
                case .name(let name):
                    entries.append(
                        EgressEntryRecord(
                            block: AddressBlockRecord(AddressBlock(.unspecified)),
                            name: encoder.reference(to: name), ports: ports))
                }
            }
            records.append(
                EgressPolicyRecord(
                    name: encoder.reference(to: resource.name), namespace: encoder.reference(to: resource.namespace),
                    selector: encoder.labels(resource.selector, &labels),
                    entries: RecordRange(first: first, count: UInt32(entries.count) - first),
                    mode: UInt32(resource.mode.rawValue), allowsRawSockets: resource.allowsRawSockets ? 1 : 0))
        }
        encoder.append(records, to: .egressPolicies)
        encoder.append(entries, to: .egressEntries)
    }
}

/// Collects the clauses, tests and values of all rules.
private struct PolicyValues {
    private var clauses: [PolicyClauseRecord] = []
    private var tests: [PolicyTestRecord] = []
    private var texts: [PolicyTextRecord] = []
    private var blocks: [AddressBlockRecord] = []
    private var ports: [UInt16] = []

    func finish(into encoder: inout SnapshotEncoder) {
        encoder.append(clauses, to: .policyClauses)
        encoder.append(tests, to: .policyTests)
        encoder.append(texts, to: .policyTexts)
        encoder.append(blocks, to: .policyBlocks)
        encoder.append(ports, to: .policyPorts)
    }

    /// One clause for each part of a rule; `add` appends its tests.
    mutating func clauses<Part>(
        _ parts: [Part], add: (inout PolicyValues, Part) -> Void
    ) -> RecordRange {
        let first = UInt32(clauses.count)
        for part in parts {
            let firstTest = UInt32(tests.count)
            add(&self, part)
            clauses.append(
                PolicyClauseRecord(tests: RecordRange(first: firstTest, count: UInt32(tests.count) - firstTest)))
        }
        return RecordRange(first: first, count: UInt32(clauses.count) - first)
    }

    mutating func test(_ condition: AuthorizationPolicyResource.Condition, _ encoder: inout SnapshotEncoder) {
        switch condition {
        case .sourceAddress(let match): test(match, .sourceAddress)
        case .sourceNamespace(let match): test(match, .sourceNamespace, &encoder)
        case .sourcePrincipal(let match): test(match, .sourcePrincipal, &encoder)
        case .sourceServiceAccount(let match): test(match, .sourceServiceAccount, &encoder)
        case .destinationAddress(let match): test(match, .destinationAddress)
        case .destinationPort(let match): test(match, .destinationPort)
        }
    }

    mutating func test(
        _ match: PolicyMatch<TextPattern>, _ field: PolicyField, _ encoder: inout SnapshotEncoder
    ) {
        add(match, field, to: \.texts) { pattern in
            let (form, text): (UInt32, String) =
                switch pattern {
                case .exact(let text): (PolicyTextRecord.exact, text)
                case .prefix(let text): (PolicyTextRecord.prefix, text)
                case .suffix(let text): (PolicyTextRecord.suffix, text)
                case .any: (PolicyTextRecord.any, "")
                }
            return PolicyTextRecord(form: form, text: encoder.reference(to: text))
        }
    }

    mutating func test(
        _ match: PolicyMatch<ServiceAccountName>, _ field: PolicyField, _ encoder: inout SnapshotEncoder
    ) {
        add(match, field, to: \.texts) {
            PolicyTextRecord(
                form: PolicyTextRecord.exact, text: encoder.reference(to: $0.namespace),
                account: encoder.reference(to: $0.name))
        }
    }

    mutating func test(_ match: PolicyMatch<AddressBlock>, _ field: PolicyField) {
        add(match, field, to: \.blocks) { AddressBlockRecord($0) }
    }

    mutating func test(_ match: PolicyMatch<UInt16>, _ field: PolicyField) {
        add(match, field, to: \.ports) { $0 }
    }

    mutating func range(ofPorts own: [UInt16]) -> RecordRange {
        defer { ports += own }
        return RecordRange(first: UInt32(ports.count), count: UInt32(own.count))
    }

    private mutating func add<Value, Record>(
        _ match: PolicyMatch<Value>, _ field: PolicyField, to section: WritableKeyPath<PolicyValues, [Record]>,
        record: (Value) -> Record
    ) {
        for (isNegated, values) in [(0, match.values), (1, match.notValues)] where !values.isEmpty {
            let first = UInt32(self[keyPath: section].count)
            self[keyPath: section] += values.map(record)
            tests.append(
                PolicyTestRecord(
                    field: field.rawValue, isNegated: UInt16(isNegated),
                    values: RecordRange(first: first, count: UInt32(values.count))))
        }
    }
}

/// Runs of elements in one array; equal runs are kept once.
private struct SharedRuns<Element: Hashable> {
    private(set) var elements: [Element] = []
    private var ranges: [[Element]: RecordRange] = [:]

    mutating func range(of run: [Element]) -> RecordRange {
        guard !run.isEmpty else { return RecordRange() }
        if let known = ranges[run] { return known }
        let range = RecordRange(first: UInt32(elements.count), count: UInt32(run.count))
        elements += run
        ranges[run] = range
        return range
    }
}

extension SnapshotEncoder {
    /// Appends `own` by key.
    mutating func labels(_ own: [String: String], _ labels: inout [LabelRecord]) -> RecordRange {
        let range = RecordRange(first: UInt32(labels.count), count: UInt32(own.count))
        for label in own.sorted(by: { $0.key < $1.key }) {
            labels.append(LabelRecord(key: reference(to: label.key), value: reference(to: label.value)))
        }
        return range
    }
}
