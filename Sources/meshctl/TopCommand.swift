import AdminAPI
import ArgumentParser
import Glibc
import LinuxIO
import TerminalUI

extension TopGrouping: ExpressibleByArgument {}
extension TopColumn: ExpressibleByArgument {
    init?(argument: String) {
        let wanted = argument.lowercased()
        guard
            let column = TopColumn.allCases.first(where: {
                [$0.title.lowercased(), $0.rawValue.lowercased(), TopReport.name(of: $0)].contains(wanted)
            })
        else { return nil }
        self = column
    }
}

struct TopCommand: ParsableCommand {
    enum Format: String, ExpressibleByArgument, CaseIterable {
        case table, json, csv
    }

    static let configuration = CommandConfiguration(
        commandName: "top", abstract: "Shows what passes, live.", discussion: "Press ? for the keys.")

    @OptionGroup var daemon: DaemonOptions

    @Flag(name: .long, help: "Prints one picture and ends; needs no terminal.")
    var once = false

    @Option(name: .shortAndLong, help: "With --once: table, json or csv.")
    var output: Format?

    @Option(name: .long, help: "flow, workload, service or node.")
    var group: TopGrouping = .flow

    @Option(name: .long, help: "The column to sort by, for instance rtt.")
    var sort: TopColumn = .sentRate

    @Option(name: .long, help: "Which flows: words as for `flows --filter`.")
    var filter = ""

    @Option(name: .long, help: "Between two samples, for instance 500ms.")
    var delay = "1s"

    @Option(name: .shortAndLong, help: "With --once: at most so many rows.")
    var number = Int.max

    func validate() throws {
        guard let delay = Figures.milliseconds(of: delay), (100...3_600_000).contains(delay) else {
            throw ValidationError("--delay takes a duration from 100ms to 1h, not '\(delay)'")
        }
        guard number > 0 else { throw ValidationError("--number takes at least 1") }
        if let problem = FlowFilter(filter).problem { throw ValidationError("--filter: \(problem)") }
        if output != nil, !once { throw ValidationError("--output goes with --once") }
        if !TopColumn.columns(group).contains(sort) {
            throw ValidationError("'\(sort.title)' is no column of --group \(group.rawValue)")
        }
    }

    func run() throws {
        var model = TopModel()
        model.group(by: group)
        model.sort = sort
        model.isAscending = sort.isText
        model.filterText = filter
        let milliseconds = Figures.milliseconds(of: delay) ?? 1_000
        guard !once else { return try printOnce(&model) }
        guard TopSession.isPossible else {
            Terminal.complain("meshctl: standard input and output are no terminal: use --once")
            throw ExitCode(2)
        }
        try TopSession(
            client: daemon.client, model: model, delayMilliseconds: milliseconds, hasColour: Self.hasColour
        ).run()
    }

    // MARK: private

    /// Between the two samples that rates need.
    private static let onceMicroseconds: UInt32 = 500_000

    /// https://no-color.org: any value that is not empty.
    private static var hasColour: Bool {
        let variable = getenv("NO_COLOR").map { String(cString: $0) } ?? ""
        return variable.isEmpty && getenv("TERM").map { String(cString: $0) } != "dumb"
    }

    private func printOnce(_ model: inout TopModel) throws {
        let client = daemon.client
        let node = try client.status().node
        model.take(try client.flows(), node: node, now: BootClock.nanoseconds())
        usleep(Self.onceMicroseconds)
        model.take(try client.flows(), node: node, now: BootClock.nanoseconds())
        switch output ?? .table {
        case .table: Terminal.print(TopReport.table(model, limit: number))
        case .json: Terminal.print(TopReport.json(model, limit: number))
        case .csv: Terminal.print(TopReport.csv(model, limit: number))
        }
    }
}
