import AdminAPI
import ArgumentParser
import LinuxIO
import MeshDiscovery
import MeshModel
import MeshPolicy
import TerminalUI

/// Connections of the past, judged by policies that are not in force.
struct SimulatePolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Judges the recorded connections by the policies of a directory, and lists what would change.",
        discussion: """
            The records are those of the running meshd, or of --records. Where the directory holds no workloads, those \
            of the running meshd are taken. Connections to outside the mesh are judged by EgressPolicies; where the \
            candidate lists names, those that it lists by no address are left out, as records have no names. Exit \
            status 1 when something would change.
            """)

    @Option(name: .long, help: "A file of connection records (records.jsonl) instead of meshd's own.")
    var records: String?

    @OptionGroup var source: PolicySource
    @OptionGroup var daemon: DaemonOptions

    func validate() throws {
        if source.resources == nil { throw ValidationError("--resources names the policies to try") }
    }

    func run() throws {
        let (recorded, unreadable) = RecordedConnection.read(try recordBytes())
        let candidate = try candidate()
        var simulation = PolicySimulation(candidate)
        var egress = EgressSimulation(candidate)
        for record in recorded {
            if let wasLetOut = record.wasLetOut, let caller = record.caller, let destination = record.destination {
                egress.replay(
                    EgressSimulation.Connection(workload: caller, destination: destination, wasAllowed: wasLetOut))
                continue
            }
            guard let wasAllowed = record.wasAllowed, let workload = record.workload, let port = record.port else {
                continue
            }
            let target = simulation.targetPort(service: record.service, port: port) ?? port
            simulation.replay(
                PolicySimulation.Connection(
                    principal: record.sourcePrincipal, source: record.sourceAddress, workload: workload, port: target,
                    wasAllowed: wasAllowed))
        }
        let lines =
            simulation.changes.map { "\(Self.line($0.key)) (\($0.value))" }
            + egress.changes.map { "\(Self.line($0.key)) (\($0.value))" }
        for line in lines.sorted() { Terminal.print(TextTable.printable(line) + "\n") }
        let changed = simulation.changes.values.reduce(0, +) + egress.changes.values.reduce(0, +)
        var summary = "\(simulation.replayed + egress.replayed) connections replayed, \(changed) would change"
        let skipped = simulation.skipped + egress.skipped
        if skipped > 0 { summary += ", \(skipped) of workloads that are gone left out" }
        if egress.unclear > 0 { summary += ", \(egress.unclear) that may depend on listed names left out" }
        if unreadable > 0 { summary += ", \(unreadable) records not understood" }
        Terminal.print(summary + "\n")
        if changed > 0 { throw ExitCode(1) }
    }

    // MARK: private

    private static let fileBytesMax = 1 << 30

    private func recordBytes() throws -> [UInt8] {
        guard let records else { return try daemon.client.get("/v1/records?limit=\(AdminServer.recordsMax)") }
        return try TextFile.readBytes(records, limitBytes: Self.fileBytesMax)
    }

    private func candidate() throws -> Snapshot {
        let running = try? PolicySource.running(daemon.client)
        let names: MeshNames
        if let running, source.trustDomain == nil {
            names = MeshNames(
                trustDomain: running.trustDomain, rootNamespace: source.rootNamespace ?? running.rootNamespace)
        } else {
            names = try source.names()
        }
        var resources = try PolicySource.read(source.resources ?? "", names)
        if resources.workloads.isEmpty {
            guard let running else {
                throw ValidationError("the directory holds no workloads, and no meshd answers that could name them")
            }
            let inForce = ResourceSet(of: running)
            (resources.nodes, resources.workloads, resources.services) = (
                inForce.nodes, inForce.workloads, inForce.services
            )
        }
        return try PolicySource.build(resources, names)
    }

    private static func line(_ change: EgressSimulation.Change) -> String {
        let connection = change.connection
        return "\(connection.workload) to \(connection.destination) outside the mesh: "
            + "\(connection.wasAllowed ? "allowed" : "denied"), would be "
            + "\(change.isAllowed ? "allowed" : "denied") by \(change.decidedBy)"
    }

    private static func line(_ change: PolicySimulation.Change) -> String {
        let connection = change.connection
        let client = connection.principal.isEmpty ? "nobody at \(connection.source)" : connection.principal
        let before = connection.wasAllowed ? "allowed" : "denied"
        return "\(client) to \(connection.workload):\(connection.port): \(before), would be "
            + "\(change.isAllowed ? "allowed" : "denied") by \(change.decidedBy)"
    }
}
