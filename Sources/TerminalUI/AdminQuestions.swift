// TerminalUI is how meshctl talks to a person: typed questions to meshd, tables, figures, filters, and `meshctl top`.
// It holds no state of the mesh beyond what it was last told. meshctl calls it; meshd never links it, since decoding
// JSON costs it FoundationEssentials.

package import AdminAPI
import FoundationEssentials
package import Telemetry

extension AdminClient {
    /// Asks and decodes.
    package func answer<Answer: Decodable>(
        _ path: String, as type: Answer.Type
    ) throws(AdminClientError) -> Answer {
        let body = try get(path)
        do {
            return try JSONDecoder().decode(Answer.self, from: Data(body))
        } catch {
            throw .notUnderstood(path: path, cause: "\(error)")
        }
    }

    package func status() throws(AdminClientError) -> NodeStatus { try answer("/v1/status", as: NodeStatus.self) }
    package func checks() throws(AdminClientError) -> [CheckFact] { try rows("check") }
    package func services() throws(AdminClientError) -> [ServiceRow] { try rows("services") }
    package func workloads() throws(AdminClientError) -> [WorkloadRow] { try rows("workloads") }
    package func nodes() throws(AdminClientError) -> [NodeRow] { try rows("nodes") }
    package func tunnels() throws(AdminClientError) -> [TunnelRow] { try rows("tunnels") }
    package func certificates() throws(AdminClientError) -> [CertificateRow] { try rows("certificates") }

    /// The connection records of what ended since then (milliseconds from 1970), newest first.
    package func records(since: Int64) throws(AdminClientError) -> RecordPage {
        try answer("/v1/history?since=\(since)", as: RecordPage.self)
    }

    /// All flows that changed after `change`, over as many pages as it takes.
    package func flows(changedAfter change: UInt64 = 0) throws(AdminClientError) -> FlowPage {
        var all = FlowPage(next: change)
        // Flows that change between two pages come again: the last word on each counts.
        var places: [UInt64: Int] = [:]
        for _ in 0..<Self.pagesMax {
            let page = try answer("/v1/flows?after=\(all.next)", as: FlowPage.self)
            for flow in page.flows {
                if let place = places[flow.id] {
                    all.flows[place] = flow
                } else {
                    places[flow.id] = all.flows.count
                    all.flows.append(flow)
                }
            }
            (all.next, all.lost) = (page.next, page.lost)
            if !page.more { break }
        }
        return all
    }

    // MARK: private

    private static var pagesMax: Int { 1_000 }

    private func rows<Row: Decodable & JSONWritable>(_ name: String) throws(AdminClientError) -> [Row] {
        try answer("/v1/\(name)", as: RowList<Row>.self).rows
    }
}
