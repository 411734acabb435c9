import AdminAPI
import CMeshABI
import Glibc
import Interception
import LinuxIO
import MeshConfig
import MeshDiscovery
import MeshModel
import ProxyControl
import Telemetry

/// Answers the admin socket and the scrapers from what the daemon's parts know. Reads only.
final class DaemonFacts: AdminBackend {
    private unowned let daemon: Daemon
    private let startedNanoseconds = BootClock.nanoseconds()

    init(_ daemon: Daemon) { self.daemon = daemon }

    var node: String { daemon.file.configuration.node }
    var daemonSnapshot: Snapshot? { daemon.resources.snapshot }
    var tunnelList: [TunnelStatus] { daemon.flows.figures.tunnels }

    func unreachableReason(_ node: NodeID) -> String {
        daemon.interceptor.unreachableNodes[node].map { String(cString: strerror($0)) } ?? ""
    }

    private var kernelReasons: [UInt64] { (try? daemon.kernel.counters()) ?? [] }

    func readiness() -> (ready: Bool, reason: String) { (state.isReady, state.reason) }

    var state: NodeReadiness {
        let interceptor = daemon.interceptor
        return NodeReadiness(
            node: node, snapshot: daemonSnapshot, problem: daemon.resources.problem,
            isProxyConnected: interceptor.isProxyConnected, proxySnapshotVersion: interceptor.proxySnapshotVersion)
    }

    func metrics() -> [UInt8] {
        var metrics = NodeMetrics()
        let discovery = daemon.source.status
        let counters = daemon.flows.figures.sum
        metrics.version = Meshd.version
        metrics.node = node
        metrics.isReady = readiness().ready
        metrics.snapshotVersion = daemonSnapshot?.version ?? 0
        metrics.localWorkloads = UInt64(daemon.interceptor.runningInstances.count)
        metrics.resourceErrors = UInt64(discovery.problems.count { $0.severity == .error })
        metrics.resourceReadsFailed = discovery.failedReadings
        metrics.kernelReasons = kernelReasons
        let direct = daemon.interceptor.directPathFigures
        (metrics.directVerdicts, metrics.directMissed, metrics.directEvicted) =
            (direct.verdicts, direct.missed, direct.evicted)
        metrics.proxyReasons = daemon.flows.figures.reasons.totals
        metrics.proxyRecordsLost = counters.recordsLost
        metrics.logLinesSuppressed = daemon.log.suppressedTotal
        metrics.recordsNotWritten = daemon.flows.records.lost
        metrics.certificates = daemon.identity.rows.filter { $0.notAfter > 0 }
            .map { .init(principal: $0.principal, notAfter: $0.notAfter) }
        metrics.trustBundleNotAfter = daemon.identity.trustBundleNotAfter
        metrics.peers = daemon.flows.peers
        let learned = daemon.interceptor.learnedAddresses
        (metrics.learnedAddresses, metrics.displacedAddresses) = (UInt64(learned.count), learned.displaced)
        metrics.proxy.isRunning = daemon.interceptor.isProxyConnected
        metrics.proxy.isOverloaded = counters.isOverloaded
        metrics.proxy.restarts = UInt64(max(0, daemon.interceptor.proxyStarts - 1))
        metrics.proxy.connections = UInt64(counters.connections)
        metrics.proxy.connectionsTotal = counters.connectionsTotal
        metrics.proxy.tunnels = UInt64(counters.tunnels)
        metrics.proxy.tunnelsTotal = counters.tunnelsTotal
        metrics.proxy.handshakesTotal = counters.handshakesTotal
        metrics.proxy.memoryHeldBytes = counters.memoryHeld
        metrics.proxy.memoryBudgetBytes = counters.memoryBudget
        metrics.proxy.descriptors = UInt64(counters.descriptors)
        metrics.proxy.descriptorsMax = UInt64(counters.descriptorsMax)
        metrics.proxy.bytesToTunnels = counters.bytesToTunnels
        metrics.proxy.bytesFromTunnels = counters.bytesFromTunnels
        metrics.proxy.namesAnswered = counters.namesAnswered
        metrics.proxy.namesForwarded = counters.namesForwarded
        metrics.proxy.tunnelsUnderLossTotal = counters.tunnelsUnderLossTotal
        return MetricsPage.bytes(metrics, daemon.flows.table)
    }

    func status() -> NodeStatus {
        var status = NodeStatus()
        let discovery = daemon.source.status
        let state = readiness()
        status.node = node
        status.trustDomain = daemon.file.configuration.trustDomain
        status.version = Meshd.version
        status.pid = getpid()
        status.ready = state.ready
        status.readyReason = state.ready ? "" : state.reason
        status.uptimeSeconds = (BootClock.nanoseconds() - startedNanoseconds) / 1_000_000_000
        status.startedNanoseconds = startedNanoseconds
        status.executable = daemon.upgradeTarget.path
        status.isInstalled = daemon.upgradeTarget.isRunning
        status.proxiesDraining = daemon.interceptor.drainingProxies
        status.proxyReplacement = daemon.interceptor.replacementReason ?? ""
        status.snapshotVersion = daemonSnapshot?.version ?? 0
        status.resourceFiles = discovery.fileCount
        status.resourceErrors = discovery.problems.filter { $0.severity == .error }.map(\.description)
        status.kernelProgramsAttached = daemon.kernel.faults().isEmpty
        status.proxyPid = daemon.interceptor.proxyPID ?? 0
        status.proxyRestarts = UInt64(max(0, daemon.interceptor.proxyStarts - 1))
        status.proxySnapshotVersion = daemon.interceptor.proxySnapshotVersion
        let counters = daemon.flows.figures.sum
        status.proxyOverloaded = counters.isOverloaded
        status.workloads = daemonSnapshot?.allWorkloads.count ?? 0
        status.services = daemonSnapshot?.allServices.count ?? 0
        status.nodes = daemonSnapshot?.allNodes.count ?? 0
        status.tunnels = Int(counters.tunnels)
        status.connections = Int(counters.connections)
        status.lostEvents = lostEvents
        status.problems = problems
        return status
    }

    func flows(changedAfter change: UInt64, limit: Int) -> FlowPage {
        if change == 0 { daemon.flows.freshen() }
        let table = daemon.flows.table
        return table.page(
            changedAfter: change, limit: limit, now: BootClock.nanoseconds(), lost: lostEvents - table.lost)
    }

    func upgrade() -> String? { daemon.upgrade() }
    func certificates() -> [CertificateRow] { daemon.identity.rows }
    func snapshotBytes() -> [UInt8]? { daemon.resources.snapshot?.withBytes { Array($0) } }
    func records(limit: Int) -> [[UInt8]] { daemon.flows.records.newest(limit: limit) }
    func records(since: Int64) -> (records: [[UInt8]], more: Bool) { daemon.flows.records.since(since) }
    func checks() -> [CheckFact] { DaemonChecks.all(daemon, status()) }

    // MARK: private

    private var lostEvents: UInt64 {
        let number = Int(Reason.MESH_REASON_EVENT_LOST.rawValue)
        let counters = kernelReasons
        return (number < counters.count ? counters[number] : 0) + daemon.flows.table.lost
            + daemon.flows.figures.sum.recordsLost
    }

    private var problems: [String] {
        var problems = daemon.interceptor.currentProblems
        if let failure = daemon.flows.records.failure { problems.append("connection records are not kept: \(failure)") }
        if let problem = daemon.resources.problem { problems.append(problem) }
        problems += daemon.identity.problems
        problems += Self.unreachableNodes(daemon)
        return problems.sorted()
    }

    /// One sentence for each peer node that connects are refused to.
    static func unreachableNodes(_ daemon: Daemon) -> [String] {
        daemon.interceptor.unreachableNodes.map { id, code in
            let name = daemon.flows.snapshot?.node(id)?.name ?? "#\(id.rawValue)"
            return "node \(name) can't be reached: \(String(cString: strerror(code)))"
        }.sorted()
    }
}
