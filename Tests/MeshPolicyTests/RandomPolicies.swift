import MeshModel

/// Small worlds of workloads and policies over few names, so that rules often match and often just fail to.
struct RandomPolicies {
    static let trustDomain = "mesh.test"
    static let rootNamespace = "root"
    private static let namespaces = ["shop", "ops", "sh"]
    private static let accounts = ["web", "db", "we"]
    private static let ports: [UInt16] = [80, 443, 8080]

    var workloads: [WorkloadResource] = []
    var policies: [AuthorizationPolicyResource] = []

    init(using random: inout SplitMix) {
        for number in 0..<6 {
            var labels: [String: String] = [:]
            for label in ["app", "tier"] where random.chance(0.6) { labels[label] = random.pick(["a", "b"]) }
            workloads.append(
                WorkloadResource(
                    name: "w\(number)", namespace: random.pick(Self.namespaces),
                    serviceAccount: random.pick(Self.accounts), node: "a",
                    selector: WorkloadSelector(.cgroup(pattern: "w\(number)")),
                    addresses: [Self.address(&random, number)], labels: labels))
        }
        for number in 0..<Int.random(in: 0...7, using: &random) { policies.append(Self.policy(number, &random)) }
    }

    /// Of one of few subnets; IPv6 for a third.
    static func address(_ random: inout SplitMix, _ number: Int) -> IPAddress {
        if random.chance(0.3) {
            return IPAddress(high: random.pick([0xfd00 << 48, 0xfd01 << 48]), low: UInt64(number) + 1)
        }
        return IPAddress(ipv4: random.pick([0x0a00_0000, 0x0a00_0100, 0xc0a8_0000]) + UInt32(number) + 1)
    }

    // MARK: private

    private static func policy(_ number: Int, _ random: inout SplitMix) -> AuthorizationPolicyResource {
        var selector: [String: String] = [:]
        for label in ["app", "tier"] where random.chance(0.12) { selector[label] = random.pick(["a", "b"]) }
        return AuthorizationPolicyResource(
            name: "p\(random.pick([0, 1]) == 0 ? number : 9 - number)",
            namespace: random.chance(0.45) ? rootNamespace : random.pick(namespaces), selector: selector,
            action: random.chance(0.25) ? .deny : .allow, isDryRun: random.chance(0.2),
            rules: (0..<random.pick([0, 1, 1, 1, 2])).map { _ in rule(&random) })
    }

    private static func rule(_ random: inout SplitMix) -> AuthorizationPolicyResource.Rule {
        var rule = AuthorizationPolicyResource.Rule()
        if random.chance(0.7) { for _ in 0..<random.pick([1, 1, 2]) { rule.from.append(source(&random)) } }
        if random.chance(0.3) {
            for _ in 0..<random.pick([1, 1, 2]) {
                rule.to.append(.init(ports: random.chance(0.1) ? PolicyMatch() : match(&random) { $0.pick(ports) }))
            }
        }
        if random.chance(0.3) { for _ in 0..<random.pick([1, 1, 2]) { rule.when.append(condition(&random)) } }
        return rule
    }

    private static func source(_ random: inout SplitMix) -> AuthorizationPolicyResource.Source {
        var source = AuthorizationPolicyResource.Source()
        if random.chance(0.45) { source.principals = match(&random, principal) }
        if random.chance(0.3) { source.namespaces = match(&random, namespace) }
        if random.chance(0.1) { source.serviceAccounts = match(&random, account) }
        if random.chance(0.3) { source.addresses = match(&random, block) }
        return source
    }

    private static func condition(_ random: inout SplitMix) -> AuthorizationPolicyResource.Condition {
        switch Int.random(in: 0..<6, using: &random) {
        case 0: .sourceAddress(match(&random, block))
        case 1: .sourceNamespace(match(&random, namespace))
        case 2: .sourcePrincipal(match(&random, principal))
        case 3: .sourceServiceAccount(match(&random, account))
        case 4: .destinationAddress(match(&random, block))
        default: .destinationPort(match(&random) { $0.pick(ports) })
        }
    }

    private static func match<Value>(
        _ random: inout SplitMix, _ value: (inout SplitMix) -> Value
    ) -> PolicyMatch<Value> {
        let values = (0..<random.pick([0, 1, 1, 2, 3])).map { _ in value(&random) }
        let notValues = random.chance(0.25) || values.isEmpty ? [value(&random)] : []
        return PolicyMatch(values, not: notValues)
    }

    private static func principal(_ random: inout SplitMix) -> TextPattern {
        let namespace = random.pick(namespaces)
        let account = random.pick(accounts)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: return .any
        case 1: return .prefix("\(trustDomain)/ns/\(namespace)")
        case 2: return .suffix("/sa/\(account)")
        case 3: return .suffix(account)
        default: return .exact("\(trustDomain)/ns/\(namespace)/sa/\(account)")
        }
    }

    private static func namespace(_ random: inout SplitMix) -> TextPattern {
        switch Int.random(in: 0..<5, using: &random) {
        case 0: .any
        case 1: .prefix(random.pick(["s", "sh", "sho"]))
        case 2: .suffix(random.pick(["op", "ps", "h"]))
        default: .exact(random.pick(namespaces))
        }
    }

    private static func account(_ random: inout SplitMix) -> ServiceAccountName {
        ServiceAccountName(namespace: random.pick(namespaces), name: random.pick(accounts))
    }

    static func block(_ random: inout SplitMix) -> AddressBlock {
        let address = address(&random, Int.random(in: 0..<6, using: &random))
        let bits: UInt8 =
            address.isIPv4 ? random.pick([96, 104, 112, 120, 121, 126, 128]) : random.pick([0, 8, 16, 64, 128])
        return AddressBlock(address, prefixBits: bits)
    }
}

extension SplitMix {
    mutating func chance(_ share: Double) -> Bool { Double.random(in: 0..<1, using: &self) < share }

    mutating func pick<Value>(_ values: [Value]) -> Value { values[Int.random(in: values.indices, using: &self)] }
}
