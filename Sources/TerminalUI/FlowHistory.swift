package import Telemetry

/// Flows that ended longer ago than meshd's table keeps them, from the connection records.
package struct FlowHistory: Sendable {
    /// How long meshd's table keeps what has ended.
    package static let tableMilliseconds: UInt64 = 60_000

    private var flows: [FlowRow] = []
    /// There were more records than are read at once.
    package private(set) var isCut = false

    package init() {}

    /// Each with the time since its end as of now.
    package init(_ page: RecordPage, nowMilliseconds: Int64) {
        isCut = page.more
        flows = page.records.map { record in
            var flow = record.flow
            flow.endedMilliseconds = UInt64(max(0, nowMilliseconds - record.endedWallMilliseconds))
            return flow
        }
    }

    /// Oldest first, without those that are in the table's page too.
    package func flows(before page: [FlowRow]) -> [FlowRow] {
        guard !flows.isEmpty else { return [] }
        let known = Set(page.map(Name.init))
        return flows.reversed().filter { !known.contains(Name($0)) }
    }

    /// Numbers of flows begin anew with each meshd: the ends tell them apart.
    private struct Name: Hashable {
        let id: UInt64
        let source: String
        let destination: String

        init(_ flow: FlowRow) { (id, source, destination) = (flow.id, flow.source, flow.originalDestination) }
    }
}
