import AdminAPI
import CMeshABI
import Interception
import LinuxIO
import MeshModel
import ProxyControl
import Telemetry

/// Feeds the flow table from both sides: the kernel's events and the proxy's messages. It keeps the last report of the
/// proxy's own figures too.
final class FlowFeed {
    var table = FlowTable()
    private(set) var counters = ProxyCounters()
    private(set) var tunnels: [TunnelStatus] = []
    /// Over all proxies since meshd started.
    private(set) var proxyReasons = ContinuedSums()
    let records: RecordLog
    private let log: DaemonLog
    private let kernel: NodeKernel
    private let askProxy: () -> Void
    private var timers: [Reactor.TimerID] = []
    private var hasSwept = false

    /// What `meshctl top` can show as fresh.
    private static let sweepMilliseconds: UInt64 = 1_000
    /// Written in one second, at most: about 1 MB.
    private static let recordsPerSecondMax = 2_000

    var snapshot: Snapshot? {
        didSet { table.names = snapshot.map { FlowNames($0) } }
    }

    init(
        log: DaemonLog, records: RecordLog, kernel: NodeKernel, reactor: Reactor, askProxy: @escaping () -> Void
    ) {
        self.log = log
        self.records = records
        self.kernel = kernel
        self.askProxy = askProxy
        timers.append(
            reactor.schedule(afterMilliseconds: Self.sweepMilliseconds, every: Self.sweepMilliseconds) {
                [weak self] in self?.refresh()
            })
    }

    func take(_ event: mesh_event) {
        guard let flow = KernelFlowEvent(event, isLive: false) else { return }
        if flow.kind == .refused { log.refusal(flow) }
        table.record(flow)
    }

    func take(_ message: ProxyMessage) {
        let now = BootClock.nanoseconds()
        switch message {
        case .opened(let list):
            for opened in list {
                if !opened.allowed { log.refusal(opened) }
                table.record(ProxyFlowOpened(opened))
            }
        case .closed(let list):
            for closed in list { table.record(ProxyFlowClosed(closed)) }
        case .refused(let list):
            for refusal in list {
                log.refusal(refusal)
                table.recordPeerRefusal(
                    refusal.reason, peer: refusal.peer, principal: refusal.principal, now: now)
            }
        case .tunnels(let list): take(list)
        case .counters(let counters):
            self.counters = counters
            proxyReasons.report(counters.reasons)
        // The interceptor's business.
        case .snapshotInUse, .nodeUnreachable, .nodeReachable, .hello, .needDialSockets, .drained: break
        }
    }

    func proxyConnected() { proxyReasons.processEnded() }

    func proxyEnded() {
        table.proxyEnded(now: BootClock.nanoseconds())
        (counters, tunnels) = (ProxyCounters(), [])
    }

    /// meshd ends: what waits for its record gets it now.
    func stop() { writeRecords(isLast: true) }

    // MARK: private

    private func take(_ list: [TunnelStatus]) {
        tunnels = list
        for tunnel in list {
            table.recordTunnel(
                tunnel.id, rttMicroseconds: tunnel.rttMicroseconds, retransmits: tunnel.retransmits)
        }
        table.keepTunnels(Set(list.map(\.id)))
    }

    private func refresh() {
        askProxy()
        let now = BootClock.nanoseconds()
        table.beginSweep(now: now)
        do {
            try kernel.readLiveFlows { event in
                if let flow = KernelFlowEvent(event, isLive: true) { table.record(flow, addsUnknown: !hasSwept) }
            }
            try kernel.readDatagramFlows(now: now) { event in
                if let flow = KernelFlowEvent(event, isLive: true) { table.record(flow, addsUnknown: true) }
            }
            hasSwept = true
            table.endSweep(now: BootClock.nanoseconds())
        } catch {
            log.error("live flows are not read: \(error)")
        }
        writeRecords()
        table.expire(now: BootClock.nanoseconds())
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
    init(_ opened: ConnectionOpened) {
        let direction: FlowDirection =
            switch opened.direction {
            case .outbound: .outbound
            case .inbound: .inbound
            case .local: .local
            }
        self.init(
            id: opened.id, direction: direction, cookie: opened.cookie, source: opened.source,
            originalDestination: opened.originalDestination)
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
    init(_ closed: ConnectionClosed) {
        self.init(id: closed.id)
        bytesSent = closed.bytesSent
        bytesReceived = closed.bytesReceived
        reason = closed.reason
        connectMicroseconds = closed.connectMicroseconds
        firstByteMicroseconds = closed.firstByteMicroseconds
        closedNanoseconds = closed.closedNanoseconds
        decidedBy = closed.decidedBy
    }
}
