// meshctl is the command line of an operator: it asks meshd over the admin socket and prints, checks files, and makes
// certificates. Each command is a file of its own; what is drawn is TerminalUI's, what is asked AdminAPI's. Of a node it
// changes the binary (`upgrade`) and nothing else. People and scripts call it: exit status 0 all is well, 1 something is
// not, 2 wrong usage.

import AdminAPI
import ArgumentParser
import Glibc
import Telemetry

@main
struct MeshctlCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "meshctl", abstract: "Looks at a node of the mesh.",
        discussion: "Asks the meshd of this node. `meshctl check` says what is wrong and what to do about it.",
        version: "meshctl \(ProductVersion.text)",
        subcommands: [
            StatusCommand.self, CheckCommand.self, TopCommand.self, FlowsCommand.self, ServicesCommand.self,
            WorkloadsCommand.self, NodesCommand.self, TunnelsCommand.self, CertificatesCommand.self,
            CertificateAuthorityCommand.self, ConfigurationCommand.self, PolicyCommand.self, UpgradeCommand.self,
            VersionCommand.self,
            CompletionCommand.self,
        ])

    @OptionGroup var daemon: DaemonOptions

    static func main() {
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            end(after: error)
        }
    }

    // MARK: private

    private static func end(after error: any Error) -> Never {
        if let error = error as? AdminClientError {
            Terminal.complain("meshctl: \(error)")
            Glibc.exit(1)
        }
        let code = exitCode(for: error)
        let message = fullMessage(for: error)
        if code.isSuccess {
            Terminal.print(message.isEmpty ? "" : message + "\n")
            Glibc.exit(0)
        }
        if !message.isEmpty { Terminal.complain(message) }
        Glibc.exit(code == .validationFailure ? 2 : code.rawValue)
    }
}

/// Which meshd to ask.
struct DaemonOptions: ParsableArguments {
    @Option(name: .long, help: "The admin socket of meshd (default: $MESHCTL_SOCKET, or /run/culvert/admin.sock).")
    var socket: String?

    var client: AdminClient {
        let environment = getenv("MESHCTL_SOCKET").map { String(cString: $0) } ?? ""
        return AdminClient(socket: socket ?? (environment.isEmpty ? AdminClient.defaultSocket : environment))
    }
}

/// For people or for programs.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json
}

struct OutputOptions: ParsableArguments {
    @Option(name: .shortAndLong, help: "text or json (one object per line).")
    var output: OutputFormat = .text
}
