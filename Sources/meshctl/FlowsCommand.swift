import AdminAPI
import ArgumentParser
import Glibc
import LinuxIO
import Telemetry
import TerminalUI

struct FlowsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flows", abstract: "Lists live flows and those that ended in the last 60 seconds.",
        discussion: """
            Words of --filter must all hold: text in any column, field=text, or either with ! before it. Flows that ended \
            longer ago are in the connection records on disk: --since reads as far back as they go.
            """)

    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var format: OutputOptions

    @Flag(name: .shortAndLong, help: "Goes on with every flow that opens or ends.")
    var follow = false

    @Option(name: .long, help: "Of the ended flows those of the last, for instance, 30s or 2h.")
    var since: String?

    @Option(name: .long, help: "Which flows, for instance: 'verdict=denied !nginx'.")
    var filter = ""

    @Option(name: .long, help: "Instead, so many of the newest connection records on disk, as JSON.")
    var records: Int?

    func validate() throws {
        if let records, records < 1 { throw ValidationError("--records takes at least 1") }
        if records != nil, follow || since != nil || !filter.isEmpty {
            throw ValidationError("--records goes with no other option")
        }
        if let since, Figures.milliseconds(of: since) == nil {
            throw ValidationError("--since takes a duration such as 30s or 5m, not '\(since)'")
        }
        if let problem = FlowFilter(filter).problem { throw ValidationError("--filter: \(problem)") }
    }

    func run() throws {
        let client = daemon.client
        if let records { return Terminal.print(try client.get("/v1/records?limit=\(records)")) }
        let window = since.flatMap { Figures.milliseconds(of: $0) }
        let filter = FlowFilter(filter)
        var table = FlowLines.table
        var next: UInt64 = 0
        var lost: UInt64 = 0
        var isFirst = true
        repeat {
            let past = isFirst ? try history(window) : FlowHistory()
            let page = try client.flows(changedAfter: next)
            let flows =
                past.flows(before: page.flows).filter(filter.admits)
                + page.flows.filter { filter.admits($0) && $0.endedMilliseconds <= window ?? .max }
            switch format.output {
            case .json: for flow in flows { Terminal.print(flow.jsonBytes + [0x0a]) }
            case .text: Terminal.print(table.text(flows.map(FlowLines.cells), hasTitles: isFirst))
            }
            if past.isCut { Terminal.complain("older connection records are too many to be read: flows are missing") }
            if page.lost != lost { Terminal.complain("\(page.lost) events were lost: some flows are not shown") }
            (next, lost, isFirst) = (page.next, page.lost, false)
            if follow { usleep(Self.pauseMicroseconds) }
        } while follow
    }

    // MARK: private

    private static let pauseMicroseconds: UInt32 = 250_000

    /// What ended within the window, as far as records tell; the newest of it may be in meshd's table too.
    private func history(_ window: UInt64?) throws -> FlowHistory {
        guard let window, window > FlowHistory.tableMilliseconds else { return FlowHistory() }
        let now = WallClock.milliseconds()
        let page = try daemon.client.records(since: max(0, now - Int64(clamping: window)))
        return FlowHistory(page, nowMilliseconds: now)
    }
}

/// A flow in one line.
enum FlowLines {
    static var table: TextTable {
        TextTable(
            [
                "STATE", "VERDICT", "SOURCE", "DESTINATION", "SERVICE", "ADDRESS", "SENT", "RECEIVED", "RTT", "RETR",
                "AGE", "ENDED", "PROCESS", "REASON",
            ], right: ["SENT", "RECEIVED", "RTT", "RETR", "AGE", "ENDED"])
    }

    static func cells(_ flow: FlowRow) -> [String] {
        let mark = flow.approximate ? "~" : ""
        return [
            flow.state.rawValue, flow.verdict.rawValue, first(flow.sourceWorkload, flow.sourcePrincipal, flow.source),
            first(flow.destinationWorkload, flow.destinationPrincipal, flow.originalDestination), flow.service,
            flow.originalDestination, mark + Figures.bytes(flow.bytesSent), mark + Figures.bytes(flow.bytesReceived),
            Figures.microseconds(flow.rttMicroseconds) + (flow.rttShared && flow.rttMicroseconds > 0 ? "*" : ""),
            "\(flow.retransmits)", Figures.duration(milliseconds: flow.ageMilliseconds),
            flow.state == .open ? "" : Figures.duration(milliseconds: flow.endedMilliseconds), process(flow),
            flow.why,
        ]
    }

    // MARK: private

    private static func first(_ texts: String...) -> String { texts.first { !$0.isEmpty } ?? "" }

    private static func process(_ flow: FlowRow) -> String {
        let ends = [(flow.command, flow.pid), (flow.destinationCommand, flow.destinationPid)]
        return ends.filter { $0.1 != 0 }.map { "\($0.0)[\($0.1)]" }.joined(separator: ">")
    }
}
