import AdminAPI
import ArgumentParser
import Telemetry
import TerminalUI

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Shows meshd, its proxy, and what is wrong with them.")

    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var format: OutputOptions

    func run() throws {
        let status = try daemon.client.status()
        switch format.output {
        case .json: Terminal.print(status.jsonBytes + [0x0a])
        case .text: Terminal.print(Self.text(status))
        }
    }

    static func text(_ status: NodeStatus) -> String {
        let facts: [(String, String)] = [
            ("node", status.node), ("trust domain", status.trustDomain),
            ("ready", status.ready ? "yes" : "no: \(status.readyReason)"),
            (
                "meshd",
                "\(status.version), pid \(status.pid), up "
                    + Figures.duration(milliseconds: status.uptimeSeconds * 1_000)
                    + (status.isInstalled ? "" : "; \(status.executable) is another: meshctl upgrade")
            ),
            ("kernel programs", status.kernelProgramsAttached ? "attached" : "NOT attached"),
            ("proxy", proxy(status)), ("snapshot", "version \(status.snapshotVersion)"),
            ("resources", resources(status)),
            ("mesh", "\(status.nodes) nodes, \(status.services) services, \(status.workloads) workloads"),
            ("traffic", "\(status.connections) connections, \(status.tunnels) tunnels"),
            ("lost events", "\(status.lostEvents)"),
        ]
        var text = facts.map { "\($0):\(String(repeating: " ", count: 17 - $0.count))\($1)\n" }.joined()
        for error in status.resourceErrors { text += "problem: \(TextTable.printable(error))\n" }
        for problem in status.problems { text += "problem: \(TextTable.printable(problem))\n" }
        return text
    }

    // MARK: private

    private static func proxy(_ status: NodeStatus) -> String {
        guard status.proxyPid != 0 else { return "NOT running" }
        var text = "pid \(status.proxyPid), snapshot version \(status.proxySnapshotVersion)"
        if status.proxyRestarts > 0 { text += ", restarted \(status.proxyRestarts) times" }
        if !status.proxiesDraining.isEmpty {
            let pids = status.proxiesDraining.map { "\($0)" }.joined(separator: ", ")
            text += "; replaced and finishing: \(pids)"
        }
        if !status.proxyReplacement.isEmpty { text += "; \(status.proxyReplacement)" }
        return text + (status.proxyOverloaded ? ", OVERLOADED" : "")
    }

    private static func resources(_ status: NodeStatus) -> String {
        let files = status.resourceFiles == 1 ? "1 file" : "\(status.resourceFiles) files"
        guard !status.resourceErrors.isEmpty else { return "\(files), in force" }
        return "\(files) with \(status.resourceErrors.count) errors: the last good state is in force"
    }
}

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Checks the node: each line passes or names the fix.",
        discussion: "Exit status 1 when a check fails; warnings do not fail.")

    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var format: OutputOptions

    func run() throws {
        let facts = Self.facts(daemon.client)
        for fact in facts {
            switch format.output {
            case .json: Terminal.print(fact.jsonBytes + [0x0a])
            case .text: Terminal.print(Self.text(fact))
            }
        }
        if facts.contains(where: { $0.outcome == .failed }) { throw ExitCode(1) }
    }

    // MARK: private

    private static func facts(_ client: AdminClient) -> [CheckFact] {
        let name = "meshd answers on \(client.socket)"
        do throws(AdminClientError) {
            return [CheckFact(name, .passed)] + (try client.checks())
        } catch {
            return [CheckFact(name, .failed, detail: "\(error)", fix: "see the line above; journalctl -u meshd")]
        }
    }

    private static func text(_ fact: CheckFact) -> String {
        let mark =
            switch fact.outcome {
            case .passed: "ok   "
            case .warning: "warn "
            case .failed: "FAIL "
            }
        var text = mark + TextTable.printable(fact.name)
        if !fact.detail.isEmpty { text += ": " + TextTable.printable(fact.detail) }
        if fact.outcome != .passed, !fact.fix.isEmpty { text += "\n     fix: " + TextTable.printable(fact.fix) }
        return text + "\n"
    }
}

struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "version", abstract: "Shows the versions of meshctl and, when it answers, of meshd.")

    @OptionGroup var daemon: DaemonOptions

    func run() {
        Terminal.print("meshctl \(ProductVersion.text)\n")
        if let status = try? daemon.client.status() { Terminal.print("meshd   \(status.version)\n") }
    }
}

struct CompletionCommand: ParsableCommand {
    enum Shell: String, ExpressibleByArgument, CaseIterable {
        case bash, zsh, fish
    }

    static let configuration = CommandConfiguration(
        commandName: "completion", abstract: "Prints a completion script for a shell.")

    @Argument(help: "bash, zsh or fish.")
    var shell: Shell

    func run() {
        let kind: CompletionShell =
            switch shell {
            case .bash: .bash
            case .zsh: .zsh
            case .fish: .fish
            }
        Terminal.print(MeshctlCommand.completionScript(for: kind) + "\n")
    }
}
