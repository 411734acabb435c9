import CMeshABI
import MeshModel

/// The figures of a node that are not flows; meshd fills them in when it is scraped.
package struct NodeMetrics: Sendable {
    /// Of the proxy: sums since it started, and gauges as of its last report.
    package struct Proxy: Sendable {
        package var isRunning = false
        package var isOverloaded = false
        package var restarts: UInt64 = 0
        package var connections: UInt64 = 0
        package var connectionsTotal: UInt64 = 0
        package var tunnels: UInt64 = 0
        package var tunnelsTotal: UInt64 = 0
        package var handshakesTotal: UInt64 = 0
        package var memoryHeldBytes: UInt64 = 0
        package var memoryBudgetBytes: UInt64 = 0
        package var descriptors: UInt64 = 0
        package var descriptorsMax: UInt64 = 0
        package var bytesToTunnels: UInt64 = 0
        package var bytesFromTunnels: UInt64 = 0
        package var namesAnswered: UInt64 = 0
        package var namesForwarded: UInt64 = 0
        package var tunnelsUnderLossTotal: UInt64 = 0
        package init() {}
    }

    package struct Certificate: Sendable {
        package var principal: String
        /// Seconds since 1970.
        package var notAfter: Int64
        package init(principal: String, notAfter: Int64) {
            self.principal = principal
            self.notAfter = notAfter
        }
    }

    package var version = ""
    package var node = ""
    package var isReady = false
    package var snapshotVersion: UInt64 = 0
    package var localWorkloads: UInt64 = 0
    /// In the resource files as they are now; above 0 the last good state is in force.
    package var resourceErrors: UInt64 = 0
    package var resourceReadsFailed: UInt64 = 0
    /// By reason's number: the kernel side's per-processor sums.
    package var kernelReasons: [UInt64] = []
    /// By reason's number, over all proxies since meshd started.
    package var proxyReasons: [UInt16: UInt64] = [:]
    package var proxyRecordsLost: UInt64 = 0
    package var logLinesSuppressed: UInt64 = 0
    /// Connection records that the disk did not take.
    package var recordsNotWritten: UInt64 = 0
    /// Addresses, ports counted apart, that workloads may call by a name of their EgressPolicy; and how many were pushed
    /// out of that list.
    package var learnedAddresses: UInt64 = 0
    package var displacedAddresses: UInt64 = 0
    package var certificates: [Certificate] = []
    package var trustBundleNotAfter: Int64?
    package var proxy = Proxy()
    package var peers = PeerLegs()
    /// Of the direct path, since meshd started; verdicts as of now.
    package var directVerdicts: UInt64 = 0
    package var directMissed: UInt64 = 0
    package var directEvicted: UInt64 = 0

    package init() {}
}

/// The whole of `/metrics`.
package enum MetricsPage {
    package static func bytes(_ node: NodeMetrics, _ flows: FlowTable) -> [UInt8] {
        var text = PrometheusText()
        writeNode(node, to: &text)
        writeReasons(node, to: &text)
        flows.policies.write(to: &text)
        writeLosses(node, flows, to: &text)
        writeCertificates(node, to: &text)
        writeProxy(node.proxy, to: &text)
        writeDirect(node, to: &text)
        node.peers.write(to: &text)
        flows.connect.write(
            "meshd_connect_seconds", help: "From the accepted connection to the peer's answer.", to: &text)
        flows.firstByte.write(
            "meshd_first_byte_seconds", help: "From the accepted connection to the first byte back.", to: &text)
        flows.series.write(to: &text)
        return text.bytes
    }

    // MARK: private

    private static func writeNode(_ node: NodeMetrics, to text: inout PrometheusText) {
        text.family("meshd_build_info", .gauge, "Version of meshd; the value is 1.")
        text.sample("meshd_build_info", [("version", node.version), ("node", node.node)], 1)
        text.family("istio_build", .gauge, "Build information by which dashboards find L4 proxies.")
        text.sample("istio_build", [("component", "ztunnel"), ("tag", node.version)], 1)
        text.single("meshd_workloads", .gauge, "Workloads of this node in the mesh.", node.localWorkloads)
        text.single("meshd_ready", .gauge, "1 when the node takes connections into the mesh.", node.isReady ? 1 : 0)
        text.single("meshd_snapshot_version", .gauge, "Version of the snapshot in force.", node.snapshotVersion)
        text.single(
            "meshd_resource_errors", .gauge, "Errors in the resource files; the last good state is in force.",
            node.resourceErrors)
        text.single(
            "meshd_resource_reads_failed_total", .counter, "Readings of the resource files that found errors.",
            node.resourceReadsFailed)
        text.single(
            "meshd_egress_learned_addresses", .gauge,
            "Addresses and ports that names of egress policies stand for, as answered to workloads.",
            node.learnedAddresses)
        text.single(
            "meshd_egress_displaced_addresses_total", .counter,
            "Of those, which newer ones pushed out before their end: a workload may have 1,024.",
            node.displacedAddresses)
    }

    private static func writeDirect(_ node: NodeMetrics, to text: inout PrometheusText) {
        text.single(
            "meshd_direct_verdicts", .gauge, "What workloads may reach on this node without the proxy.",
            node.directVerdicts)
        text.single(
            "meshd_direct_missed_total", .counter,
            "Connections within the node that could go direct and found no verdict: the proxy carried them.",
            node.directMissed)
        text.single(
            "meshd_direct_evicted_total", .counter, "Verdicts that had to make room for others.", node.directEvicted)
    }

    private static func writeReasons(_ node: NodeMetrics, to text: inout PrometheusText) {
        let name = "meshd_refusals_total"
        text.family(name, .counter, "What was refused, reset or cut short, by reason and by who decided it.")
        for reason in Reason.all where reason != .MESH_REASON_NONE && reason != .MESH_REASON_EVENT_LOST {
            let number = Int(reason.rawValue)
            let kernel = number < node.kernelReasons.count ? node.kernelReasons[number] : 0
            let proxy = node.proxyReasons[UInt16(truncatingIfNeeded: number)] ?? 0
            // Every reason is there from the start, so that a first increase can be seen.
            if kernel > 0 || reason.isKernelSide {
                text.sample(name, [("reason", reason.name), ("by", "kernel")], kernel)
            }
            if proxy > 0 || !reason.isKernelSide {
                text.sample(name, [("reason", reason.name), ("by", "proxy")], proxy)
            }
        }
    }

    private static func writeLosses(_ node: NodeMetrics, _ flows: FlowTable, to text: inout PrometheusText) {
        let lostNumber = Int(Reason.MESH_REASON_EVENT_LOST.rawValue)
        text.family("meshd_events_lost_total", .counter, "What flows and metrics do not know of, by where it was lost.")
        let losses: [(String, UInt64)] = [
            ("kernel_ring", lostNumber < node.kernelReasons.count ? node.kernelReasons[lostNumber] : 0),
            ("proxy_queue", node.proxyRecordsLost), ("flow_table", flows.lost), ("series", flows.seriesDropped),
            ("log", node.logLinesSuppressed), ("records", flows.unsettled + node.recordsNotWritten),
        ]
        for (place, count) in losses { text.sample("meshd_events_lost_total", [("at", place)], count) }
        text.single("meshd_flows", .gauge, "Flows in the table, ended ones included.", UInt64(flows.count))
        text.single("meshd_series", .gauge, "Label sets of Istio's TCP metrics.", UInt64(flows.seriesCount))
    }

    private static func writeCertificates(_ node: NodeMetrics, to text: inout PrometheusText) {
        let name = "meshd_certificate_expiry_timestamp_seconds"
        text.family(name, .gauge, "When each certificate of this node ends, in seconds since 1970.")
        for certificate in node.certificates {
            text.sample(name, [("principal", certificate.principal)], UInt64(clamping: certificate.notAfter))
        }
        guard let notAfter = node.trustBundleNotAfter else { return }
        text.single(
            "meshd_trust_bundle_expiry_timestamp_seconds", .gauge,
            "When the first authority of the trust bundle ends, in seconds since 1970.", UInt64(clamping: notAfter))
    }

    private static func writeProxy(_ proxy: NodeMetrics.Proxy, to text: inout PrometheusText) {
        let figures: [(String, PrometheusText.Kind, String, UInt64)] = [
            ("up", .gauge, "1 while the proxy is there.", proxy.isRunning ? 1 : 0),
            ("overloaded", .gauge, "1 while it takes no new connections.", proxy.isOverloaded ? 1 : 0),
            ("restarts_total", .counter, "Proxies started after the first.", proxy.restarts),
            ("connections", .gauge, "Connections it holds.", proxy.connections),
            ("connections_total", .counter, "Connections it took.", proxy.connectionsTotal),
            ("tunnels", .gauge, "Tunnels it holds.", proxy.tunnels),
            ("tunnels_total", .counter, "Tunnels it opened or accepted.", proxy.tunnelsTotal),
            (
                "tunnels_under_loss_total", .counter, "Tunnels it added because loss bounded what the others carried.",
                proxy.tunnelsUnderLossTotal
            ),
            ("handshakes_total", .counter, "TLS handshakes it finished.", proxy.handshakesTotal),
            ("memory_held_bytes", .gauge, "Bytes it holds for streams and tunnels.", proxy.memoryHeldBytes),
            ("memory_budget_bytes", .gauge, "The most it may hold.", proxy.memoryBudgetBytes),
            ("descriptors", .gauge, "Descriptors it holds.", proxy.descriptors),
            ("descriptors_limit", .gauge, "The most it may hold.", proxy.descriptorsMax),
            ("tunnel_sent_bytes_total", .counter, "Bytes it wrote to tunnels.", proxy.bytesToTunnels),
            ("tunnel_received_bytes_total", .counter, "Bytes it read from tunnels.", proxy.bytesFromTunnels),
            ("names_answered_total", .counter, "DNS queries it answered for the mesh.", proxy.namesAnswered),
            ("names_forwarded_total", .counter, "DNS queries it sent on to resolvers.", proxy.namesForwarded),
        ]
        for (name, kind, help, value) in figures { text.single("meshd_proxy_" + name, kind, help, value) }
    }
}

extension Reason {
    /// Decided by the programs in the kernel; the others are the proxy's.
    fileprivate var isKernelSide: Bool {
        switch self {
        case .MESH_REASON_NAMES_RESOLVERS_LIMIT, .MESH_REASON_NAMES_QUESTION_UNKNOWN,
            .MESH_REASON_DATAGRAM_NOT_CARRIED, .MESH_REASON_DATAGRAM_TO_STRICT,
            .MESH_REASON_DATAGRAM_FLOWS_FULL:
            true
        default: rawValue < Reason.MESH_REASON_NO_CLIENT_CERTIFICATE.rawValue
        }
    }
}

/// Sums over processes that report them, each beginning at 0: they go on when one ends.
package struct ContinuedSums: Equatable, Sendable {
    /// By key, over all processes.
    package private(set) var totals: [UInt16: UInt64] = [:]
    private var latest: [Int32: [UInt16: UInt64]] = [:]

    package init() {}

    package mutating func report(_ sums: [UInt16: UInt64], of process: Int32 = 0) {
        for (key, sum) in sums {
            let before = latest[process]?[key] ?? 0
            totals[key, default: 0] &+= sum >= before ? sum - before : sum
            latest[process, default: [:]][key] = sum
        }
    }

    /// The next report of a process with this id is a new one's.
    package mutating func end(_ process: Int32 = 0) { latest[process] = nil }
}
