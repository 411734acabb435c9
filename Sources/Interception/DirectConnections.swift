package import CMeshABI
import Glibc
import LinuxIO
package import MeshModel
import MeshPolicy

/// What ended a connection that no proxy carries, or allows it.
package struct ConnectionRuling {
    package var reason: Reason
    package var decidedBy: RuleName
    package var dryRunDenial = RuleName.none
}

// Connections that take the direct path are seen by the kernel alone: meshd learns paths from those that do not take it
// yet, judges those that do again when policies change, and ends what is denied by now.
extension Interceptor {
    /// Every kernel event of a connection comes here.
    func noteConnection(_ event: mesh_event) {
        let role = UInt32(event.socket.role)
        switch UInt32(event.kind) {
        case mesh_event_kind.MESH_EVENT_OPEN.rawValue where role == mesh_socket_role.MESH_ROLE_CAPTURED.rawValue:
            let path = DirectPlan.Path(event.socket)
            attempt { () throws(IOError) in try direct.learn(path) }
        case mesh_event_kind.MESH_EVENT_OPEN.rawValue where event.socket.isEgress:
            if isOlder(event) { judgeEgressAgain(event) }
        case mesh_event_kind.MESH_EVENT_OPEN.rawValue: judgeAgain(event)
        case mesh_event_kind.MESH_EVENT_REFUSED.rawValue where role == mesh_socket_role.MESH_ROLE_DIRECT.rawValue:
            let path = DirectPlan.Path(event.socket)
            attempt { () throws(IOError) in try direct.fail(path) }
        default: break
        }
    }

    /// A live connection, as the daemon reads them every second: one that was judged by other policies may have been
    /// missed when they changed.
    package func sawLive(_ event: mesh_event) {
        if !event.isOver, isOlder(event) || event.socket.isMismatch { judgeLiveAgain(event) }
    }

    /// By the policies in force; nil: it is neither a direct connection's accepted socket nor egress that was refused, or its
    /// workloads are unknown.
    package func ruling(on event: mesh_event) -> ConnectionRuling? {
        if event.isRefusedEgress { return egressDenial(of: event.socket) }
        guard event.socket.servesDirectly, let snapshot,
            let client = snapshot.workload(WorkloadID(rawValue: event.socket.peer_workload))
        else { return nil }
        let target = DirectPlan.Target(
            workload: WorkloadID(rawValue: event.socket.workload), address: SocketAddress(event.socket.destination))
        let source = SocketAddress(event.socket.source).address
        let permit = directDecision(
            client, source, target, snapshot, tunnelPort: configuration.ports.tunnel)
        guard let permit else { return nil }
        return ConnectionRuling(
            reason: .MESH_REASON_NONE, decidedBy: RuleName(permit.rule, snapshot),
            dryRunDenial: permit.dryRunDenial.map { RuleName($0, snapshot) } ?? .none)
    }

    /// After a change of policies: all that live and that no proxy carries.
    func judgeLiveConnectionsAgain() {
        var live: [mesh_event] = []
        callbacks.readLive { event in
            let socket = event.socket
            guard !event.isOver, socket.servesDirectly || socket.isEgress || socket.isPlaintext else { return }
            live.append(event)
        }
        for event in live { judgeLiveAgain(event) }
    }

    // MARK: private

    private func judgeLiveAgain(_ event: mesh_event) {
        if event.socket.isEgress {
            judgeEgressAgain(event)
        } else if event.socket.isPlaintext {
            judgePlaintextAgain(event)
        } else {
            judgeAgain(event)
        }
    }

    private func isOlder(_ event: mesh_event) -> Bool {
        event.socket.policy_generation != snapshot?.policyGeneration ?? 0
    }

    private func judgeAgain(_ event: mesh_event) {
        guard event.socket.servesDirectly, let snapshot else { return }
        if event.socket.isMismatch {
            return end(event, ConnectionRuling(reason: .MESH_REASON_LISTENER_MISMATCH, decidedBy: .none))
        }
        var live = LiveConnection()
        live.source = SocketAddress(event.socket.source).address
        live.destination = SocketAddress(event.socket.destination)
        live.workload = WorkloadID(rawValue: event.socket.workload)
        let client = snapshot.workload(WorkloadID(rawValue: event.socket.peer_workload))
        live.principal = client?.principal ?? PrincipalID(rawValue: event.socket.peer_principal)
        guard let denial = denial(of: live, snapshot) else { return }
        end(event, ConnectionRuling(reason: denial.reason, decidedBy: RuleName(denial.rule, snapshot)))
    }

    /// Both ends, in their network namespaces; the first also resets the second.
    private func end(_ event: mesh_event, _ ruling: ConnectionRuling) {
        let socket = event.socket
        callbacks.connectionEnded(socket.peer_cookie, ruling)
        let (client, server) = (SocketAddress(socket.source), SocketAddress(socket.destination))
        let home = snapshot?.workload(WorkloadID(rawValue: socket.peer_workload))?.networkNamespace
        for (namespace, local, remote, cookie) in [
            (namespaces.id(ofCookie: socket.netns_cookie), server, client, socket.cookie),
            (home, client, server, socket.peer_cookie),
        ] {
            guard let namespace else { continue }
            do throws(IOError) {
                try namespaces.open(namespace).inside { () throws(IOError) in
                    _ = try ConnectionEnd.destroy(local: local, remote: remote, cookie: cookie)
                }
            } catch {
                // Nobody has a connection in a namespace that is gone.
                if error.code != ENOENT { callbacks.report(.init(.error, "a denied connection goes on: \(error)")) }
            }
        }
    }
}

extension DirectPlan.Path {
    /// Of the side that connected.
    init(_ socket: mesh_socket) {
        self.init(
            workload: WorkloadID(rawValue: socket.workload), namespaceCookie: socket.netns_cookie,
            destination: SocketAddress(socket.destination))
    }
}

extension mesh_event {
    /// The connection has ended, and the application still holds its socket.
    fileprivate var isOver: Bool { UInt32(tcp_state) == UInt32(TCP_CLOSE) }
}

extension mesh_socket {
    /// A direct connection's accepted socket.
    fileprivate var servesDirectly: Bool {
        UInt32(role) == mesh_socket_role.MESH_ROLE_DIRECT.rawValue && flags & UInt8(MESH_SOCKET_SERVES) != 0
    }

    fileprivate var isMismatch: Bool { flags & UInt8(MESH_SOCKET_MISMATCH) != 0 }
}
