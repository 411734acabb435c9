// meshd is the executable of all three roles: they share one file so that an upgrade replaces all at once. `meshd`, which
// systemd or an operator starts, is the node's daemon: it composes the features and holds no mechanism of its own.
// `meshd proxy` is DataPlane, `meshd socket-maker` a part of Interception; meshd or a unit starts them. This file reads the
// command line and nothing else; it never speaks to a peer or an application.

import DataPlane
import Glibc
import Interception
import LinuxIO

@main
enum Meshd {
    static let version = "0.1.0"
    static let defaultConfiguration = "/etc/culvert/meshd.yaml"

    static func main() {
        signal(SIGPIPE, SIG_IGN)
        var arguments = CommandLine.arguments.dropFirst()
        switch arguments.first {
        case "proxy": exit(proxy(arguments.dropFirst()))
        case SocketMakerProcess.verb: exit(socketMaker())
        case "uninstall":
            arguments.removeFirst()
            exit(run(arguments) { Uninstaller.run($0) })
        case Upgrade.rehearsalVerb:
            arguments.removeFirst()
            // Reading the configuration was the rehearsal.
            exit(run(arguments) { _ in 0 })
        case "--version": print("meshd \(version)")
        case "-h", "--help": print(usage)
        default: exit(run(arguments) { Daemon.run($0) })
        }
    }

    private static let usage = """
        usage: meshd [--config FILE]             the node daemon (FILE: \(defaultConfiguration))
               meshd uninstall [--config FILE]   detaches and removes programs, pins and cgroups of a stopped meshd
               meshd rehearse [--config FILE]    exits with 0 if this binary can start with the configuration
               meshd proxy --control PATH        the unprivileged proxy; started by meshd or by its own unit
               meshd --version

        Exit codes: 0 ended as asked, 1 failed, 2 usage or configuration.
        """

    /// `--config FILE`, read and checked; every problem is printed.
    private static func run(_ arguments: ArraySlice<String>, _ body: (ConfigurationFile) -> Int32) -> Int32 {
        var path = defaultConfiguration
        var rest = arguments
        while let argument = rest.popFirst() {
            guard argument == "--config", let value = rest.popFirst() else {
                complain("unknown argument \(argument)\n\(usage)")
                return 2
            }
            path = value
        }
        guard let file = ConfigurationFile(path: path) else { return 2 }
        return body(file)
    }

    private static func proxy(_ arguments: ArraySlice<String>) -> Int32 {
        guard arguments.count == 2, arguments.first == "--control", let path = arguments.last else {
            complain(usage)
            return 2
        }
        return Proxy.run(controlPath: path)
    }

    /// Only meshd starts it, with the control socket as descriptor 3.
    private static func socketMaker() -> Int32 {
        do {
            let control = FileDescriptor(owning: SocketMakerProcess.controlDescriptor)
            try SocketMakerProcess.run(
                control: control, marksPurpose: !CommandLine.arguments.contains("--without-kernel-programs"))
            return 0
        } catch {
            complain("socket maker: \(error)")
            return 1
        }
    }

    static func complain(_ text: String) {
        let line = Array("\(text)\n".utf8)
        _ = write(STDERR_FILENO, line, line.count)
    }
}
