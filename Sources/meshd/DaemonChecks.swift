import AdminAPI
import Interception
import MeshConfig
import MeshDiscovery
import MeshModel

/// `meshctl check`: each line holds, or names what to do.
enum DaemonChecks {
    static func all(_ daemon: Daemon, _ status: NodeStatus) -> [CheckFact] {
        [
            kernelPrograms(daemon), resources(status), localNode(daemon),
            CheckFact(
                "the proxy is connected and has the snapshot", status.ready ? .passed : .failed,
                detail: status.readyReason,
                fix: status.ready ? "" : "see meshd's log; the proxy's user must be able to execute meshd"),
            certificates(daemon), reachable(daemon), workloads(daemon), names(daemon), losses(status),
            records(daemon),
        ]
    }

    // MARK: private

    private static func kernelPrograms(_ daemon: Daemon) -> CheckFact {
        let name = "the kernel programs are attached and pinned"
        let faults = daemon.kernel.faults()
        return CheckFact(
            name, faults.isEmpty ? .passed : .failed, detail: faults.first ?? daemon.file.pinDirectory,
            fix: faults.isEmpty ? "" : "restart meshd: it attaches and pins them again")
    }

    private static func resources(_ status: NodeStatus) -> CheckFact {
        let name = "the resource files are without errors"
        guard let first = status.resourceErrors.first else {
            return CheckFact(name, .passed, detail: "\(status.resourceFiles) files")
        }
        return CheckFact(name, .failed, detail: first, fix: "mend the file; until then the last good state is in force")
    }

    private static func localNode(_ daemon: Daemon) -> CheckFact {
        let node = daemon.file.configuration.node
        let isThere = daemon.source.status.resources.nodes.contains { $0.name == node }
        return CheckFact(
            "this node has a Node resource", isThere ? .passed : .failed, detail: node,
            fix: isThere ? "" : "add a Node resource named \(node) with its tunnel addresses")
    }

    private static func certificates(_ daemon: Daemon) -> CheckFact {
        let name = "every local workload has a valid certificate"
        let bad = daemon.identity.rows.filter { $0.state != .valid }
        guard let first = bad.first else { return CheckFact(name, .passed) }
        let detail = "\(first.principal): \(first.state.rawValue)\(first.problem.isEmpty ? "" : ", \(first.problem)")"
        return CheckFact(
            name, bad.allSatisfy { $0.state == .expiring } ? .warning : .failed, detail: detail,
            fix: "meshctl ca issue, into \(daemon.file.configuration.certificatesDirectory)")
    }

    private static func reachable(_ daemon: Daemon) -> CheckFact {
        let name = "no peer node is known to be unreachable"
        guard let problem = DaemonFacts.unreachableNodes(daemon).first else {
            return CheckFact(name, .passed)
        }
        return CheckFact(
            name, .warning, detail: problem, fix: "check that meshd runs there and that its tunnel port is open")
    }

    private static func workloads(_ daemon: Daemon) -> CheckFact {
        let name = "every running workload can be captured"
        let problems = daemon.interceptor.currentProblems
        guard let first = problems.first else {
            return CheckFact(name, .passed, detail: "\(daemon.interceptor.runningInstances.count) running")
        }
        return CheckFact(name, .failed, detail: first, fix: "see the workload's selector and cgroup")
    }

    /// Looked for now, in the processes' own files and sockets.
    private static func names(_ daemon: Daemon) -> CheckFact {
        let name = "workloads ask for names by plain DNS"
        let found = daemon.interceptor.namesAskedElsewhere()
        guard let first = found.first else { return CheckFact(name, .passed) }
        let more = found.count > 1 ? ", and \(found.count - 1) more" : ""
        return CheckFact(
            name, .warning, detail: "\(first.workload) resolves through \(first.finding)\(more)", fix: first.finding.fix
        )
    }

    private static func losses(_ status: NodeStatus) -> CheckFact {
        CheckFact(
            "no event was lost", status.lostEvents == 0 ? .passed : .warning, detail: "\(status.lostEvents) lost",
            fix: status.lostEvents == 0 ? "" : "flows and metrics miss that many; see meshd_events_lost_total")
    }

    private static func records(_ daemon: Daemon) -> CheckFact {
        let name = "connection records are kept"
        guard let failure = daemon.flows.records.failure else { return CheckFact(name, .passed) }
        return CheckFact(
            name, .warning, detail: "\(failure), \(daemon.flows.records.lost) lost",
            fix: "make room in \(daemon.file.configuration.stateDirectory), or set a smaller records.size")
    }
}
