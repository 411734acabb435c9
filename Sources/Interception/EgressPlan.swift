import CMeshABI
import MeshModel

/// What this node's workloads may reach outside the mesh, as the kernel side wants it: pure, from the snapshot. Names in
/// policies are not here: what they stand for is learned from the answers that workloads get.
struct EgressPlan {
    typealias Content = [Raw<mesh_egress_key>: Raw<mesh_egress>]

    private(set) var content: Content = [:]
    private var views: [WorkloadID: EgressView] = [:]
    private let fencesAll: Bool

    /// `fencesAll`: workloads whose egress is allowed are fenced too.
    init(_ snapshot: Snapshot, fencesAll: Bool) {
        self.fencesAll = fencesAll
        for workload in snapshot.allWorkloads where workload.isLocal && workload.isRunning {
            guard let view = snapshot.egress(of: workload.id) else { continue }
            views[workload.id] = view
            guard view.mode == .listed else { continue }
            for entry in view.allowed {
                guard case .addresses(let block) = entry.destination else { continue }
                for port in entry.ports.isEmpty ? [0] : entry.ports { add(workload.id, block, port) }
            }
        }
    }

    func mode(of workload: WorkloadID) -> mesh_egress_mode {
        switch views[workload]?.mode {
        case nil, .allow: .MESH_EGRESS_ALLOW
        case .deny: .MESH_EGRESS_DENY
        case .listed: .MESH_EGRESS_LISTED
        }
    }

    /// A policy that restricts means what it says only if nothing gets past the hooks.
    func isFenced(_ workload: WorkloadID) -> Bool { fencesAll || mode(of: workload) != .MESH_EGRESS_ALLOW }

    func fence(of workload: WorkloadID) -> UInt8 {
        var flags: Int32 = isFenced(workload) ? MESH_FENCE_STRICT : 0
        if views[workload]?.allowsRawSockets == true { flags |= MESH_FENCE_RAW_ALLOWED }
        return UInt8(truncatingIfNeeded: flags)
    }

    // MARK: private

    private mutating func add(_ workload: WorkloadID, _ block: AddressBlock, _ port: UInt16) {
        let key = mesh_egress_key(
            prefix_length: UInt32(MESH_EGRESS_FIXED_BITS) + UInt32(block.prefixBits), workload: workload.rawValue,
            port_be: port.bigEndian, version: block.address.isIPv4 ? 4 : 6, address: block.address.meshAddress)
        var value = mesh_egress()
        value.origin = UInt8(truncatingIfNeeded: mesh_egress_origin.MESH_EGRESS_DECLARED.rawValue)
        content[Raw(key)] = Raw(value)
    }
}
