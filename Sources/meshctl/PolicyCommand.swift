import AdminAPI
import ArgumentParser
import Glibc
import LinuxIO
import MeshConfig
import MeshDiscovery
import MeshModel
import MeshPolicy
import TerminalUI

struct PolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "Says who may talk to whom, and why.",
        subcommands: [
            ExplainPolicyCommand.self, TestPolicyCommand.self, SimulatePolicyCommand.self, ListPoliciesCommand.self,
        ])
}

/// Where the policies come from: the running meshd, or files.
struct PolicySource: ParsableArguments {
    @Option(name: .long, help: "A directory of resources in place of what the running meshd has in force.")
    var resources: String?

    @Option(name: .long, help: "meshd.yaml that names the trust domain and the root namespace of --resources.")
    var config = "/etc/culvert/meshd.yaml"

    @Option(name: .long, help: "Trust domain of --resources, instead of the one in meshd.yaml.")
    var trustDomain: String?

    @Option(name: .long, help: "Root namespace of --resources, instead of the one in meshd.yaml.")
    var rootNamespace: String?

    func snapshot(_ client: AdminClient) throws -> Snapshot {
        guard let resources else { return try Self.running(client) }
        let names = try names()
        return try Self.build(try Self.read(resources, names), names)
    }

    /// What the running meshd has in force, as its proxy sees it.
    static func running(_ client: AdminClient) throws -> Snapshot {
        do {
            return try Snapshot(bytes: try client.get("/v1/snapshot"))
        } catch let error as SnapshotError {
            throw AdminClientError.notUnderstood(path: "/v1/snapshot", cause: "\(error)")
        }
    }

    func names() throws -> MeshNames {
        var problems = Diagnostics()
        let bytes = try? TextFile.readBytes(config, limitBytes: 1 << 20)
        let configuration = bytes.flatMap { Configuration(yaml: $0, file: config, diagnostics: &problems) }
        guard let trustDomain = trustDomain ?? configuration?.trustDomain else {
            throw ValidationError("no trust domain: \(config) does not say it; give --trust-domain")
        }
        return MeshNames(
            trustDomain: trustDomain,
            rootNamespace: rootNamespace ?? configuration?.rootNamespace ?? PolicyResourceDefaults.rootNamespace)
    }

    /// Errors are shown and end the command.
    static func read(_ directory: String, _ names: MeshNames) throws -> ResourceSet {
        let files = ResourceFiles.check(directory: directory, localNode: "", names: names)
        guard let resources = files.resources else {
            for problem in files.diagnostics.list where problem.severity == .error {
                Terminal.complain(TextTable.printable(problem.description))
            }
            throw ExitCode(1)
        }
        return resources
    }

    static func build(_ resources: ResourceSet, _ names: MeshNames) throws -> Snapshot {
        var builder = SnapshotBuilder(
            localNode: resources.nodes.first?.name ?? "none", trustDomain: names.trustDomain ?? "",
            rootNamespace: names.rootNamespace)
        return try builder.build(resources)
    }
}

extension PolicyQuestion {
    /// A name that is unknown is wrong usage.
    func answersOrUsage(_ snapshot: Snapshot) throws -> [PolicyAnswer] {
        let answers: [PolicyAnswer]
        do throws(UnknownName) {
            answers = try allAnswers(snapshot)
        } catch {
            throw ValidationError(error.message)
        }
        if answers.isEmpty { throw ValidationError("service `\(to)` has no endpoint at port \(port)") }
        return answers
    }
}

extension UnknownName {
    var message: String { "no \(kind) is named `\(text)`" + Suggestion.clause(for: text, among: known) }
}

struct ExplainPolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain", abstract: "Shows how a connection would be judged, and by what.",
        discussion: """
            The last line is `allowed by …` or `denied by …`. When denied, the smallest rule that would allow it comes \
            before. Exit status 0 when allowed, 1 when denied. A destination outside the mesh is judged by the \
            EgressPolicy of the workload that calls.
            """)

    @Option(name: .long, help: "A workload, a principal, an address, or `nobody` for a client outside the mesh.")
    var from: String

    @Option(name: .long, help: "A service or a workload; an address or a DNS name outside the mesh.")
    var to: String

    @Option(name: .long, help: "Port of the service, of the workload, or of the destination.")
    var port: UInt16

    @OptionGroup var source: PolicySource
    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var format: OutputOptions

    func run() throws {
        let snapshot = try source.snapshot(daemon.client)
        let answers = try PolicyQuestion(from: from, to: to, port: port).answersOrUsage(snapshot)
        switch format.output {
        case .json:
            for answer in answers { Terminal.print(PolicyText.json(answer, snapshot) + [0x0a]) }
        case .text:
            for answer in answers { Terminal.print(PolicyText.explanation(answer, snapshot) + "\n") }
            let last = answers.first { !$0.isAllowed } ?? answers[0]
            Terminal.print(PolicyText.verdict(last) + "\n")
        }
        if answers.contains(where: { !$0.isAllowed }) { throw ExitCode(1) }
    }
}

struct TestPolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test", abstract: "Holds a table of expectations against the policies.",
        discussion: "Exit status 1 when one is not met.")

    @Argument(help: "A YAML file: kind PolicyTest, and a list of expectations.")
    var file: String

    @OptionGroup var source: PolicySource
    @OptionGroup var daemon: DaemonOptions

    func run() throws {
        var problems = Diagnostics()
        let expectations = PolicyExpectations.read(
            yaml: try TextFile.readBytes(file, limitBytes: 16 << 20), file: file, diagnostics: &problems)
        guard !problems.hasErrors else {
            for problem in problems.list { Terminal.complain(TextTable.printable(problem.description)) }
            throw ExitCode(2)
        }
        let snapshot = try source.snapshot(daemon.client)
        var failed = 0
        for expectation in expectations {
            guard let difference = difference(expectation, snapshot) else { continue }
            failed += 1
            Terminal.print(TextTable.printable("\(expectation.position): \(difference)") + "\n")
        }
        Terminal.print("\(expectations.count - failed) met, \(failed) not met\n")
        if failed > 0 { throw ExitCode(1) }
    }

    // MARK: private

    /// Nil where it is met: by every connection that the names stand for.
    private func difference(_ expectation: PolicyExpectation, _ snapshot: Snapshot) -> String? {
        let question = PolicyQuestion(from: expectation.from, to: expectation.to, port: expectation.port)
        let what = "\(expectation.from) to \(expectation.to):\(expectation.port)"
        let answers: [PolicyAnswer]
        do throws(UnknownName) {
            answers = try question.allAnswers(snapshot)
        } catch {
            return "\(what): \(error.message)"
        }
        guard !answers.isEmpty else { return "\(what): there is no endpoint" }
        let expected = expectation.isAllowed ? "allowed" : "denied"
        let by = expectation.policy.map { " by \($0)" } ?? ""
        let unmet = answers.first {
            $0.isAllowed != expectation.isAllowed
                || (expectation.policy != nil && expectation.policy != $0.decidedBy.policy)
        }
        return unmet.map { "\(what): expected \(expected)\(by), is \(PolicyText.verdict($0))" }
    }
}

struct ListPoliciesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the policies, and how many workloads each selects.")

    @OptionGroup var source: PolicySource
    @OptionGroup var daemon: DaemonOptions

    func run() throws {
        let snapshot = try source.snapshot(daemon.client)
        var table = TextTable(["KIND", "POLICY", "SCOPE", "DOES", "WORKLOADS"], right: ["WORKLOADS"])
        let workloads = ResourceSet(of: snapshot).workloads
        let root = snapshot.rootNamespace
        var rows: [[String]] = []
        func add<Policy: PolicyResource>(_ kind: String, _ policy: Policy, _ does: String) {
            let count = workloads.count { policy.selects($0, rootNamespace: root) }
            rows.append([kind, policy.key.description, policy.scope(rootNamespace: root).text, does, "\(count)"])
        }
        for policy in snapshot.authorizationPolicies {
            let rules = policy.rules.count == 1 ? "1 rule" : "\(policy.rules.count) rules"
            add(
                "AuthorizationPolicy", policy,
                "\(policy.action.text), \(rules)\(policy.isDryRun ? ", dry run" : "")")
        }
        for policy in snapshot.peerAuthentications {
            add("PeerAuthentication", policy, policy.mode.mode?.text ?? "UNSET")
        }
        for policy in snapshot.egressPolicies { add("EgressPolicy", policy, policy.mode.text) }
        Terminal.print(table.text(rows))
    }
}
