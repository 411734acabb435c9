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
    /// What the kernel's tables hold, of all workloads.
    static let datagramSourcesMax = 65_536
    static let exemptionsMax = 16_384

    init(_ snapshot: Snapshot) {
        for workload in snapshot.allWorkloads where workload.isLocal && workload.isRunning {
            let exceptions = snapshot.inboundModes(of: workload.id).ports
            for exception in exceptions {
                let key = mesh_inbound_port(
                    workload: workload.id.rawValue, port_be: exception.port.bigEndian, pad: 0)
                ports[Raw(key)] = Raw(Self.number(exception.mode))
            }
            // Where nothing takes plain text there is nothing to ask the policies about.
            if Self.takesPlaintext(workload, snapshot) || !snapshot.inboundExemptions(of: workload.id).isEmpty {
                addSources(workload, snapshot)
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
    private mutating func addSources(_ workload: WorkloadView, _ snapshot: Snapshot) {
        let verdicts = SourceVerdicts(workload, snapshot)
        guard verdicts.count <= Self.verdictsOfWorkloadMax else { return leftOut.append(workload.id) }
        let (datagrams, probes) = (verdicts.datagrams, verdicts.exemptions)
        guard datagramSources.count + datagrams.count <= Self.datagramSourcesMax,
            exemptions.count + probes.count <= Self.exemptionsMax
        else { return leftOut.append(workload.id) }
        for entry in datagrams { datagramSources[Self.key(workload.id, entry)] = Raw(entry.verdict.rawValue) }
        for entry in probes { exemptions[Self.key(workload.id, entry)] = Raw(entry.verdict.rawValue) }
    }

    private static func key(_ workload: WorkloadID, _ entry: SourceVerdicts.Entry) -> Raw<mesh_source_key> {
        Raw(
            mesh_source_key(
                prefix_length: UInt32(MESH_SOURCE_FIXED_BITS) + UInt32(entry.source.prefixBits),
                workload: workload.rawValue, port_be: entry.port.bigEndian,
                version: entry.source.address.isIPv4 ? 4 : 6, address: entry.source.address.meshAddress))
    }
}
