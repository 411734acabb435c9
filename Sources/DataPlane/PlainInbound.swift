import CMeshABI
import Glibc
import MeshModel
import MeshPolicy
import ProxyControl

// Plain text from outside the mesh to a workload that takes it. The kernel side hands such connections to the inbound
// listener: where they were going is the accepted socket's own address, and whose listener was meant is the kernel's
// knowledge. Judged as nobody's, then relayed like a connection within the node.

extension UnsafeMutablePointer<LoopState> {
    /// A connection at an inbound listener.
    func plaintextCame(_ descriptor: Int32) {
        guard let arrived = pointee.shared.kernel.accepted(descriptor),
            arrived.role == UInt8(mesh_socket_role.MESH_ROLE_INBOUND_PLAIN.rawValue), arrived.workload != 0
        else {
            pointee.counters.count(.MESH_REASON_HANDOVER_MISSING)
            return close(descriptor, resets: true)
        }
        let destination = SocketAddress(arrived.destination)
        let workload = WorkloadID(rawValue: arrived.workload)
        var record = OpenRecord(
            id: takeConnectionID(), direction: .inbound, cookie: 0, destinationWorkload: workload,
            source: SocketAddress(arrived.source), originalDestination: destination, upstream: destination,
            openedNanoseconds: pointee.now)
        guard let snapshot = pointee.snapshot else {
            return refuseCaptured(descriptor, record, .MESH_REASON_SNAPSHOT_MISSING)
        }
        record.policyGeneration = snapshot.policyGeneration
        record.destinationPrincipal = snapshot.workload(workload)?.principal ?? .none
        if pointee.shared.budget.isTight { return refuseCaptured(descriptor, record, .MESH_REASON_MEMORY_BUDGET) }
        let facts = ConnectionFacts(
            clientPrincipal: .none, clientNode: .none, source: record.source, destination: destination,
            channel: .plaintext(destinationWorkload: workload), tunnelPort: pointee.settings.tunnelPort)
        relayIfAllowed(descriptor, record, facts, snapshot)
    }
}
