// ProxyControl is the language between meshd and its proxy: the messages on their seqpacket socket and their binary
// form. It is pure; sockets and descriptors belong to LinuxIO. Both ends are the same binary in different versions, so
// a decoder takes longer bodies than it knows and refuses shorter ones.

package import MeshModel

/// What meshd tells the proxy. Descriptors travel beside the message (SCM_RIGHTS), in the order that each case names.
package enum SupervisorMessage: Equatable, Sendable {
    /// The first message after the proxy's hello.
    case welcome(ProxySettings)
    /// One descriptor: the sealed memfd with the snapshot's bytes.
    case snapshot(version: UInt64, length: UInt64)
    case certificate(WorkloadCertificate)
    case retireCertificate(principal: String)
    /// The certificate authorities of the trust domain, PEM.
    case trust(trustDomain: String, bundle: [UInt8])
    /// One descriptor: the listening socket.
    case listener(ListenerDescription)
    case closeListener(id: UInt32)
    /// As many descriptors as fit a message: unconnected sockets made for `pool`.
    case dialSockets(pool: DialPool)
    /// The workload's cgroup is gone: close its connections and sockets within a second.
    case workloadGone(WorkloadID)
    case networkNamespaceGone(NetworkNamespaceID)
    /// Answer with one `listener` for each listener that is held, the socket beside it.
    case giveListeners
    /// Take nothing new, finish what is open, leave at the deadline (0: none). `listenersStay`: another proxy serves the
    /// same sockets already, so that what waits in them is that one's.
    case drain(deadlineMilliseconds: UInt32, listenersStay: Bool)
    /// Answer with `tunnels` and `counters` now.
    case report
    /// The kernel side knows what `nameResolved` told: the workload may be told too. Also where it told of nothing that
    /// the workload may call.
    case nameAdmitted(token: UInt64)
}

/// What the proxy tells meshd.
package enum ProxyMessage: Equatable, Sendable {
    /// The first message of a connection. `listeners` is not empty when a running proxy comes back to a new meshd.
    case hello(ProxyHello)
    /// One descriptor: the listening socket, which the proxy goes on serving. Answer to `giveListeners`.
    case listener(ListenerDescription)
    case snapshotInUse(version: UInt64)
    case needDialSockets(pool: DialPool, count: UInt32)
    /// A tunnel dial to the node failed: its endpoints are to be refused in the connect hook with this errno.
    case nodeUnreachable(NodeID, errno: Int32, reason: Reason)
    case nodeReachable(NodeID)
    case opened([ConnectionOpened])
    case closed([ConnectionClosed])
    /// Refused before a connection existed (tunnel peers), for log and metrics.
    case refused([PeerRefusal])
    case tunnels([TunnelStatus])
    case counters(ProxyCounters)
    /// Everything is closed; the process ends.
    case drained
    /// A workload is about to be told the addresses of a name that its EgressPolicy lists. Answered by `nameAdmitted`.
    case nameResolved(NameResolution)
}

package struct ProxySettings: Equatable, Sendable {
    package var loops: UInt16 = 1
    /// Bytes held for streams and tunnels, for the whole process.
    package var memoryBudget: UInt64 = 256 << 20
    /// Descriptors that the proxy may hold; 90 % of it is overload.
    package var descriptorsMax: UInt32 = 16_384
    package var tunnelsMax: UInt32 = 4_096
    package var streamsPerTunnelMax: UInt32 = 10_000
    package var handshakeTimeoutMilliseconds: UInt32 = 10_000
    package var headersTimeoutMilliseconds: UInt32 = 10_000
    package var connectTimeoutMilliseconds: UInt32 = 10_000
    package var idleTunnelTimeoutMilliseconds: UInt32 = 300_000
    package var pingIntervalMilliseconds: UInt32 = 10_000
    package var pingTimeoutMilliseconds: UInt32 = 20_000
    /// How long the peer of a half-closed or stopped stream may hold memory while the budget is over 90 %.
    package var slowPeerTimeoutMilliseconds: UInt32 = 60_000
    package var beatIntervalMilliseconds: UInt32 = 500
    package var tunnelPort: UInt16 = 15008
    package var node: String = ""
    package var trustDomain: String = ""
    /// Whose names the proxy answers itself; empty: DNS is left alone.
    package var meshDomain: String = ""
    package var namesTimeToLiveSeconds: UInt32 = 5
    /// What peers are told that the workloads of this node belong to.
    package var cluster: String = CanonicalNames.cluster
    /// Tunnels of one loop for one key while loss bounds what a tunnel carries; 1: none are added.
    package var tunnelsUnderLossMax: UInt32 = 8

    package init() {}
}

/// A workload identity with its key; leaves meshd only on the proxy's socket.
package struct WorkloadCertificate: Equatable, Sendable {
    package var principal: String
    package var chain: [UInt8]
    package var key: SecretBytes

    package init(principal: String, chain: [UInt8], key: SecretBytes) {
        self.principal = principal
        self.chain = chain
        self.key = key
    }
}

package struct ListenerDescription: Equatable, Sendable {
    package enum Kind: UInt8, Sendable {
        /// Captured connections of workloads, on loopback.
        case outbound = 1
        /// Tunnels of peer nodes, on the node's addresses.
        case tunnel = 2
        /// DNS queries of workloads by UDP, on loopback.
        case names = 4
        /// Plain text from outside the mesh, to any address and port of a workload that takes it.
        case inbound = 3
    }

    package var id: UInt32
    package var kind: Kind
    package var networkNamespace: NetworkNamespaceID
    package var address: SocketAddress
    /// The loop that serves it: each loop has a listener of its own (SO_REUSEPORT).
    package var loop: UInt16

    package init(
        id: UInt32, kind: Kind, networkNamespace: NetworkNamespaceID, address: SocketAddress, loop: UInt16
    ) {
        self.id = id
        self.kind = kind
        self.networkNamespace = networkNamespace
        self.address = address
        self.loop = loop
    }
}

/// Sockets made beforehand, because the proxy may create none.
package struct DialPool: Hashable, Sendable {
    package enum Purpose: UInt8, Sendable {
        case application = 2
        case tunnel = 3
        /// To resolvers that workloads asked, by UDP and by TCP.
        case namesDatagram = 4
        case namesStream = 5
    }

    package var purpose: Purpose
    package var networkNamespace: NetworkNamespaceID
    package var isIPv6: Bool

    package init(purpose: Purpose, networkNamespace: NetworkNamespaceID, isIPv6: Bool) {
        self.purpose = purpose
        self.networkNamespace = networkNamespace
        self.isIPv6 = isIPv6
    }
}

package struct ProxyHello: Equatable, Sendable {
    package var version: UInt16 = ProxyHello.currentVersion
    package var pid: Int32
    package var loops: UInt16
    package var snapshotVersion: UInt64
    package var listeners: [ListenerDescription]
    /// Principals whose certificates it holds.
    package var principals: [String]
    /// Connections open now, so that a new meshd knows them.
    package var connections: UInt32
    /// It was told to leave: another proxy accepts.
    package var isDraining = false

    package static let currentVersion: UInt16 = 2

    package init(
        pid: Int32, loops: UInt16, snapshotVersion: UInt64, listeners: [ListenerDescription], principals: [String],
        connections: UInt32
    ) {
        self.pid = pid
        self.loops = loops
        self.snapshotVersion = snapshotVersion
        self.listeners = listeners
        self.principals = principals
        self.connections = connections
    }
}

/// What a resolver answered to a workload.
package struct NameResolution: Equatable, Sendable {
    /// The proxy's number for it.
    package var token: UInt64
    package var workload: WorkloadID
    /// In lower case, without a dot at its end.
    package var name: String
    package var addresses: [IPAddress]
    /// The shortest of the records'.
    package var timeToLiveSeconds: UInt32

    /// Of one answer; those behind are not told, so that the workload can't call them.
    package static let addressesMax = 128

    package init(
        token: UInt64, workload: WorkloadID, name: String, addresses: [IPAddress], timeToLiveSeconds: UInt32
    ) {
        self.token = token
        self.workload = workload
        self.name = name
        self.addresses = addresses
        self.timeToLiveSeconds = timeToLiveSeconds
    }
}

package enum ConnectionDirection: UInt8, Sendable {
    case outbound = 1
    case inbound = 2
    /// Both ends on this node, relayed inside the proxy.
    case local = 3
}

/// One application connection, told once it is decided (allowed or not).
package struct ConnectionOpened: Equatable, Sendable {
    /// Unique within the proxy process.
    package var id: UInt64
    package var direction: ConnectionDirection
    /// Kernel cookie of the local application's side: the captured client socket (outbound, local), or the dial
    /// socket (inbound), whose cookie the served socket's flow carries as `peer_cookie`.
    package var cookie: UInt64
    /// For `local`: the cookie of the dial socket. Else 0.
    package var dialCookie: UInt64
    package var sourceWorkload: WorkloadID
    package var destinationWorkload: WorkloadID
    package var service: ServiceID
    package var sourcePrincipal: String
    package var destinationPrincipal: String
    package var source: SocketAddress
    package var originalDestination: SocketAddress
    package var upstream: SocketAddress
    package var peerNode: NodeID
    /// 0 for `local`, and for connections that were refused before they had one.
    package var tunnel: UInt32
    package var allowed: Bool
    package var reason: Reason
    package var policyGeneration: UInt32
    /// CLOCK_BOOTTIME.
    package var openedNanoseconds: UInt64
    /// What decided; none where it was not this node that did.
    package var decidedBy: RuleName
    /// What would have denied it if policies on trial were enforced; none where nothing would.
    package var dryRunDenial: RuleName

    package init(
        id: UInt64, direction: ConnectionDirection, cookie: UInt64, dialCookie: UInt64, sourceWorkload: WorkloadID,
        destinationWorkload: WorkloadID, service: ServiceID, sourcePrincipal: String, destinationPrincipal: String,
        source: SocketAddress, originalDestination: SocketAddress, upstream: SocketAddress, peerNode: NodeID,
        tunnel: UInt32, allowed: Bool, reason: Reason, policyGeneration: UInt32, openedNanoseconds: UInt64,
        decidedBy: RuleName = .none, dryRunDenial: RuleName = .none
    ) {
        self.id = id
        self.direction = direction
        self.cookie = cookie
        self.dialCookie = dialCookie
        self.sourceWorkload = sourceWorkload
        self.destinationWorkload = destinationWorkload
        self.service = service
        self.sourcePrincipal = sourcePrincipal
        self.destinationPrincipal = destinationPrincipal
        self.source = source
        self.originalDestination = originalDestination
        self.upstream = upstream
        self.peerNode = peerNode
        self.tunnel = tunnel
        self.allowed = allowed
        self.reason = reason
        self.policyGeneration = policyGeneration
        self.openedNanoseconds = openedNanoseconds
        self.decidedBy = decidedBy
        self.dryRunDenial = dryRunDenial
    }
}

/// The end of a connection that `ConnectionOpened` announced.
package struct ConnectionClosed: Equatable, Sendable {
    package var id: UInt64
    /// Relayed from the client towards the server, and back.
    package var bytesSent: UInt64
    package var bytesReceived: UInt64
    /// `none` for an orderly end.
    package var reason: Reason
    /// From accept (or the peer's HEADERS) to the 200, microseconds.
    package var connectMicroseconds: UInt32
    /// From accept to the first byte back, microseconds; 0 if none came.
    package var firstByteMicroseconds: UInt32
    package var closedNanoseconds: UInt64
    /// The rule that ended it, where the reason is a policy.
    package var decidedBy: RuleName

    package init(
        id: UInt64, bytesSent: UInt64, bytesReceived: UInt64, reason: Reason, connectMicroseconds: UInt32,
        firstByteMicroseconds: UInt32, closedNanoseconds: UInt64, decidedBy: RuleName = .none
    ) {
        self.id = id
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.reason = reason
        self.connectMicroseconds = connectMicroseconds
        self.firstByteMicroseconds = firstByteMicroseconds
        self.closedNanoseconds = closedNanoseconds
        self.decidedBy = decidedBy
    }
}

/// A peer that was turned away, with what is known of it.
package struct PeerRefusal: Equatable, Sendable {
    package var reason: Reason
    package var peer: SocketAddress
    /// Of its certificate, when it had a valid one.
    package var principal: String
    /// What it asked for: SNI or authority, cut to 256 bytes.
    package var subject: String

    package init(reason: Reason, peer: SocketAddress, principal: String, subject: String) {
        self.reason = reason
        self.peer = peer
        self.principal = principal
        self.subject = subject
    }
}

/// A tunnel as of now; its round-trip time and retransmits are shared by all its streams.
package struct TunnelStatus: Equatable, Sendable {
    package var id: UInt32
    package var isOutbound: Bool
    package var peerNode: NodeID
    package var peer: SocketAddress
    package var localPrincipal: String
    package var peerPrincipal: String
    package var streams: UInt32
    package var streamsTotal: UInt64
    package var rttMicroseconds: UInt32
    package var retransmits: UInt32
    package var bytesSent: UInt64
    package var bytesReceived: UInt64
    package var openedNanoseconds: UInt64

    package init(
        id: UInt32, isOutbound: Bool, peerNode: NodeID, peer: SocketAddress, localPrincipal: String,
        peerPrincipal: String, streams: UInt32, streamsTotal: UInt64, rttMicroseconds: UInt32, retransmits: UInt32,
        bytesSent: UInt64, bytesReceived: UInt64, openedNanoseconds: UInt64
    ) {
        self.id = id
        self.isOutbound = isOutbound
        self.peerNode = peerNode
        self.peer = peer
        self.localPrincipal = localPrincipal
        self.peerPrincipal = peerPrincipal
        self.streams = streams
        self.streamsTotal = streamsTotal
        self.rttMicroseconds = rttMicroseconds
        self.retransmits = retransmits
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
        self.openedNanoseconds = openedNanoseconds
    }
}

/// Sums over all loops since the process started, and gauges as of now.
package struct ProxyCounters: Equatable, Sendable {
    /// By `Reason`'s number; only those that are not 0.
    package var reasons: [UInt16: UInt64] = [:]
    package var connections: UInt32 = 0
    package var connectionsTotal: UInt64 = 0
    package var tunnels: UInt32 = 0
    package var tunnelsTotal: UInt64 = 0
    package var handshakesTotal: UInt64 = 0
    package var memoryHeld: UInt64 = 0
    package var memoryBudget: UInt64 = 0
    package var descriptors: UInt32 = 0
    package var descriptorsMax: UInt32 = 0
    package var bytesToTunnels: UInt64 = 0
    package var bytesFromTunnels: UInt64 = 0
    package var isOverloaded: Bool = false
    /// Records that did not fit the queue to meshd.
    package var recordsLost: UInt64 = 0
    package var namesAnswered: UInt64 = 0
    package var namesForwarded: UInt64 = 0
    /// Tunnels that were added because loss bounded what the others carried.
    package var tunnelsUnderLossTotal: UInt64 = 0

    package init() {}
}
