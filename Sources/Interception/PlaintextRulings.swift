package import CMeshABI
import MeshModel
import MeshPolicy

// What the kernel lets in or refuses by tables that meshd wrote: datagrams and declared probes. Which policy that was is
// asked here, as the tables don't say.
extension Interceptor {
    /// By the policies in force; nil: no plain text came to a workload of this node.
    package func plaintextRuling(on event: mesh_event) -> ConnectionRuling? {
        guard let snapshot, let (source, destination) = Self.plaintextEnds(event.socket),
            let workload = snapshot.workload(WorkloadID(rawValue: event.socket.workload)), workload.isLocal
        else { return nil }
        let facts = ConnectionFacts(
            clientPrincipal: .none, clientNode: workload.node, source: source, destination: destination,
            channel: .plaintext(destinationWorkload: workload.id), tunnelPort: configuration.ports.tunnel)
        switch authorize(facts, snapshot) {
        case .allowed(let permit):
            return ConnectionRuling(
                reason: .MESH_REASON_NONE, decidedBy: RuleName(permit.rule, snapshot),
                dryRunDenial: permit.dryRunDenial.map { RuleName($0, snapshot) } ?? .none)
        case .denied(let denial):
            return ConnectionRuling(reason: denial.reason, decidedBy: RuleName(denial.rule, snapshot))
        }
    }

    /// A declared probe's connection, or one that came in while the proxy was away: ended where policies deny it by now.
    func judgePlaintextAgain(_ event: mesh_event) {
        guard let ruling = plaintextRuling(on: event), ruling.reason != .MESH_REASON_NONE else { return }
        end(event.socket, local: event.socket.destination, remote: event.socket.source, ruling)
    }

    /// A datagram flow names the workload's side first.
    private static func plaintextEnds(_ socket: mesh_socket) -> (source: SocketAddress, destination: SocketAddress)? {
        let (first, second) = (SocketAddress(socket.source), SocketAddress(socket.destination))
        switch UInt32(socket.role) {
        case mesh_socket_role.MESH_ROLE_INBOUND_PLAIN.rawValue: return (first, second)
        case mesh_socket_role.MESH_ROLE_DATAGRAM.rawValue where socket.flags & UInt8(MESH_SOCKET_SERVES) != 0:
            return (second, first)
        default: return nil
        }
    }
}

extension mesh_socket {
    /// An application's connection with a peer outside the mesh.
    var isPlaintext: Bool { UInt32(role) == mesh_socket_role.MESH_ROLE_INBOUND_PLAIN.rawValue }
}
