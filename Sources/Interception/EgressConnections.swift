import CMeshABI
import Glibc
import LinuxIO
import MeshModel

// Connections to outside the mesh are seen by the kernel alone, as those of the direct path: when policies change, meshd
// judges those that live again and ends what is denied by now (decision 0018).
extension Interceptor {
    /// One that its workload's EgressPolicy does not allow (any more) is ended.
    func judgeEgressAgain(_ event: mesh_event) {
        let socket = event.socket
        let isAllowed = kernel.allowsEgress(
            WorkloadID(rawValue: socket.workload), SocketAddress(socket.destination), byName: socket.nameThatLetItOut,
            now: BootClock.nanoseconds())
        guard !isAllowed, let ruling = egressDenial(of: socket) else { return }
        end(socket, local: socket.source, remote: socket.destination, ruling)
    }

    /// What its workload's policy says of a connection that it does not allow.
    func egressDenial(of socket: mesh_socket) -> ConnectionRuling? {
        kernel.egressDenial(of: WorkloadID(rawValue: socket.workload)).map {
            ConnectionRuling(reason: .MESH_REASON_EGRESS_DENIED, decidedBy: $0)
        }
    }

    /// A workload's connection with a peer that is no workload of this node. Both ends learn of it, and the socket's cookie
    /// keeps from ending another one that took its addresses meanwhile.
    func end(_ socket: mesh_socket, local: mesh_endpoint, remote: mesh_endpoint, _ ruling: ConnectionRuling) {
        callbacks.connectionEnded(socket.cookie, ruling)
        let home = instances.instance(WorkloadID(rawValue: socket.workload))?.path
        do throws(IOError) {
            let namespace = try namespaces.open(
                cookie: socket.netns_cookie, pid: Int32(truncatingIfNeeded: socket.pid), cgroup: home)
            try namespace.inside { () throws(IOError) in
                _ = try ConnectionEnd.destroyAnywhere(
                    local: SocketAddress(local), remote: SocketAddress(remote), cookie: socket.cookie)
            }
        } catch {
            // Nobody has a connection in a namespace that is gone.
            if error.code != ENOENT { callbacks.report(.init(.error, "a denied connection goes on: \(error)")) }
        }
    }
}

extension mesh_socket {
    /// Let out by an EgressPolicy or for want of one.
    var isEgress: Bool {
        UInt32(role) == mesh_socket_role.MESH_ROLE_PASSTHROUGH.rawValue && flags & UInt8(MESH_SOCKET_FAILED_OPEN) == 0
    }

    /// Nil where programs of an earlier version let it out, which note none: an upgrade cuts nothing that a name may have.
    fileprivate var nameThatLetItOut: UInt32? { version >= UInt8(MESH_ABI_EGRESS_NAME) ? egress_name : nil }
}

extension mesh_event {
    /// A connect() or a datagram that an EgressPolicy refused.
    var isRefusedEgress: Bool {
        UInt32(kind) == mesh_event_kind.MESH_EVENT_REFUSED.rawValue
            && reason == UInt16(truncatingIfNeeded: mesh_reason.MESH_REASON_EGRESS_DENIED.rawValue)
    }
}
