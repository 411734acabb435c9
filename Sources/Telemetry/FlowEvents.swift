package import CMeshABI
package import MeshModel

/// What the flow table takes from the kernel side's `mesh_event`. Bytes are payload, named by the socket's owner.
package struct KernelFlowEvent: Equatable, Sendable {
    package enum Kind: Sendable {
        case opened
        /// Counters as of now, from the iterator over live sockets.
        case live
        case closed
        case refused
    }

    package enum Role: Sendable {
        /// A workload's socket that the mesh carries.
        case captured
        /// A workload's socket to a destination outside the mesh.
        case passthrough
        /// An application's accepted socket; `peerCookie` is the mesh's dial socket.
        case served
        /// A connect() that the hook refused: no socket remains.
        case refused
        /// A workload's UDP socket and one peer.
        case datagram
        /// One whose peer began; source and destination are the peer's and the workload's.
        case datagramServed
        /// An application's accepted socket whose peer is outside the mesh; of kind refused, one that never was.
        case plain

        /// A workload's socket that is connected to another workload's of this node without the proxy.
        case direct
        /// The other end of such a one; `peerCookie` is the socket that connected.
        case directServed

        /// Whether no word of the proxy follows.
        var isDecidedByKernel: Bool {
            switch self {
            case .passthrough, .plain, .datagram, .datagramServed, .direct: true
            case .captured, .served, .refused, .directServed: false
            }
        }

        /// A connection that no proxy carries, so that meshd judges it again when policies change.
        package var isJudgedByKernel: Bool { self == .passthrough || self == .plain || self == .directServed }

        /// Of the application that accepted.
        var isServer: Bool {
            switch self {
            case .served, .plain, .datagramServed, .directServed: true
            case .captured, .passthrough, .refused, .datagram, .direct: false
            }
        }
    }

    package var kind: Kind
    package var role: Role
    package var reason: Reason = .MESH_REASON_NONE
    package var workload = WorkloadID.none
    /// Of the other side, where it is direct.
    package var peerWorkload = WorkloadID.none
    /// What policies say of it; of role `directServed`, and where egress was refused.
    package var decidedBy = RuleName.none
    package var dryRunDenial = RuleName.none
    package var pid: UInt32 = 0
    package var command = ""
    package var cookie: UInt64 = 0
    package var peerCookie: UInt64 = 0
    package var openedNanoseconds: UInt64 = 0
    package var atNanoseconds: UInt64 = 0
    package var source: SocketAddress
    package var destination: SocketAddress
    package var bytesSent: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    package var rttMicroseconds: UInt32 = 0
    package var retransmits: UInt32 = 0
    package var approximate = false
    /// UDP: of the roles that say so, and of refusals.
    package var isDatagram = false
    /// Of roles `datagram` and `datagramServed`, by the socket's owner.
    package var datagramsSent: UInt64 = 0
    package var datagramsReceived: UInt64 = 0

    package init(kind: Kind, role: Role, source: SocketAddress, destination: SocketAddress) {
        self.kind = kind
        self.role = role
        self.source = source
        self.destination = destination
    }

    /// Nil for events that are not about a workload's connection. `isLive` is for what the iterator writes, whose
    /// events look like open ones.
    package init?(_ event: mesh_event, isLive: Bool) {
        guard let kind = Self.kind(event.kind, isLive: isLive),
            let role = Self.role(event.socket)
        else { return nil }
        let (first, second) = (SocketAddress(event.socket.source), SocketAddress(event.socket.destination))
        let isTurned = role == .datagramServed
        self.init(kind: kind, role: role, source: isTurned ? second : first, destination: isTurned ? first : second)
        reason = Reason(number: event.reason) ?? .MESH_REASON_NONE
        workload = WorkloadID(rawValue: event.socket.workload)
        peerWorkload = WorkloadID(rawValue: event.socket.peer_workload)
        pid = event.socket.pid
        command = withUnsafeBytes(of: event.socket.command) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        cookie = event.socket.cookie
        peerCookie = event.socket.peer_cookie
        openedNanoseconds = event.socket.opened_ns
        atNanoseconds = event.at_ns
        bytesSent = event.bytes_sent
        bytesReceived = event.bytes_received
        rttMicroseconds = event.rtt_us
        retransmits = event.retransmits
        approximate = event.approximate != 0
        isDatagram =
            role == .datagram || role == .datagramServed || event.socket.flags & UInt8(MESH_SOCKET_DATAGRAM) != 0
        guard role == .datagram || role == .datagramServed else { return }
        (datagramsSent, datagramsReceived) = (event.value, event.socket.peer_cookie)
        peerCookie = 0
    }

    // MARK: private

    private static func kind(_ number: UInt8, isLive: Bool) -> Kind? {
        switch UInt32(number) {
        case mesh_event_kind.MESH_EVENT_OPEN.rawValue: isLive ? .live : .opened
        case mesh_event_kind.MESH_EVENT_CLOSE.rawValue: .closed
        case mesh_event_kind.MESH_EVENT_REFUSED.rawValue: .refused
        default: nil
        }
    }

    private static func role(_ socket: mesh_socket) -> Role? {
        switch UInt32(socket.role) {
        case mesh_socket_role.MESH_ROLE_CAPTURED.rawValue: .captured
        case mesh_socket_role.MESH_ROLE_PASSTHROUGH.rawValue, mesh_socket_role.MESH_ROLE_PREEXISTING.rawValue:
            .passthrough
        case mesh_socket_role.MESH_ROLE_SERVED.rawValue: .served
        case mesh_socket_role.MESH_ROLE_REFUSED.rawValue: .refused
        case mesh_socket_role.MESH_ROLE_INBOUND_PLAIN.rawValue: .plain
        case mesh_socket_role.MESH_ROLE_DATAGRAM.rawValue:
            socket.flags & UInt8(MESH_SOCKET_SERVES) != 0 ? .datagramServed : .datagram
        case mesh_socket_role.MESH_ROLE_DIRECT.rawValue:
            socket.flags & UInt8(MESH_SOCKET_SERVES) != 0 ? .directServed : .direct
        default: nil
        }
    }
}

package enum FlowDirection: UInt8, Sendable {
    case outbound = 1
    case inbound = 2
    /// Both ends on this node.
    case local = 3

    package var name: String {
        switch self {
        case .outbound: "outbound"
        case .inbound: "inbound"
        case .local: "local"
        }
    }
}

/// What the proxy decided about one connection: the mirror of ProxyControl's `ConnectionOpened`.
package struct ProxyFlowOpened: Equatable, Sendable {
    package var id: UInt64
    /// The process that told it: each counts its connections and tunnels for itself.
    package var proxy: Int32 = 0
    package var direction: FlowDirection
    /// Of the captured client socket (outbound, local) or of the dial socket (inbound).
    package var cookie: UInt64
    /// Of the dial socket of a local flow; else 0.
    package var dialCookie: UInt64 = 0
    package var sourceWorkload = WorkloadID.none
    package var destinationWorkload = WorkloadID.none
    package var service = ServiceID.none
    package var sourcePrincipal = ""
    package var destinationPrincipal = ""
    package var source: SocketAddress
    package var originalDestination: SocketAddress
    package var peerNode = NodeID.none
    package var tunnel: UInt32 = 0
    package var allowed = true
    package var reason: Reason = .MESH_REASON_NONE
    package var openedNanoseconds: UInt64 = 0
    package var decidedBy = RuleName.none
    package var dryRunDenial = RuleName.none

    package init(
        id: UInt64, direction: FlowDirection, cookie: UInt64, source: SocketAddress, originalDestination: SocketAddress
    ) {
        self.id = id
        self.direction = direction
        self.cookie = cookie
        self.source = source
        self.originalDestination = originalDestination
    }
}

/// The mirror of ProxyControl's `ConnectionClosed`. Bytes are named from the client's side.
package struct ProxyFlowClosed: Equatable, Sendable {
    package var id: UInt64
    package var proxy: Int32 = 0
    package var bytesSent: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    package var reason: Reason = .MESH_REASON_NONE
    package var connectMicroseconds: UInt32 = 0
    package var firstByteMicroseconds: UInt32 = 0
    package var closedNanoseconds: UInt64 = 0
    package var decidedBy = RuleName.none

    package init(id: UInt64) { self.id = id }
}
