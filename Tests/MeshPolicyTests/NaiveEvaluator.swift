import MeshModel

/// A second opinion, written from the resources' definitions with texts and bits: no code of the first is called.
struct NaiveEvaluator {
    struct Client {
        /// Nil: nobody.
        var trustDomain: String?
        var namespace = ""
        var account = ""
        var address: IPAddress
    }

    enum Verdict: Equatable, CustomStringConvertible {
        case allowed(String)
        case denied(String)

        var description: String {
            switch self {
            case .allowed(let why): "allowed by \(why)"
            case .denied(let why): "denied by \(why)"
            }
        }
    }

    let policies: [AuthorizationPolicyResource]
    let rootNamespace: String

    func verdict(_ client: Client, _ workload: WorkloadResource, _ destination: SocketAddress) -> (
        verdict: Verdict, wouldDeny: Bool
    ) {
        let live = policies.filter { !$0.isDryRun }
        let now = judge(live, client, workload, destination)
        let trial = judge(policies, client, workload, destination)
        guard case .allowed = now else { return (now, false) }
        if case .denied = trial { return (now, true) }
        return (now, false)
    }

    // MARK: private

    private func judge(
        _ policies: [AuthorizationPolicyResource], _ client: Client, _ workload: WorkloadResource,
        _ destination: SocketAddress
    ) -> Verdict {
        var selecting: [AuthorizationPolicyResource] = []
        for policy in policies {
            if policy.namespace != workload.namespace && policy.namespace != rootNamespace { continue }
            var hasAll = true
            for (key, value) in policy.selector where workload.labels[key] != value { hasAll = false }
            if hasAll { selecting.append(policy) }
        }
        selecting.sort { "\($0.namespace)\u{0}\($0.name)" < "\($1.namespace)\u{0}\($1.name)" }
        for policy in selecting where policy.action == .deny {
            if let rule = firstMatch(policy, client, destination) {
                return .denied("\(policy.namespace)/\(policy.name) rules[\(rule)]")
            }
        }
        let allowing = selecting.filter { $0.action == .allow }
        if allowing.isEmpty { return .allowed(" no-policy") }
        for policy in allowing {
            if let rule = firstMatch(policy, client, destination) {
                return .allowed("\(policy.namespace)/\(policy.name) rules[\(rule)]")
            }
        }
        return .denied("\(allowing[0].namespace)/\(allowing[0].name) no-match")
    }

    private func firstMatch(
        _ policy: AuthorizationPolicyResource, _ client: Client, _ destination: SocketAddress
    ) -> Int? {
        for (number, rule) in policy.rules.enumerated() {
            var from = rule.from.isEmpty
            for source in rule.from where matches(source, client) { from = true }
            var to = rule.to.isEmpty
            for operation in rule.to where !(operation.ports.values.isEmpty && operation.ports.notValues.isEmpty) {
                if holds(operation.ports, { $0 == destination.port }) { to = true }
            }
            var when = true
            for condition in rule.when where !matches(condition, client, destination) { when = false }
            if from && to && when { return number }
        }
        return nil
    }

    private func matches(_ source: AuthorizationPolicyResource.Source, _ client: Client) -> Bool {
        if source == AuthorizationPolicyResource.Source() { return false }
        return holds(source.principals) { isPrincipal($0, client) }
            && holds(source.namespaces) { client.trustDomain != nil && isText(client.namespace, $0) }
            && holds(source.serviceAccounts) { isAccount($0, client) }
            && holds(source.addresses) { isInside(client.address, $0) }
    }

    private func matches(
        _ condition: AuthorizationPolicyResource.Condition, _ client: Client, _ destination: SocketAddress
    ) -> Bool {
        switch condition {
        case .sourceAddress(let match): return holds(match) { isInside(client.address, $0) }
        case .sourceNamespace(let match):
            return holds(match) { client.trustDomain != nil && isText(client.namespace, $0) }
        case .sourcePrincipal(let match): return holds(match) { isPrincipal($0, client) }
        case .sourceServiceAccount(let match): return holds(match) { isAccount($0, client) }
        case .destinationAddress(let match): return holds(match) { isInside(destination.address, $0) }
        case .destinationPort(let match): return holds(match) { $0 == destination.port }
        }
    }

    private func holds<Value>(_ match: PolicyMatch<Value>, _ isOne: (Value) -> Bool) -> Bool {
        var found = match.values.isEmpty
        for value in match.values where isOne(value) { found = true }
        for value in match.notValues where isOne(value) { return false }
        return found
    }

    private func isPrincipal(_ pattern: TextPattern, _ client: Client) -> Bool {
        guard let trustDomain = client.trustDomain else { return false }
        return isText("\(trustDomain)/ns/\(client.namespace)/sa/\(client.account)", pattern)
    }

    private func isAccount(_ account: ServiceAccountName, _ client: Client) -> Bool {
        client.trustDomain != nil && account.namespace == client.namespace && account.name == client.account
    }

    /// By the text that a user writes.
    private func isText(_ text: String, _ pattern: TextPattern) -> Bool {
        let written = Array("\(pattern)")
        let own = Array(text)
        if written == ["*"] { return true }
        if written.last == "*" {
            let part = Array(written.dropLast())
            return own.count >= part.count && Array(own.prefix(part.count)) == part
        }
        if written.first == "*" {
            let part = Array(written.dropFirst())
            return own.count >= part.count && Array(own.suffix(part.count)) == part
        }
        return own == written
    }

    /// Bit by bit.
    private func isInside(_ address: IPAddress, _ block: AddressBlock) -> Bool {
        let mapped = { (address: IPAddress) in address.high == 0 && address.low >> 32 == 0xffff }
        guard mapped(address) == mapped(block.address) else { return false }
        for bit in 0..<Int(block.prefixBits) {
            let word = bit < 64 ? (address.high, block.address.high) : (address.low, block.address.low)
            let shift = UInt64(63 - bit % 64)
            if word.0 >> shift & 1 != word.1 >> shift & 1 { return false }
        }
        return true
    }
}
