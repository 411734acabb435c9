import MeshModel
import ProxyControl

/// One message of every kind, no field at its default.
enum Samples {
    static let peer = SocketAddress(IPAddress(ipv4: 0x0a01_0203), 4711)
    static let other = SocketAddress(IPAddress(high: 0xfd00_0000_0000_0001, low: 77), 15008)
    static let principal = "spiffe://culvert.example/ns/shop/sa/web"

    static func reason(_ number: UInt16) -> Reason {
        guard let reason = Reason(listed: number) else { preconditionFailure("no reason \(number)") }
        return reason
    }

    static let listener = ListenerDescription(
        id: 7, kind: .tunnel, networkNamespace: NetworkNamespaceID(rawValue: 3), address: other, loop: 1)
    static let pool = DialPool(
        purpose: .application, networkNamespace: NetworkNamespaceID(rawValue: 9), isIPv6: true)

    static let supervisor: [SupervisorMessage] = [
        .welcome(settings),
        .snapshot(version: 1 << 40, length: 99),
        .certificate(WorkloadCertificate(principal: principal, chain: [1, 2, 3], key: SecretBytes(copying: [4, 5]))),
        .retireCertificate(principal: principal),
        .trust(trustDomain: "culvert.example", bundle: Array(repeating: 7, count: 300)),
        .listener(listener),
        .closeListener(id: 12),
        .dialSockets(pool: pool),
        .workloadGone(WorkloadID(rawValue: 5)),
        .networkNamespaceGone(NetworkNamespaceID(rawValue: 6)),
        .drain(deadlineMilliseconds: 30_000, listenersStay: true),
        .report,
        .giveListeners,
        .nameAdmitted(token: 1 << 48 | 7),
    ]

    /// Behind what the first version of the message had.
    static func appendedBytes(of message: SupervisorMessage) -> Int {
        switch message {
        case .drain: 1
        case .welcome: 4
        default: 0
        }
    }

    static func appendedBytes(of message: ProxyMessage) -> Int {
        switch message {
        case .hello: 1
        case .counters: 8
        default: 0
        }
    }

    private static var hello: ProxyHello {
        var hello = ProxyHello(
            pid: 4242, loops: 2, snapshotVersion: 17, listeners: [listener, listener], principals: [principal, ""],
            connections: 3)
        hello.isDraining = true
        return hello
    }

    static let proxy: [ProxyMessage] = [
        .hello(hello),
        .snapshotInUse(version: 18),
        .needDialSockets(pool: pool, count: 64),
        .nodeUnreachable(NodeID(rawValue: 2), errno: 113, reason: reason(99)),
        .nodeReachable(NodeID(rawValue: 2)),
        .opened([opened, opened]),
        .closed([
            ConnectionClosed(
                id: 1, bytesSent: 2, bytesReceived: 3, reason: reason(102), connectMicroseconds: 4,
                firstByteMicroseconds: 5, closedNanoseconds: 6,
                decidedBy: RuleName(policy: "shop/web", rule: "rules[0]"))
        ]),
        .refused([PeerRefusal(reason: reason(32), peer: peer, principal: principal, subject: "p-00.culvert.internal")]),
        .tunnels([
            TunnelStatus(
                id: 1, isOutbound: true, peerNode: NodeID(rawValue: 2), peer: other, localPrincipal: principal,
                peerPrincipal: principal, streams: 3, streamsTotal: 4, rttMicroseconds: 5, retransmits: 6,
                bytesSent: 7, bytesReceived: 8, openedNanoseconds: 9)
        ]),
        .counters(counters),
        .drained,
        .nameResolved(
            NameResolution(
                token: 1 << 48 | 7, workload: WorkloadID(rawValue: 9), name: "www.outside.example",
                addresses: [IPAddress(ipv4: 0xc000_0201), IPAddress(high: 0x2001_0db8 << 32, low: 1)],
                timeToLiveSeconds: 60)),
        .listener(listener),
    ]

    private static let opened = ConnectionOpened(
        id: 1, direction: .inbound, cookie: 2, dialCookie: 3, sourceWorkload: WorkloadID(rawValue: 4),
        destinationWorkload: WorkloadID(rawValue: 5), service: ServiceID(rawValue: 6), sourcePrincipal: principal,
        destinationPrincipal: principal, source: peer, originalDestination: other, upstream: peer,
        peerNode: NodeID(rawValue: 7), tunnel: 8, allowed: true, reason: reason(0), policyGeneration: 9,
        openedNanoseconds: 10, decidedBy: RuleName(policy: "shop/web", rule: "rules[1]"),
        dryRunDenial: RuleName(policy: "shop/trial", rule: "no-match"))

    private static var settings: ProxySettings {
        var settings = ProxySettings()
        settings.loops = 3
        settings.memoryBudget = 16 << 20
        settings.descriptorsMax = 256
        settings.tunnelsMax = 11
        settings.streamsPerTunnelMax = 12
        settings.handshakeTimeoutMilliseconds = 13
        settings.headersTimeoutMilliseconds = 14
        settings.connectTimeoutMilliseconds = 15
        settings.idleTunnelTimeoutMilliseconds = 16
        settings.pingIntervalMilliseconds = 17
        settings.pingTimeoutMilliseconds = 18
        settings.slowPeerTimeoutMilliseconds = 19
        settings.beatIntervalMilliseconds = 20
        settings.tunnelPort = 21
        settings.node = "a"
        settings.trustDomain = "culvert.example"
        settings.meshDomain = "mesh.internal"
        settings.namesTimeToLiveSeconds = 4
        settings.cluster = "east"
        settings.tunnelsUnderLossMax = 5
        return settings
    }

    private static var counters: ProxyCounters {
        var counters = ProxyCounters()
        counters.reasons = [32: 4, 160: 1]
        counters.connections = 1
        counters.connectionsTotal = 2
        counters.tunnels = 3
        counters.tunnelsTotal = 4
        counters.handshakesTotal = 5
        counters.memoryHeld = 6
        counters.memoryBudget = 7
        counters.descriptors = 8
        counters.descriptorsMax = 9
        counters.bytesToTunnels = 10
        counters.bytesFromTunnels = 11
        counters.isOverloaded = true
        counters.recordsLost = 12
        counters.namesAnswered = 13
        counters.namesForwarded = 14
        counters.tunnelsUnderLossTotal = 15
        return counters
    }
}
