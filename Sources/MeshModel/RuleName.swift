/// What decided a connection, by names, as users see it.
package struct RuleName: Hashable, Sendable {
    /// `namespace/name`; empty for a built-in rule.
    package var policy: String
    /// `rules[2]`, `no-match`, or the name of a built-in rule; empty where nothing was decided.
    package var rule: String

    package init(policy: String = "", rule: String = "") {
        self.policy = policy
        self.rule = rule
    }

    package static let none = RuleName()
    package var isNone: Bool { rule.isEmpty }
}

extension RuleName: CustomStringConvertible {
    package var description: String { policy.isEmpty ? rule : "\(policy) \(rule)" }
}
