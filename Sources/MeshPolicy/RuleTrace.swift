package import MeshModel

/// Who is asked about: a principal and an address, as policies compare them.
package struct PolicyClient: Hashable, Sendable {
    /// Nil: nobody.
    package var principal: Principal?
    /// Unspecified where it is not known: no rule that names addresses can be met by it.
    package var address: IPAddress
    /// How to call it.
    package var name: String
    /// Nil where it is none.
    package var workload: ResourceName?

    package init(principal: Principal?, address: IPAddress, name: String, workload: ResourceName? = nil) {
        self.principal = principal
        self.address = address
        self.name = name
        self.workload = workload
    }
}

/// Compares a rule as declared, to say in words why it does not match. Decisions are made by the compiled form; a test
/// holds the two together.
struct RuleTrace {
    typealias Policy = AuthorizationPolicyResource

    let client: PolicyClient
    let destination: SocketAddress

    /// Nil where the rule matches.
    func miss(_ rule: Policy.Rule) -> String? {
        if !rule.from.isEmpty {
            let misses = rule.from.enumerated().map { index, source in
                miss(source).map { "from[\(index)].source.\($0)" }
            }
            if !misses.contains(nil) { return misses.compactMap { $0 }.joined(separator: "; ") }
        }
        if !rule.to.isEmpty {
            let misses = rule.to.enumerated().map { index, operation in
                miss(operation).map { "to[\(index)].operation.\($0)" }
            }
            if !misses.contains(nil) { return misses.compactMap { $0 }.joined(separator: "; ") }
        }
        for (index, condition) in rule.when.enumerated() {
            if let miss = miss(condition) { return "when[\(index)].\(miss)" }
        }
        return nil
    }

    // MARK: private

    private func miss(_ source: Policy.Source) -> String? {
        if source == Policy.Source() { return "is empty and never matches" }
        return principal(source.principals, "principals", "notPrincipals")
            ?? namespace(source.namespaces, "namespaces", "notNamespaces")
            ?? account(source.serviceAccounts, "serviceAccounts", "notServiceAccounts")
            ?? address(client.address, source.addresses, "ipBlocks", "notIpBlocks")
    }

    private func miss(_ operation: Policy.Operation) -> String? {
        operation.ports.isEmpty ? "is empty and never matches" : port(operation.ports, "ports", "notPorts")
    }

    private func miss(_ condition: Policy.Condition) -> String? {
        let (values, notValues) = ("values", "notValues")
        let miss: (key: String, text: String?) =
            switch condition {
            case .sourceAddress(let match): ("source.ip", address(client.address, match, values, notValues))
            case .sourceNamespace(let match): ("source.namespace", namespace(match, values, notValues))
            case .sourcePrincipal(let match): ("source.principal", principal(match, values, notValues))
            case .sourceServiceAccount(let match): ("source.serviceAccount", account(match, values, notValues))
            case .destinationAddress(let match):
                ("destination.ip", address(destination.address, match, values, notValues))
            case .destinationPort(let match): ("destination.port", port(match, values, notValues))
            }
        return miss.text.map { "\($0) (\(miss.key))" }
    }

    private func principal(_ match: PolicyMatch<TextPattern>, _ key: String, _ notKey: String) -> String? {
        let name = client.principal?.nameInPolicies
        return miss(match, name ?? "nobody", key, notKey) { pattern in name.map(pattern.matches) ?? false }
    }

    private func namespace(_ match: PolicyMatch<TextPattern>, _ key: String, _ notKey: String) -> String? {
        let name = client.principal?.namespace
        return miss(match, name ?? "nobody", key, notKey) { pattern in name.map(pattern.matches) ?? false }
    }

    private func account(_ match: PolicyMatch<ServiceAccountName>, _ key: String, _ notKey: String) -> String? {
        let name = client.principal.map { ServiceAccountName(namespace: $0.namespace, name: $0.serviceAccount) }
        return miss(match, name?.description ?? "nobody", key, notKey) { $0 == name }
    }

    private func address(
        _ address: IPAddress, _ match: PolicyMatch<AddressBlock>, _ key: String, _ notKey: String
    ) -> String? {
        let name = address.isUnspecified ? "an unknown address" : address.description
        return miss(match, name, key, notKey) { $0.contains(address) }
    }

    private func port(_ match: PolicyMatch<UInt16>, _ key: String, _ notKey: String) -> String? {
        miss(match, "\(destination.port)", key, notKey) { $0 == destination.port }
    }

    private func miss<Value>(
        _ match: PolicyMatch<Value>, _ name: String, _ key: String, _ notKey: String, isOne: (Value) -> Bool
    ) -> String? {
        if !match.values.isEmpty, !match.values.contains(where: isOne) {
            return "\(key): \(name) is none of \(Self.list(match.values))"
        }
        if let excluded = match.notValues.first(where: isOne) { return "\(notKey): \(name) is \(excluded)" }
        return nil
    }

    private static func list<Value>(_ values: [Value]) -> String {
        let shown = 3
        let text = values.prefix(shown).map { "\($0)" }.joined(separator: ", ")
        return values.count > shown ? "\(text) and \(values.count - shown) more" : text
    }
}
