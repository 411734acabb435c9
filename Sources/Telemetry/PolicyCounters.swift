import CMeshABI
import MeshModel

/// What policies have denied, by rule, since meshd started. Bounded: what the rules of a node with very many of them
/// deny beyond the bound is counted together.
package struct PolicyCounters {
    private var denials: [RuleName: UInt64] = [:]
    private var dryRunDenials: [RuleName: UInt64] = [:]

    static let rulesMax = 1_000
    private static let others = RuleName(rule: "other")

    mutating func count(_ opened: ProxyFlowOpened) {
        if opened.reason == .MESH_REASON_POLICY_DENIED { countDenial(opened.decidedBy) }
        if !opened.dryRunDenial.isNone { countDryRunDenial(opened.dryRunDenial) }
    }

    mutating func countDryRunDenial(_ rule: RuleName) { Self.count(rule, &dryRunDenials) }

    mutating func countDenial(_ rule: RuleName) { Self.count(rule, &denials) }

    func write(to text: inout PrometheusText) {
        Self.write(
            denials, "meshd_policy_denials_total", "Connections refused or closed by a policy, by its rule.", &text)
        Self.write(
            dryRunDenials, "meshd_policy_dry_run_denials_total",
            "Connections that were allowed and that a policy on trial would have denied, by its rule.", &text)
    }

    // MARK: private

    private static func count(_ rule: RuleName, _ counts: inout [RuleName: UInt64]) {
        let key = counts[rule] != nil || counts.count < rulesMax ? rule : others
        counts[key, default: 0] += 1
    }

    private static func write(
        _ counts: [RuleName: UInt64], _ name: String, _ help: String, _ text: inout PrometheusText
    ) {
        text.family(name, .counter, help)
        for (rule, count) in counts.sorted(by: { ($0.key.policy, $0.key.rule) < ($1.key.policy, $1.key.rule) }) {
            text.sample(name, [("policy", rule.policy), ("rule", rule.rule)], count)
        }
    }
}
