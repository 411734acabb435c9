import ArgumentParser
import Telemetry
import TerminalUI

struct TopCommand: ParsableCommand {
    enum Format: String, ExpressibleByArgument, CaseIterable {
        case table, json, csv
    }

    static let configuration = CommandConfiguration(commandName: "top", abstract: "Shows what passes, live.")

    @OptionGroup var daemon: DaemonOptions

    @Flag(name: .long, help: "Prints one picture and ends; needs no terminal.")
    var once = false

    @Option(name: .shortAndLong, help: "With --once: table, json or csv.")
    var output: Format = .table

    func run() throws {
        let flows = try daemon.client.flows().flows
        var table = FlowLines.table
        Terminal.print(table.text(flows.map(FlowLines.cells)))
    }
}
