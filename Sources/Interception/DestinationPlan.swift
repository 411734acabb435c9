import CMeshABI
import Glibc
import MeshModel

/// What the connect hook should know of every destination address: pure, from the snapshot and the nodes that are known
/// to be unreachable. Keys mean what `Snapshot.route` means, for the networks that this node's workloads are in.
struct DestinationPlan {
    typealias Content = [Raw<mesh_destination_key>: Raw<mesh_destination>]

    private let snapshot: Snapshot
    private let unreachable: [NodeID: Int32]
    private let networks: Set<NetworkID>
    private(set) var content: Content = [:]

    /// `unreachable`: the errno that plain TCP would give.
    init(_ snapshot: Snapshot, unreachable: [NodeID: Int32]) {
        self.snapshot = snapshot
        self.unreachable = unreachable
        networks = Set(snapshot.allWorkloads.lazy.filter(\.isLocal).map(\.network)).union([.default])
        for service in snapshot.allServices { addService(service) }
        for workload in snapshot.allWorkloads { addWorkload(workload) }
    }

    private struct Refusal {
        var code: Int32 = 0
        var reason = Reason.MESH_REASON_NONE
    }

    private mutating func addService(_ service: ServiceView) {
        let ports = service.ports
        for address in service.virtualAddresses {
            for network in networks {
                let anyPort = Refusal(code: ECONNREFUSED, reason: .MESH_REASON_NO_SERVICE_PORT)
                add(
                    network, address, 0,
                    destination(service.id.rawValue, .MESH_DESTINATION_SERVICE_ADDRESS, refusal: anyPort))
                for port in ports {
                    let refusal = refusal(of: service.endpoints(port: port.port))
                    add(
                        network, address, port.port,
                        destination(service.id.rawValue, .MESH_DESTINATION_SERVICE, refusal: refusal))
                }
            }
        }
    }

    private mutating func addWorkload(_ workload: WorkloadView) {
        // A local one is always known to dial sockets; others matter only to callers of their network.
        guard workload.isLocal || networks.contains(workload.network) else { return }
        var entry = destination(
            workload.id.rawValue, .MESH_DESTINATION_WORKLOAD, refusal: refusal(ofEndpoint: workload.id))
        if workload.isLocal && workload.isRunning {
            entry.local = 1
            entry.netns = workload.networkNamespace.rawValue
        }
        // A datagram is plain text: it may go where plain text is taken.
        let modes = snapshot.inboundModes(of: workload.id)
        let exceptions = Dictionary(modes.ports.map { ($0.port, $0.mode) }, uniquingKeysWith: { first, _ in first })
        let ports = workload.sharesAddress ? workload.ports : [0] + exceptions.keys.sorted()
        for address in [workload.address(isIPv6: false), workload.address(isIPv6: true)] {
            guard let address else { continue }
            for port in ports {
                entry.datagrams = exceptions[port] ?? modes.mode == .permissive ? 1 : 0
                add(workload.network, address, port, entry)
                if entry.local != 0 { add(dialScope(of: workload), address, port, entry) }
            }
        }
    }

    /// Dial sockets know the network namespace that they were made for, not its network.
    private func dialScope(of workload: WorkloadView) -> NetworkID {
        NetworkID(rawValue: MESH_DIAL_SCOPE | workload.networkNamespace.rawValue)
    }

    private func refusal(of endpoints: EndpointList) -> Refusal {
        var first: Refusal?
        for endpoint in endpoints {
            let refusal = refusal(ofEndpoint: endpoint.workload)
            if refusal.code == 0 { return Refusal() }
            // Of several that can't be reached, what the first gives: a client would have tried that one.
            if first == nil || first?.reason == .MESH_REASON_NO_ENDPOINTS { first = refusal }
        }
        return first ?? Refusal(code: ECONNREFUSED, reason: .MESH_REASON_NO_ENDPOINTS)
    }

    private func refusal(ofEndpoint id: WorkloadID) -> Refusal {
        guard let workload = snapshot.workload(id) else {
            return Refusal(code: ECONNREFUSED, reason: .MESH_REASON_NO_ENDPOINTS)
        }
        if workload.isLocal {
            return workload.isRunning ? Refusal() : Refusal(code: ECONNREFUSED, reason: .MESH_REASON_NO_ENDPOINTS)
        }
        if let code = unreachable[workload.node] {
            return Refusal(code: code, reason: .MESH_REASON_ENDPOINT_UNREACHABLE)
        }
        guard let node = snapshot.node(workload.node), !node.tunnelAddresses.isEmpty else {
            return Refusal(code: EHOSTUNREACH, reason: .MESH_REASON_ENDPOINT_UNREACHABLE)
        }
        return Refusal()
    }

    private func destination(
        _ id: UInt32, _ kind: mesh_destination_kind, refusal: Refusal
    ) -> mesh_destination {
        var destination = mesh_destination()
        destination.id = id
        destination.kind = UInt8(truncatingIfNeeded: kind.rawValue)
        destination.refuse_errno = UInt16(truncatingIfNeeded: refusal.code)
        destination.refuse_reason = UInt16(truncatingIfNeeded: refusal.reason.rawValue)
        return destination
    }

    /// Of two with one key the first stays, as in the snapshot.
    private mutating func add(
        _ network: NetworkID, _ address: IPAddress, _ port: UInt16, _ destination: mesh_destination
    ) {
        let key = Raw(
            mesh_destination_key(
                network: network.rawValue, port_be: port.bigEndian, pad: 0, address: address.meshAddress))
        if content[key] == nil { content[key] = Raw(destination) }
    }
}
