import MeshConfig
import MeshModel
import MeshPolicy
import Telemetry
import TerminalUI

/// What `meshctl policy` prints.
enum PolicyText {
    /// `allowed by shop/web rules[0]`, or `denied by …`.
    static func verdict(_ answer: PolicyAnswer) -> String {
        "\(answer.isAllowed ? "allowed" : "denied") by \(answer.decidedBy)"
    }

    static func explanation(_ answer: PolicyAnswer, _ snapshot: Snapshot) -> String {
        switch answer {
        case .inside(let answer): explanation(answer, snapshot)
        case .outside(let answer): EgressText.explanation(answer, snapshot)
        }
    }

    static func json(_ answer: PolicyAnswer, _ snapshot: Snapshot) -> [UInt8] {
        switch answer {
        case .inside(let answer): json(answer, snapshot)
        case .outside(let answer): EgressText.json(answer, snapshot)
        }
    }

    // MARK: private

    private static func explanation(_ answer: PolicyExplanation, _ snapshot: Snapshot) -> String {
        var lines = [
            "from  \(answer.client.name)" + (answer.client.principal.map { ", \($0.uri)" } ?? ""),
            "to    workload \(answer.workload), port \(answer.destination.port)", mode(answer),
        ]
        if answer.steps.isEmpty { lines.append("path  no policy selects the workload") }
        for (index, step) in answer.steps.enumerated() {
            let head = "\(step.action.text) \(step.policy) (\(step.scope.text))\(step.isDryRun ? ", dry run" : "")"
            let outcome = step.matchingRule.map { "rules[\($0)] matches" } ?? "no rule matches"
            lines.append("\(index == 0 ? "path" : "    ")  \(head): \(outcome)")
            if step.matchingRule == nil && step.misses.isEmpty { lines.append("        it has no rules") }
            for (number, miss) in step.misses.enumerated() { lines.append("        rules[\(number)]: \(miss)") }
        }
        if !answer.dryRunDenial.isNone { lines.append("trial would be denied by \(answer.dryRunDenial)") }
        if !answer.isAllowed { lines += remedy(answer, snapshot) }
        return lines.map { TextTable.printable($0) }.joined(separator: "\n")
    }

    private static func json(_ answer: PolicyExplanation, _ snapshot: Snapshot) -> [UInt8] {
        var json = JSONWriter()
        json.object { json in
            json.member("from", answer.client.name)
            json.member("principal", answer.client.principal?.uri ?? "")
            json.member("to", answer.workload.description)
            json.member("port", answer.destination.port)
            json.member("mode", answer.mode.text)
            json.member("allowed", answer.isAllowed)
            json.member("reason", answer.reason.name)
            json.member("policy", answer.decidedBy.policy)
            json.member("rule", answer.decidedBy.rule)
            json.member("dry_run_policy", answer.dryRunDenial.policy)
            json.member("dry_run_rule", answer.dryRunDenial.rule)
            json.key("path")
            json.array(answer.steps) { json, step in
                json.object { json in
                    json.member("policy", step.policy.description)
                    json.member("action", step.action.text)
                    json.member("scope", step.scope.text)
                    json.member("dry_run", step.isDryRun)
                    json.member("matches", step.matchingRule != nil)
                    json.member("rule", step.matchingRule.map { "rules[\($0)]" } ?? "")
                    json.member("misses", step.misses.joined(separator: "\n"))
                }
            }
            json.member(
                "remedy", answer.isAllowed ? "" : documents(answer, snapshot).joined(separator: "---\n"))
        }
        return json.bytes
    }

    private static func mode(_ answer: PolicyExplanation) -> String {
        let exempt = answer.isExempt ? ", but this source is exempt" : ""
        return answer.client.principal == nil
            ? "mode  \(answer.mode.text)\(exempt)" : "mode  \(answer.mode.text), which is about plaintext only"
    }

    private static func remedy(_ answer: PolicyExplanation, _ snapshot: Snapshot) -> [String] {
        let documents = documents(answer, snapshot)
        guard !documents.isEmpty else { return ["fix   no policy can allow it (\(answer.reason.name))"] }
        return ["fix   this would allow it:", "---"]
            + documents.joined(separator: "---\n").split(separator: "\n").map(String.init) + ["---"]
    }

    private static func documents(_ answer: PolicyExplanation, _ snapshot: Snapshot) -> [String] {
        guard let remedy = PolicyRemedy(answer, snapshot) else { return [] }
        func document<Policy: PolicyResource>(_ policy: Policy, _ text: String) -> String {
            remedy.changed.contains(policy.key) ? "# in place of the one that is there\n" + text : text
        }
        return remedy.peerAuthentications.map { document($0, PolicyYAML.text($0)) }
            + remedy.authorizationPolicies.map { document($0, PolicyYAML.text($0)) }
    }
}
