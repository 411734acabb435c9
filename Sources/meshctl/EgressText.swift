import MeshConfig
import MeshModel
import MeshPolicy
import Telemetry
import TerminalUI

/// What `meshctl policy explain` prints of a destination outside the mesh.
enum EgressText {
    static func explanation(_ answer: EgressExplanation, _ snapshot: Snapshot) -> String {
        var lines = [
            "from  \(answer.client.name)" + (answer.client.principal.map { ", \($0.uri)" } ?? ""),
            "to    \(answer.destination), port \(answer.port), outside the mesh",
        ]
        if answer.steps.isEmpty { lines.append("path  no EgressPolicy selects the workload") }
        for (index, step) in answer.steps.enumerated() {
            lines.append(
                "\(index == 0 ? "path" : "    ")  \(step.mode.text) \(step.policy) (\(step.scope.text)): "
                    + outcome(step, answer))
            for (number, miss) in step.misses.enumerated() { lines.append("        allow[\(number)]: \(miss)") }
        }
        if answer.rule == .names {
            lines.append("note  what goes to port \(answer.port) is DNS to the mesh: the proxy asks the resolver")
        }
        if !answer.namesThatMayStandForIt.isEmpty {
            let names = answer.namesThatMayStandForIt.joined(separator: ", ")
            lines.append("note  it is let out once the workload was told it for \(names)")
        }
        if !answer.isAllowed { lines += remedy(answer, snapshot) }
        return lines.map { TextTable.printable($0) }.joined(separator: "\n")
    }

    static func json(_ answer: EgressExplanation, _ snapshot: Snapshot) -> [UInt8] {
        var json = JSONWriter()
        json.object { json in
            json.member("from", answer.client.name)
            json.member("principal", answer.client.principal?.uri ?? "")
            json.member("to", answer.destination.description)
            json.member("port", answer.port)
            json.member("mode", answer.steps.first { $0.holds }?.mode.text ?? "")
            json.member("allowed", answer.isAllowed)
            json.member("reason", answer.reason.name)
            json.member("policy", answer.decidedBy.policy)
            json.member("rule", answer.decidedBy.rule)
            json.key("path")
            json.array(answer.steps) { json, step in
                json.object { json in
                    json.member("policy", step.policy.description)
                    json.member("mode", step.mode.text)
                    json.member("scope", step.scope.text)
                    json.member("holds", step.holds)
                    json.member("misses", step.misses.joined(separator: "\n"))
                }
            }
            json.member("names", answer.namesThatMayStandForIt.joined(separator: "\n"))
            json.member("remedy", answer.isAllowed ? "" : document(answer, snapshot) ?? "")
        }
        return json.bytes
    }

    // MARK: private

    private static func outcome(_ step: EgressExplanation.Step, _ answer: EgressExplanation) -> String {
        guard step.holds else { return "a more specific one holds" }
        switch answer.rule {
        case .entry(let number): return "allow[\(number)] lists it"
        case .noMatch: return "nothing lists it"
        case .mode(.allow): return "all may be called"
        case .mode: return "nothing may be called"
        case .names, .noPolicy: return "is not asked"
        }
    }

    private static func remedy(_ answer: EgressExplanation, _ snapshot: Snapshot) -> [String] {
        guard let document = document(answer, snapshot) else {
            return ["fix   no policy can allow it (\(answer.reason.name))"]
        }
        return ["fix   this would allow it:", "---"] + document.split(separator: "\n").map(String.init) + ["---"]
    }

    private static func document(_ answer: EgressExplanation, _ snapshot: Snapshot) -> String? {
        EgressRemedy(answer, snapshot).map { remedy in
            (remedy.replaces ? "# in place of the one that is there\n" : "") + PolicyYAML.text(remedy.policy)
        }
    }
}
