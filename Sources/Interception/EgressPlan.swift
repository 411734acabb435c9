import CMeshABI
import MeshModel
import MeshPolicy

/// What this node's workloads may reach outside the mesh, as the kernel side wants it: pure, from the snapshot. What the
/// names in policies stand for is not here: `LearnedEgress` has it from the answers that workloads get.
struct EgressPlan {
    typealias Content = [Raw<mesh_egress_key>: Raw<mesh_egress>]

    private(set) var content: Content = [:]
    private var views: [WorkloadID: EgressView] = [:]
    private var names: Set<ListedName> = []
    /// The same without the name.
    private var portsOfNames: Set<ListedName> = []
    private let fencesAll: Bool

    private struct ListedName: Hashable {
        var workload: UInt32
        var port: UInt16
        var name: UInt32
    }

    /// `fencesAll`: workloads whose egress is allowed are fenced too.
    init(_ snapshot: Snapshot, fencesAll: Bool) {
        self.fencesAll = fencesAll
        for workload in snapshot.allWorkloads where workload.isLocal && workload.isRunning {
            guard let view = snapshot.egress(of: workload.id) else { continue }
            views[workload.id] = view
            guard view.mode == .listed else { continue }
            for entry in view.allowed {
                for port in entry.ports.isEmpty ? [0] : entry.ports {
                    switch entry.destination {
                    case .addresses(let block): add(workload.id, block, port)
                    case .name(let pattern):
                        portsOfNames.insert(ListedName(workload: workload.id.rawValue, port: port, name: 0))
                        names.insert(
                            ListedName(
                                workload: workload.id.rawValue, port: port, name: Self.number(ofName: pattern)))
                    }
                }
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

    static func key(_ workload: WorkloadID, _ block: AddressBlock, _ port: UInt16) -> mesh_egress_key {
        mesh_egress_key(
            prefix_length: UInt32(MESH_EGRESS_FIXED_BITS) + UInt32(block.prefixBits), workload: workload.rawValue,
            port_be: port.bigEndian, version: block.address.isIPv4 ? 4 : 6, address: block.address.meshAddress)
    }

    /// Of a policy's name, the same in every meshd: FNV-1a, and never 0.
    static func number(ofName pattern: String) -> UInt32 {
        max(1, pattern.utf8.reduce(2_166_136_261) { ($0 ^ UInt32($1)) &* 16_777_619 })
    }

    /// Whether what was learned for a policy's name is to stay: the policy still lists the name, and no block that would
    /// stand behind it.
    func listsName(_ name: UInt32, _ key: mesh_egress_key) -> Bool {
        let port = UInt16(bigEndian: key.port_be)
        guard names.contains(ListedName(workload: key.workload, port: port, name: name)),
            let view = views[WorkloadID(rawValue: key.workload)]
        else { return false }
        return !view.covers(IPAddress(key.address), port)
    }

    /// Whether what was let out by `name` (0: as an address; nil: nobody noted by what) may go on: its lease is no part of
    /// the policy.
    func allows(_ workload: WorkloadID, _ destination: SocketAddress, byName name: UInt32?) -> Bool {
        guard let view = views[workload], view.mode != .allow else { return true }
        guard view.mode == .listed else { return false }
        if view.covers(destination.address, destination.port) { return true }
        return [0, destination.port].contains { port in
            guard let name else {
                return portsOfNames.contains(ListedName(workload: workload.rawValue, port: port, name: 0))
            }
            return names.contains(ListedName(workload: workload.rawValue, port: port, name: name))
        }
    }

    /// What denies a workload what it may not call; nil where nothing is denied.
    func denial(of workload: WorkloadID) -> RuleName? {
        guard let view = views[workload] else { return nil }
        return EgressRule.denial(by: view.mode).map { RuleName(policy: view.policy.description, rule: $0.description) }
    }

    // MARK: private

    private mutating func add(_ workload: WorkloadID, _ block: AddressBlock, _ port: UInt16) {
        let key = Self.key(workload, block, port)
        var value = mesh_egress()
        value.origin = UInt8(truncatingIfNeeded: mesh_egress_origin.MESH_EGRESS_DECLARED.rawValue)
        content[Raw(key)] = Raw(value)
    }
}
