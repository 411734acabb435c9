import AdminAPI
import ArgumentParser
import LinuxIO
import Telemetry
import TerminalUI

/// Prints `rows` as a table, or each as one JSON object.
private func show<Row: JSONWritable>(
    _ rows: [Row], _ format: OutputFormat, table: TextTable, cells: (Row) -> [String]
) {
    switch format {
    case .json: for row in rows { Terminal.print(row.jsonBytes + [0x0a]) }
    case .text:
        var table = table
        Terminal.print(table.text(rows.map(cells)))
    }
}

struct ServicesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "services", abstract: "Lists the services, their virtual addresses and endpoints.")

    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var format: OutputOptions

    func run() throws {
        show(
            try daemon.client.services(), format.output,
            table: TextTable(["SERVICE", "ADDRESSES", "PORTS (PORT>TARGET: ENDPOINTS)"])
        ) { row in
            [
                row.service, row.addresses.joined(separator: ","),
                row.ports.map { "\($0.port)>\($0.target): \($0.endpoints)" }.joined(separator: ", "),
            ]
        }
    }
}

struct WorkloadsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "workloads", abstract: "Lists the workloads: those of this node by running instance.")

    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var format: OutputOptions

    func run() throws {
        show(
            try daemon.client.workloads(), format.output,
            table: TextTable(["WORKLOAD", "NODE", "STATE", "ADDRESSES", "PORTS", "PRINCIPAL"])
        ) { row in
            [
                row.workload, row.node, row.running ? "running" : row.local ? "not running" : "elsewhere",
                row.addresses.joined(separator: ","), row.ports.map { "\($0)" }.joined(separator: ","), row.principal,
            ]
        }
    }
}

struct NodesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nodes", abstract: "Lists the nodes and whether they can be reached.")

    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var format: OutputOptions

    func run() throws {
        show(
            try daemon.client.nodes(), format.output,
            table: TextTable(["NODE", "STATE", "WORKLOADS", "TUNNELS", "ADDRESSES"], right: ["WORKLOADS", "TUNNELS"])
        ) { row in
            let state = row.unreachable.isEmpty ? row.local ? "this node" : "ok" : "unreachable: \(row.unreachable)"
            return [row.node, state, "\(row.workloads)", "\(row.tunnels)", row.addresses.joined(separator: ",")]
        }
    }
}

struct TunnelsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tunnels", abstract: "Lists the mutual-TLS tunnels to and from other nodes.")

    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var format: OutputOptions

    func run() throws {
        let titles = ["ID", "DIRECTION", "NODE", "PEER", "STREAMS", "SENT", "RECEIVED", "RTT", "RETR", "AGE"]
        show(
            try daemon.client.tunnels(), format.output,
            table: TextTable(
                titles + ["OWN PRINCIPAL", "PEER'S PRINCIPAL"],
                right: ["ID", "STREAMS", "SENT", "RECEIVED", "RTT", "RETR", "AGE"])
        ) { row in
            [
                "\(row.id)", row.direction, row.peerNode, row.peer, "\(row.streams)", Figures.bytes(row.bytesSent),
                Figures.bytes(row.bytesReceived), Figures.microseconds(row.rttMicroseconds), "\(row.retransmits)",
                Figures.duration(milliseconds: row.ageMilliseconds), row.localPrincipal, row.peerPrincipal,
            ]
        }
    }
}

struct CertificatesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "certs", abstract: "Lists this node's certificates and when they end.",
        discussion: "Exit status 1 when one is missing or has expired.")

    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var format: OutputOptions

    func run() throws {
        let rows = try daemon.client.certificates()
        let now = WallClock.seconds()
        show(
            rows, format.output,
            table: TextTable(["PRINCIPAL", "STATE", "LEFT", "UNTIL", "SERIAL", "PATH"], right: ["LEFT"])
        ) { row in
            let left = row.notAfter > now ? UInt64(row.notAfter - now) : 0
            return [
                row.principal, row.problem.isEmpty ? row.state.rawValue : "\(row.state.rawValue): \(row.problem)",
                row.notAfter == 0 ? "" : Figures.duration(milliseconds: left * 1_000),
                row.notAfter == 0 ? "" : UTCTime.text(seconds: row.notAfter), row.serial, row.path,
            ]
        }
        if rows.contains(where: { $0.state == .missing || $0.state == .expired }) { throw ExitCode(1) }
    }
}
