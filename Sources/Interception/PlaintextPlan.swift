import CMeshABI
import MeshModel
import MeshPolicy

/// What the kernel side should do with plain text that comes to this node's workloads: pure, from the snapshot. What is
/// not in here is refused.
struct PlaintextPlan {
    typealias Sources = TableSync<mesh_source_key, UInt32>.Content

    private(set) var ports: TableSync<mesh_inbound_port, UInt32>.Content = [:]
    private(set) var exemptions: Sources = [:]
    private(set) var datagramSources: Sources = [:]
    /// Workloads whose policies name more sources and ports than fit: nothing comes to them but connections by the proxy.
    private(set) var leftOut: [WorkloadID] = []

    /// Sets of addresses times ports that the policies of one workload may tell apart.
    static let verdictsOfWorkloadMax = 4_096
    /// Of all workloads: half of what the kernel's tables hold, as new entries are written before old ones go.
    static let datagramSourcesMax = 32_768
    static let exemptionsMax = 8_192

    /// What the policies said of a workload, for as long as they and its addresses stay.
    private struct Judged {
        var generation: UInt32
        var addresses: [IPAddress?]
        var datagrams: [SourceVerdicts.Entry]
        var exemptions: [SourceVerdicts.Entry]
    }

    private var judged: [WorkloadID: Judged] = [:]

    /// `previous`: what did not change since is taken from it.
    init(_ snapshot: Snapshot, after previous: PlaintextPlan? = nil) {
        for workload in snapshot.allWorkloads where workload.isLocal && workload.isRunning {
            let exceptions = snapshot.inboundModes(of: workload.id).ports
            for exception in exceptions {
                let key = mesh_inbound_port(
                    workload: workload.id.rawValue, port_be: exception.port.bigEndian, pad: 0)
                ports[Raw(key)] = Raw(Self.number(exception.mode))
            }
            // Where nothing takes plain text there is nothing to ask the policies about.
            if Self.takesPlaintext(workload, snapshot) || !snapshot.inboundExemptions(of: workload.id).isEmpty {
                addSources(workload, snapshot, previous?.judged[workload.id])
            }
        }
    }

    /// Namespaces in which some workload takes plain text, by way of the proxy.
    static func namespaces(_ snapshot: Snapshot) -> Set<NetworkNamespaceID> {
        let takers = snapshot.allWorkloads.lazy.filter {
            $0.isLocal && $0.isRunning && takesPlaintext($0, snapshot)
        }
        return Set(takers.map(\.networkNamespace))
    }

    static func number(_ mode: InboundMode) -> UInt32 {
        switch mode {
        case .strict: mesh_inbound_mode.MESH_INBOUND_STRICT.rawValue
        case .permissive: mesh_inbound_mode.MESH_INBOUND_PERMISSIVE.rawValue
        }
    }

    // MARK: private

    private static func takesPlaintext(_ workload: WorkloadView, _ snapshot: Snapshot) -> Bool {
        let (mode, exceptions) = snapshot.inboundModes(of: workload.id)
        return mode == .permissive || exceptions.contains { $0.mode == .permissive }
    }

    /// All or none: half of them would let in what the other half shuts out.
    private mutating func addSources(_ workload: WorkloadView, _ snapshot: Snapshot, _ known: Judged?) {
        guard let judged = Self.judge(workload, snapshot, known),
            datagramSources.count + judged.datagrams.count <= Self.datagramSourcesMax,
            exemptions.count + judged.exemptions.count <= Self.exemptionsMax
        else { return leftOut.append(workload.id) }
        self.judged[workload.id] = judged
        for entry in judged.datagrams { datagramSources[Self.key(workload.id, entry)] = Raw(entry.verdict.rawValue) }
        for entry in judged.exemptions { exemptions[Self.key(workload.id, entry)] = Raw(entry.verdict.rawValue) }
    }

    /// Nil where that would be too much.
    private static func judge(_ workload: WorkloadView, _ snapshot: Snapshot, _ known: Judged?) -> Judged? {
        let addresses = [workload.address(isIPv6: false), workload.address(isIPv6: true)]
        if let known, known.generation == snapshot.policyGeneration, known.addresses == addresses { return known }
        let verdicts = SourceVerdicts(workload, snapshot)
        guard verdicts.count <= verdictsOfWorkloadMax else { return nil }
        return Judged(
            generation: snapshot.policyGeneration, addresses: addresses, datagrams: verdicts.datagrams,
            exemptions: verdicts.exemptions)
    }

    static func passes(_ verdict: UInt32) -> Bool { verdict == mesh_source_verdict.MESH_SOURCE_PASSES.rawValue }

    private static func key(_ workload: WorkloadID, _ entry: SourceVerdicts.Entry) -> Raw<mesh_source_key> {
        Raw(
            mesh_source_key(
                prefix_length: UInt32(MESH_SOURCE_FIXED_BITS) + UInt32(entry.source.prefixBits),
                workload: workload.rawValue, port_be: entry.port.bigEndian,
                version: entry.source.address.isIPv4 ? 4 : 6, address: entry.source.address.meshAddress))
    }
}
