import CMeshABI
import MeshModel

/// What the kernel side should do with plain text that comes to this node's workloads: pure, from the snapshot. What is
/// not in here is refused.
struct PlaintextPlan {
    private(set) var ports: TableSync<mesh_inbound_port, UInt32>.Content = [:]
    private(set) var exemptions: TableSync<mesh_exempt_key, UInt32>.Content = [:]
    /// Namespaces in which some workload takes plain text, by way of the proxy.
    private(set) var namespaces: Set<NetworkNamespaceID> = []

    init(_ snapshot: Snapshot) {
        for workload in snapshot.allWorkloads where workload.isLocal && workload.isRunning {
            let (mode, exceptions) = snapshot.inboundModes(of: workload.id)
            for exception in exceptions {
                let key = mesh_inbound_port(
                    workload: workload.id.rawValue, port_be: exception.port.bigEndian, pad: 0)
                ports[Raw(key)] = Raw(Self.number(exception.mode))
            }
            if mode == .permissive || exceptions.contains(where: { $0.mode == .permissive }) {
                namespaces.insert(workload.networkNamespace)
            }
            for exemption in snapshot.inboundExemptions(of: workload.id) {
                let key = mesh_exempt_key(
                    prefix_length: UInt32(MESH_EXEMPT_FIXED_BITS) + UInt32(exemption.source.prefixBits),
                    workload: workload.id.rawValue, port_be: exemption.port.bigEndian,
                    version: exemption.source.address.isIPv4 ? 4 : 6, address: exemption.source.address.meshAddress)
                exemptions[Raw(key)] = Raw(1)
            }
        }
    }

    static func number(_ mode: InboundMode) -> UInt32 {
        switch mode {
        case .strict: mesh_inbound_mode.MESH_INBOUND_STRICT.rawValue
        case .permissive: mesh_inbound_mode.MESH_INBOUND_PERMISSIVE.rawValue
        }
    }
}
