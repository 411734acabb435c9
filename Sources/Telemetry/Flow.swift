import CMeshABI
import MeshModel

/// One flow as the table keeps it. Small on purpose: there is one for every open connection of the node. Names are
/// shared objects; series are indices.
struct Flow {
    enum Progress: UInt8 {
        case open, closed, refused
    }

    struct Marks: OptionSet {
        let rawValue: UInt16
        /// The kernel's counters are there and win over the proxy's.
        static let kernelCounts = Marks(rawValue: 1)
        /// The client's socket is on this node: its counters win over the server's.
        static let clientCounts = Marks(rawValue: 2)
        static let approximate = Marks(rawValue: 4)
        static let passthrough = Marks(rawValue: 8)
        static let denied = Marks(rawValue: 16)
        /// The proxy has told its decision.
        static let decided = Marks(rawValue: 32)
        static let socketClosed = Marks(rawValue: 64)
        /// The series have counted its end.
        static let seriesClosed = Marks(rawValue: 128)
        /// The service is for metrics only: that the client called it by this name is not known.
        static let serviceInferred = Marks(rawValue: 256)
        /// A tunnel peer that was turned away: strangers can make as many as they like.
        static let peerRefusal = Marks(rawValue: 512)
        /// Plain text from outside the mesh.
        static let plaintext = Marks(rawValue: 1024)
        /// Of UDP: one socket and one peer.
        static let datagram = Marks(rawValue: 16_384)
        /// Between two workloads of this node without the proxy.
        static let direct = Marks(rawValue: 4096)
        /// The series leave out what it carried before this meshd ran.
        static let baselined = Marks(rawValue: 2048)
    }

    var id: UInt64
    /// Order of change; the list by `previous` and `next` is sorted by it.
    var change: UInt64 = 0
    var previous: Int32 = -1
    var next: Int32 = -1

    var proxyID: UInt64 = 0
    /// The proxy process that carries it.
    var proxy: Int32 = 0
    /// Of the client's socket, for outbound and local flows.
    var cookie: UInt64 = 0
    /// Of the proxy's dial socket, for inbound and local flows.
    var dialCookie: UInt64 = 0

    var openedNanoseconds: UInt64
    /// 0 while it is open.
    var endedNanoseconds: UInt64 = 0
    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0
    var datagramsSent: UInt64 = 0
    var datagramsReceived: UInt64 = 0
    /// What the series have counted already.
    var countedSent: UInt64 = 0
    var countedReceived: UInt64 = 0

    var source: SocketAddress
    var destination: SocketAddress
    var sourceFacts: WorkloadFacts?
    var destinationFacts: WorkloadFacts?
    var service: ServiceFacts?
    var sourcePrincipal = SharedName.none
    var destinationPrincipal = SharedName.none
    var peerNode = SharedName.none
    var command = SharedName.none
    var destinationCommand = SharedName.none
    /// What decided, as `RuleName` is described.
    var decidedBy = SharedName.none
    var dryRunDenial = SharedName.none
    var pid: UInt32 = 0
    var destinationPid: UInt32 = 0

    var tunnel: UInt32 = 0
    var rttMicroseconds: UInt32 = 0
    var retransmits: UInt32 = 0
    /// The last reading of the live sockets that had it.
    var sweep: UInt32 = 0
    var sourceSeries = IstioSeries.none
    var destinationSeries = IstioSeries.none
    var reason: UInt16 = 0
    var direction = FlowDirection.outbound
    var progress = Progress.open
    var marks: Marks = []

    init(id: UInt64, openedNanoseconds: UInt64, source: SocketAddress, destination: SocketAddress) {
        self.id = id
        self.openedNanoseconds = openedNanoseconds
        self.source = source
        self.destination = destination
    }

    /// Takes the proxy's decision over.
    mutating func decide(_ opened: ProxyFlowOpened, names: FlowNames?, pool: inout NamePool) {
        (proxyID, proxy) = (opened.id, opened.proxy)
        direction = opened.direction
        switch opened.direction {
        case .outbound: cookie = opened.cookie
        case .inbound: dialCookie = opened.cookie
        case .local: (cookie, dialCookie) = (opened.cookie, opened.dialCookie)
        }
        sourcePrincipal = pool.name(opened.sourcePrincipal)
        destinationPrincipal = pool.name(opened.destinationPrincipal)
        source = opened.source
        destination = opened.originalDestination
        sourceFacts =
            names?.workload(opened.sourceWorkload)
            ?? names?.workload(principal: opened.sourcePrincipal, address: opened.source.address)
        destinationFacts =
            names?.workload(opened.destinationWorkload)
            ?? names?.workload(
                principal: opened.destinationPrincipal, address: opened.originalDestination.address,
                takesAny: opened.allowed)
        service = names?.service(opened.service)
        if service == nil, direction == .inbound {
            service = names?.service(ofEndpoint: opened.destinationWorkload)
            marks.insert(.serviceInferred)
        }
        peerNode = names?.nodeName(opened.peerNode) ?? .none
        tunnel = opened.tunnel
        reason = UInt16(truncatingIfNeeded: opened.reason.rawValue)
        if opened.openedNanoseconds != 0 { openedNanoseconds = opened.openedNanoseconds }
        decidedBy = pool.name(opened.decidedBy.description)
        dryRunDenial = pool.name(opened.dryRunDenial.description)
        marks.insert(.decided)
        if direction == .inbound && opened.sourcePrincipal.isEmpty { marks.insert(.plaintext) }
        if !opened.allowed { marks.insert(.denied) }
    }

    /// Takes what the kernel counted for one of the flow's application sockets.
    mutating func count(_ event: KernelFlowEvent) {
        let isClient = !event.role.isServer
        guard isClient || !marks.contains(.clientCounts) else { return }
        if isClient { marks.insert(.clientCounts) }
        marks.insert(.kernelCounts)
        bytesSent = isClient ? event.bytesSent : event.bytesReceived
        bytesReceived = isClient ? event.bytesReceived : event.bytesSent
        if event.approximate { marks.insert(.approximate) }
        datagramsSent = isClient ? event.datagramsSent : event.datagramsReceived
        datagramsReceived = isClient ? event.datagramsReceived : event.datagramsSent
        // The loopback leg's figures mean nothing: they are the tunnel's unless the socket reaches out itself.
        if event.role == .passthrough || event.role == .plain || event.role == .direct {
            rttMicroseconds = event.rttMicroseconds
            retransmits = event.retransmits
        }
    }

    mutating func take(process event: KernelFlowEvent, pool: inout NamePool) {
        switch event.role {
        case .served, .plain, .datagramServed, .directServed:
            destinationPid = event.pid
            destinationCommand = pool.name(event.command)
        case .captured, .passthrough, .refused, .datagram, .direct:
            pid = event.pid
            command = pool.name(event.command)
        }
    }

    /// See `FlowRow.path`. Empty for what was refused, and until the proxy has said where it goes.
    var path: String {
        if progress == .refused { return "" }
        if marks.contains(.direct) { return "direct" }
        if marks.contains(.passthrough) || marks.contains(.plaintext) { return "plain" }
        if tunnel != 0 { return "tunnel" }
        return direction == .local ? "relayed" : ""
    }

    var security: ConnectionSecurity {
        if marks.contains(.plaintext) { return .none }
        return tunnel != 0 && !marks.contains(.passthrough) ? .mutualTLS : .unknown
    }
    var proxyKey: FlowTable.ProxyNumber<UInt64> { .init(proxy: proxy, number: proxyID) }
    var tunnelKey: FlowTable.ProxyNumber<UInt32> { .init(proxy: proxy, number: tunnel) }
    var responseFlags: ResponseFlags {
        ResponseFlags(Reason(number: reason) ?? .MESH_REASON_NONE, isDenied: marks.contains(.denied))
    }

    func labels(isSourceReporter: Bool, flags: ResponseFlags) -> IstioSeries.Labels {
        IstioSeries.Labels(
            isSourceReporter: isSourceReporter,
            source: sourceFacts?.sourceLabels ?? IstioWorkloadLabels.unknownSource,
            destination: destinationFacts?.destinationLabels ?? IstioWorkloadLabels.unknownDestination,
            sourcePrincipal: sourcePrincipal.text, destinationPrincipal: destinationPrincipal.text,
            service: service?.labels ?? Self.serviceLabels(destinationFacts), flags: flags, security: security)
    }

    /// For a workload that was called by its own address: Istio leaves the service unknown but names the namespace.
    private static func serviceLabels(_ facts: WorkloadFacts?) -> String {
        PrometheusText.labelText([
            ("destination_service", "unknown"), ("destination_service_name", "unknown"),
            ("destination_service_namespace", facts?.namespace ?? "unknown"),
        ])
    }
}
