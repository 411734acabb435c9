package import Telemetry

/// Which flows to show, as a person types it: words separated by spaces, all of which must hold. `word` is found in
/// any text of the flow, `field=text` in that field (by the names of `-o json`), and `!` before either denies it.
package struct FlowFilter: Equatable, Sendable {
    private struct Term: Equatable, Sendable {
        var isDenied: Bool
        var field: String?
        var text: String
    }

    private var terms: [Term]

    package static let all = FlowFilter("")

    package init(_ text: String) {
        terms = text.split(separator: " ").compactMap { word in
            let isDenied = word.hasPrefix("!")
            let body = isDenied ? word.dropFirst() : word
            guard !body.isEmpty else { return nil }
            let parts = body.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty else {
                return Term(isDenied: isDenied, field: nil, text: body.lowercased())
            }
            return Term(isDenied: isDenied, field: parts[0].lowercased(), text: parts[1].lowercased())
        }
    }

    package var isEmpty: Bool { terms.isEmpty }

    /// What can stand before `=`.
    package static let fields = texts(of: FlowRow()).reduce(into: [String]()) { names, field in
        if !names.contains(field.0) { names.append(field.0) }
    }

    /// What is wrong with it; nil: nothing. A word with a field that does not exist would admit no flow at all.
    package var problem: String? {
        let unknown = terms.compactMap(\.field).first { !Self.fields.contains($0) }
        return unknown.map { "no field is called '\($0)'; the fields are \(Self.fields.joined(separator: ", "))" }
    }

    package func admits(_ flow: FlowRow) -> Bool {
        terms.allSatisfy { term in
            let holds = Self.texts(of: flow).contains { name, value in
                (term.field == nil || term.field == name) && value.lowercased().contains(term.text)
            }
            return holds != term.isDenied
        }
    }

    // MARK: private

    private static func texts(of flow: FlowRow) -> [(String, String)] {
        [
            ("node", flow.node), ("direction", flow.direction), ("state", flow.state.rawValue),
            ("verdict", flow.verdict.rawValue), ("reason", flow.reason), ("policy", flow.policy),
            ("source_principal", flow.sourcePrincipal),
            ("destination_principal", flow.destinationPrincipal), ("source_workload", flow.sourceWorkload),
            ("destination_workload", flow.destinationWorkload), ("source", flow.source),
            ("original_destination", flow.originalDestination), ("service", flow.service),
            // As the columns are titled.
            ("source", flow.sourceWorkload), ("destination", flow.destinationWorkload),
            ("peer_node", flow.peerNode), ("command", flow.command), ("destination_command", flow.destinationCommand),
            ("pid", "\(flow.pid)"), ("tunnel", "\(flow.tunnel)"),
        ]
    }
}
