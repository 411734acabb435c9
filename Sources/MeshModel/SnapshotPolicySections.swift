extension SnapshotSections {
    /// As `validate`, for policies. A selection may name a policy that is not there: that denies, and refusing the
    /// whole snapshot would keep an older one in force.
    func validatePolicies() throws(SnapshotError) {
        try check(policies, "policies") {
            isText($0.name) && isText($0.namespace) && labels.contains($0.selector) && policyRules.contains($0.rules)
                && $0.flags & ~PolicyRecord.flagsMask == 0 && PolicyScope(number: $0.scope) != nil
        }
        try check(policyRules, "policyRules") {
            policyClauses.contains($0.from) && policyClauses.contains($0.to) && policyClauses.contains($0.when)
        }
        try check(policyClauses, "policyClauses") { policyTests.contains($0.tests) }
        try check(policyTests, "policyTests") { $0.isNegated <= 1 && isPolicyTest($0) }
        try check(policyTexts, "policyTexts") {
            (PolicyTextRecord.exact...PolicyTextRecord.any).contains($0.form) && isText($0.text)
                && isText($0.account)
        }
        try check(policyBlocks, "policyBlocks", isValid: isBlock)
        guard workloadPolicies.count == workloads.count else { throw .malformed(section: "workloadPolicies") }
        try check(workloadPolicies, "workloadPolicies") {
            policySelections.contains($0.policies) && inboundPorts.contains($0.inboundPorts)
                && inboundExemptions.contains($0.exemptions) && InboundMode(number: $0.inboundMode) != nil
                && UInt64($0.egress) <= UInt64(egressPolicies.count)
        }
        try check(inboundPorts, "inboundPorts") { InboundMode(number: UInt32($0.mode)) != nil }
        try check(inboundExemptions, "inboundExemptions") { isBlock($0.source) }
        try check(peerAuthentications, "peerAuthentications") {
            isText($0.name) && isText($0.namespace) && labels.contains($0.selector) && declaredPorts.contains($0.ports)
                && declaredExemptions.contains($0.exemptions) && InboundSetting(number: $0.mode) != nil
        }
        try check(declaredPorts, "declaredPorts") { InboundSetting(number: UInt32($0.mode)) != nil }
        try check(declaredExemptions, "declaredExemptions") { isBlock($0.source) }
        try check(egressPolicies, "egressPolicies") {
            isText($0.name) && isText($0.namespace) && labels.contains($0.selector)
                && egressEntries.contains($0.entries) && EgressPolicyResource.Mode(number: $0.mode) != nil
        }
        try check(egressEntries, "egressEntries") {
            isText($0.name) && policyPorts.contains($0.ports) && isBlock($0.block)
        }
    }

    // MARK: private

    private func isPolicyTest(_ test: PolicyTestRecord) -> Bool {
        switch PolicyField(rawValue: test.field) {
        case .sourcePrincipal, .sourceNamespace, .sourceServiceAccount: policyTexts.contains(test.values)
        case .sourceAddress, .destinationAddress: policyBlocks.contains(test.values)
        case .destinationPort: policyPorts.contains(test.values)
        case nil: false
        }
    }

    private func isBlock(_ record: AddressBlockRecord) -> Bool { record.prefixBits <= 128 }
}

extension PolicyScope {
    init?(number: UInt32) {
        guard let number = UInt8(exactly: number) else { return nil }
        self.init(rawValue: number)
    }
}

extension InboundSetting {
    init?(number: UInt32) {
        guard let number = UInt8(exactly: number) else { return nil }
        self.init(rawValue: number)
    }
}

extension InboundMode {
    init?(number: UInt32) {
        guard let number = UInt8(exactly: number) else { return nil }
        self.init(rawValue: number)
    }
}

extension EgressPolicyResource.Mode {
    init?(number: UInt32) {
        guard let number = UInt8(exactly: number) else { return nil }
        self.init(rawValue: number)
    }
}
