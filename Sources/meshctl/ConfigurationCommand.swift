import ArgumentParser
import Glibc
import LinuxIO
import MeshConfig
import MeshDiscovery
import TerminalUI

struct ConfigurationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Checks configuration and resource files.",
        subcommands: [ValidateConfigurationCommand.self])
}

/// The same code as meshd's reads the files, so that what passes here is taken there.
struct ValidateConfigurationCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "validate",
        abstract: "Checks meshd.yaml and the resources that it names, or a directory of resources.",
        discussion: "Shows every problem as file:line:column. Exit status 1 when there is an error.")

    @Argument(help: "A configuration file, or a directory of resource files.")
    var path = "/etc/culvert/meshd.yaml"

    @Option(name: .long, help: "A directory of resource files instead of the one that the configuration names.")
    var resources: String?

    @Option(name: .long, help: "The node that the resources are for; needed only with a directory.")
    var node: String?

    @Flag(name: .long, help: "Does not look at the resources.")
    var configurationOnly = false

    func run() throws {
        var problems = Diagnostics()
        var checked: [String] = []
        if Self.isDirectory(path) {
            checkResources(path, node: node ?? "", names: MeshNames(), &problems, &checked)
        } else if let configuration = readConfiguration(&problems) {
            checked.append(path)
            if !configurationOnly {
                checkResources(
                    resources ?? configuration.resourcesDirectory, node: node ?? configuration.node,
                    names: MeshNames(configuration), &problems, &checked)
            }
        }
        for problem in problems.list { Terminal.print("\(TextTable.printable(problem.description))\n") }
        if problems.suppressedCount > 0 { Terminal.print("and \(problems.suppressedCount) more\n") }
        guard !problems.hasErrors else {
            Terminal.complain(problems.errorCount == 1 ? "1 error" : "\(problems.errorCount) errors")
            throw ExitCode(1)
        }
        Terminal.print("ok \(checked.joined(separator: ", "))\n")
    }

    // MARK: private

    private static let fileBytesMax = 1 << 20

    private static func isDirectory(_ path: String) -> Bool {
        var facts = stat()
        return stat(path, &facts) == 0 && facts.st_mode & S_IFMT == S_IFDIR
    }

    private func readConfiguration(_ problems: inout Diagnostics) -> Configuration? {
        do throws(IOError) {
            let bytes = try TextFile.readBytes(path, limitBytes: Self.fileBytesMax)
            return Configuration(yaml: bytes, file: path, diagnostics: &problems)
        } catch {
            problems.error(SourcePosition(file: path), "the file can't be read: \(error)")
            return nil
        }
    }

    private func checkResources(
        _ directory: String, node: String, names: MeshNames, _ problems: inout Diagnostics,
        _ checked: inout [String]
    ) {
        let files = ResourceFiles.check(directory: directory, localNode: node, names: names)
        problems.add(files.diagnostics)
        checked.append("\(directory) (\(files.fileCount) files)")
    }
}
