import AdminAPI
import CMeshABI
import Interception
import LinuxIO
import MeshModel
import ProxyControl
import Telemetry

/// Feeds the flow table from both sides: the kernel's events and the proxies' messages. It keeps what they report of
/// themselves too.
final class FlowFeed {
    var table = FlowTable(began: BootClock.nanoseconds())
    private(set) var figures = ProxyFigures()
    private(set) var peers = PeerLegs()
    let records: RecordLog
    private let cluster: String
    private let log: DaemonLog
    private let kernel: NodeKernel
    private let askProxies: () -> Void
    /// What policies say of a direct connection's accepted socket, and of egress that was refused.
    var ruling: (mesh_event) -> ConnectionRuling? = { _ in nil }
    /// And of plain text that the kernel alone judged.
    var plaintextRuling: (mesh_event) -> ConnectionRuling? = { _ in nil }
    var sawLive: (mesh_event) -> Void = { _ in }
    private var timers: [Reactor.TimerID] = []
    private var hasSwept = false
    /// When live flows were read last, and how long that took.
    private var swept: (atNanoseconds: UInt64, nanoseconds: UInt64) = (0, 0)
    private let succession: FlowSuccession
    /// What an earlier meshd left, until its proxy is here.
    private var inherited: [Int32: [FlowInheritance]]

    private static let sweepMilliseconds: UInt64 = 1_000
    /// What may be shown to who asks without being read again.
    private static let freshNanoseconds: UInt64 = 100_000_000
    /// Of meshd's time, reading on demand takes a twentieth at most.
    private static let pausePerReading: UInt64 = 20
    /// Written in one second, at most: about 1 MB.
    private static let recordsPerSecondMax = 2_000

    var snapshot: Snapshot? {
        didSet { table.names = snapshot.map { FlowNames($0, cluster: cluster) } }
    }

    init(
        cluster: String, log: DaemonLog, records: RecordLog, succession: FlowSuccession, kernel: NodeKernel,
        reactor: Reactor, askProxies: @escaping () -> Void
    ) {
        self.succession = succession
        inherited = succession.take()
        table.inherit(told: succession.takeTold())
        self.cluster = cluster
        self.log = log
        self.records = records
        self.kernel = kernel
        self.askProxies = askProxies
        timers.append(
            reactor.schedule(afterMilliseconds: Self.sweepMilliseconds, every: Self.sweepMilliseconds) {
                [weak self] in self?.tick()
            })
    }

    func take(_ event: mesh_event) {
        guard let flow = flowEvent(event, isLive: false) else { return }
        if flow.kind == .refused { log.refusal(flow) }
        table.record(flow)
    }

    func end(_ cookie: UInt64, _ ruling: ConnectionRuling) {
        table.recordDenial(cookie: cookie, reason: ruling.reason, decidedBy: ruling.decidedBy)
    }

    /// `proxy` is the process that says so.
    func take(_ message: ProxyMessage, from proxy: Int32) {
        let now = BootClock.nanoseconds()
        switch message {
        case .opened(let list):
            for opened in list {
                if !opened.allowed { log.refusal(opened) }
                table.record(ProxyFlowOpened(opened, proxy: proxy))
            }
        case .closed(let list):
            for closed in list { table.record(ProxyFlowClosed(closed, proxy: proxy)) }
        case .refused(let list):
            for refusal in list {
                log.refusal(refusal)
                table.recordPeerRefusal(
                    refusal.reason, peer: refusal.peer, principal: refusal.principal, now: now)
            }
        case .tunnels(let list): take(list, of: proxy)
        case .counters(let counters): figures.take(counters, of: proxy)
        // The interceptor's business.
        case .snapshotInUse, .nodeUnreachable, .nodeReachable, .hello, .needDialSockets, .listener, .drained,
            .nameResolved:
            break
        }
    }

    /// A fresh one with the number of an earlier one has nothing of its flows.
    func proxyConnected(_ proxy: Int32, isFresh: Bool) {
        for flow in inherited.removeValue(forKey: proxy) ?? [] where !isFresh { table.inherit(flow) }
    }

    func proxyEnded(_ proxy: Int32) {
        inherited[proxy] = nil
        table.proxyEnded(proxy, now: BootClock.nanoseconds())
        figures.end(proxy)
    }

    /// Somebody is about to look at the table: live figures are as of now, or little older.
    func freshen() {
        let age = BootClock.nanoseconds() - swept.atNanoseconds
        guard age > max(Self.freshNanoseconds, swept.nanoseconds * Self.pausePerReading) else { return }
        readLiveFlows()
    }

    /// meshd ends: what waits for its record gets it now.
    func stop() {
        writeRecords(isLast: true)
        do {
            try succession.save(table.inheritance())
            try succession.save(told: table.toldSockets())
        } catch {
            log.error("open flows are not kept: \(error)")
        }
    }

    // MARK: private

    private func take(_ list: [TunnelStatus], of proxy: Int32) {
        figures.take(list, of: proxy)
        for tunnel in list {
            table.recordTunnel(
                tunnel.id, ofProxy: proxy, rttMicroseconds: tunnel.rttMicroseconds, retransmits: tunnel.retransmits)
        }
        table.keepTunnels(Set(list.map(\.id)), ofProxy: proxy)
        peers.take(
            list.map { tunnel in
                PeerLegs.Tunnel(
                    id: tunnel.id, openedNanoseconds: tunnel.openedNanoseconds,
                    peer: snapshot?.node(tunnel.peerNode)?.name ?? "", rttMicroseconds: tunnel.rttMicroseconds,
                    retransmits: tunnel.retransmits)
            }, now: BootClock.nanoseconds())
    }

    private func tick() {
        askProxies()
        // Who watches has had them read, at his own pace: readings between his would spoil the rates that he computes.
        if BootClock.nanoseconds() - swept.atNanoseconds > Self.sweepMilliseconds * 900_000 { readLiveFlows() }
        writeRecords()
        table.expire(now: BootClock.nanoseconds())
    }

    private func readLiveFlows() {
        let now = BootClock.nanoseconds()
        defer { swept = (now, BootClock.nanoseconds() - now) }
        table.beginSweep(now: now)
        do {
            var withoutProxy: [mesh_event] = []
            try kernel.readLiveFlows { event in
                guard let flow = flowEvent(event, isLive: true) else { return }
                table.record(flow, addsUnknown: !hasSwept)
                if flow.role.isJudgedByKernel { withoutProxy.append(event) }
            }
            for event in withoutProxy { sawLive(event) }
            try kernel.readDatagramFlows(now: now) { event in recordDatagrams(event) }
            hasSwept = true
            table.endSweep(now: BootClock.nanoseconds())
        } catch {
            log.error("live flows are not read: \(error)")
        }
    }

    /// False for a peer that the policies deny by now.
    private func recordDatagrams(_ event: mesh_event) -> Bool {
        // Ended already, though its socket goes on.
        if event.socket.flags & UInt8(MESH_SOCKET_DENIED) != 0 { return true }
        guard var flow = KernelFlowEvent(event, isLive: true) else { return true }
        let ruling = flow.role == .datagramServed ? plaintextRuling(event) : nil
        if let ruling { (flow.decidedBy, flow.dryRunDenial) = (ruling.decidedBy, ruling.dryRunDenial) }
        table.record(flow, addsUnknown: true)
        guard let ruling, ruling.reason != .MESH_REASON_NONE, flow.kind == .live else { return true }
        table.recordDenial(cookie: flow.cookie, reason: ruling.reason, decidedBy: ruling.decidedBy)
        flow.kind = .closed
        table.record(flow)
        return false
    }

    private func flowEvent(_ event: mesh_event, isLive: Bool) -> KernelFlowEvent? {
        guard var flow = KernelFlowEvent(event, isLive: isLive) else { return nil }
        if flow.kind == .refused, flow.role == .plain, flow.reason == .MESH_REASON_POLICY_DENIED {
            // The policies in force may be others by now.
            if let ruling = plaintextRuling(event), ruling.reason == flow.reason { flow.decidedBy = ruling.decidedBy }
            return flow
        }
        // Once for each: as it opens or is refused, or, if it is older than this meshd, in the first reading.
        let isFirst = flow.kind == .refused || flow.role == .directServed && (flow.kind == .opened || !hasSwept)
        if isFirst, let ruling = ruling(event) {
            (flow.decidedBy, flow.dryRunDenial) = (ruling.decidedBy, ruling.dryRunDenial)
        }
        return flow
    }

    private func writeRecords(isLast: Bool = false) {
        let wall = WallClock.milliseconds()
        let rows = table.takeSettled(
            now: BootClock.nanoseconds(), limit: Self.recordsPerSecondMax, isLast: isLast)
        let wasWell = records.failure == nil
        records.append(
            rows.map { row in
                ConnectionRecord(row, endedWallMilliseconds: wall - Int64(clamping: row.endedMilliseconds)).jsonBytes
            })
        if wasWell, let failure = records.failure { log.error("connection records are not kept: \(failure)") }
    }
}

extension ProxyFlowOpened {
    init(_ opened: ConnectionOpened, proxy: Int32) {
        let direction: FlowDirection =
            switch opened.direction {
            case .outbound: .outbound
            case .inbound: .inbound
            case .local: .local
            }
        self.init(
            id: opened.id, direction: direction, cookie: opened.cookie, source: opened.source,
            originalDestination: opened.originalDestination)
        self.proxy = proxy
        dialCookie = opened.dialCookie
        sourceWorkload = opened.sourceWorkload
        destinationWorkload = opened.destinationWorkload
        service = opened.service
        sourcePrincipal = opened.sourcePrincipal
        destinationPrincipal = opened.destinationPrincipal
        peerNode = opened.peerNode
        tunnel = opened.tunnel
        allowed = opened.allowed
        reason = opened.reason
        openedNanoseconds = opened.openedNanoseconds
        decidedBy = opened.decidedBy
        dryRunDenial = opened.dryRunDenial
    }
}

extension ProxyFlowClosed {
    init(_ closed: ConnectionClosed, proxy: Int32) {
        self.init(id: closed.id)
        self.proxy = proxy
        bytesSent = closed.bytesSent
        bytesReceived = closed.bytesReceived
        reason = closed.reason
        connectMicroseconds = closed.connectMicroseconds
        firstByteMicroseconds = closed.firstByteMicroseconds
        closedNanoseconds = closed.closedNanoseconds
        decidedBy = closed.decidedBy
    }
}
