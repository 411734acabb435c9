import CLinux
import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import MeshPolicy
import ProxyControl

// Captured connections of this node's workloads: where they meant to go, whom that means, and the stream (or the local
// relay) that takes them there. Nothing waits for the application's first byte: the server may be the one that speaks.

/// What a captured connection's original destination means.
enum OutboundRoute {
    /// On another node, by tunnel.
    case remote(OutboundRequest)
    /// On this node.
    case local(WorkloadID, SocketAddress)
    case refused(Reason)
}

extension UnsafeMutablePointer<LoopState> {
    /// A socket from one of the capture listeners, or handed over by another loop.
    func capturedCame(_ descriptor: Int32, _ captured: mesh_socket, isHandedOver: Bool) {
        var record = openRecord(captured)
        guard let snapshot = pointee.snapshot else {
            return refuseCaptured(descriptor, record, .MESH_REASON_SNAPSHOT_MISSING)
        }
        record.policyGeneration = snapshot.policyGeneration
        if pointee.shared.budget.isTight { return refuseCaptured(descriptor, record, .MESH_REASON_MEMORY_BUDGET) }
        if isForResolver(record, snapshot) { return openConversation(descriptor, record, snapshot) }
        switch route(&record, snapshot) {
        case .refused(let reason): refuseCaptured(descriptor, record, reason)
        case .local(let workload, let address):
            openLocalRelay(descriptor, record, destination: workload, address: address, snapshot)
        case .remote(let request):
            if !isHandedOver && handOver(descriptor, captured, request.key) { return }
            openOutbound(descriptor, record, request)
        }
    }

    func openRecord(_ captured: mesh_socket) -> OpenRecord {
        OpenRecord(
            id: takeConnectionID(), direction: .outbound, cookie: captured.cookie,
            sourceWorkload: WorkloadID(rawValue: captured.workload), source: SocketAddress(captured.source),
            originalDestination: SocketAddress(captured.destination),
            upstream: SocketAddress(captured.destination), openedNanoseconds: pointee.now)
    }

    /// Gives the socket to the loop that has the tunnel. Once, at accept; true when it is gone.
    private func handOver(_ descriptor: Int32, _ captured: mesh_socket, _ key: TunnelKey) -> Bool {
        guard pointee.pool[key] == nil, pointee.drainDeadline == nil else { return false }
        let owner = pointee.shared.directory.owner(of: key, for: pointee.index)
        guard owner != pointee.index, let mailbox = pointee.shared.mailbox(of: owner) else { return false }
        mailbox.post(.handOver(descriptor: descriptor, captured: captured))
        return true
    }

    private func openOutbound(_ descriptor: Int32, _ record: OpenRecord, _ request: OutboundRequest) {
        let stream = addStream(.waitingForTunnel, descriptor: descriptor, state: .client(), record.id)
        stream.pointee.workload = record.sourceWorkload
        stream.pointee.opening = pointee.openings.take()
        stream.pointee.opening?.initialize(to: Opening(side: .client(request), record: record))
        // The dial has its own, shorter waits: this one bounds them together.
        stream.arm(after: pointee.settings.connectTimeout + pointee.settings.handshakeTimeout)
        watchEdges(descriptor, stream)
        place(stream, request.key)
    }

    func addStream(
        _ phase: Stream.Phase, descriptor: Int32, state: StreamState, _ connectionID: UInt64
    ) -> StreamPointer {
        let stream = pointee.streams.take()
        stream.initialize(to: Stream(phase, descriptor: descriptor, state: state, loop: self, now: pointee.now))
        stream.pointee.connectionID = connectionID
        pointee.allStreams.insert(stream)
        pointee.counters.connections += 1
        pointee.counters.connectionsTotal += 1
        return stream
    }

    func takeConnectionID() -> UInt64 {
        defer { pointee.nextConnection += 1 }
        return pointee.nextConnection
    }

    /// A connection that can't be carried: the application sees a reset, the operator the reason.
    func refuseCaptured(_ descriptor: Int32, _ record: OpenRecord, _ reason: Reason) {
        close(descriptor, resets: true)
        pointee.counters.count(reason)
        var record = record
        record.isAllowed = false
        record.reason = reason
        pointee.reports.append(.opened(record))
    }

    // MARK: routing

    private func route(_ record: inout OpenRecord, _ snapshot: Snapshot) -> OutboundRoute {
        guard let source = snapshot.workload(record.sourceWorkload), source.isLocal else {
            return .refused(.MESH_REASON_WORKLOAD_NOT_READY)
        }
        record.sourcePrincipal = source.principal
        let original = record.originalDestination
        switch snapshot.route(network: source.network, destination: original) {
        case nil: return .refused(.MESH_REASON_NO_ROUTE)
        case .workload(let id, let port):
            return route(to: id, port: port, isIPv6: !original.address.isIPv4, &record, snapshot)
        case .service(let id, let port):
            record.service = id
            guard let endpoints = snapshot.service(id)?.endpoints(port: port), !endpoints.isEmpty else {
                return .refused(.MESH_REASON_NO_ENDPOINTS)
            }
            guard let endpoint = choose(endpoints, snapshot) else {
                return .refused(.MESH_REASON_ENDPOINT_UNREACHABLE)
            }
            return route(
                to: endpoint.workload, port: endpoint.targetPort, isIPv6: !original.address.isIPv4, &record, snapshot)
        }
    }

    /// One of the endpoints whose nodes answer, each as likely as the other.
    private func choose(_ endpoints: EndpointList, _ snapshot: Snapshot) -> Endpoint? {
        let count = endpoints.count
        let start = Int(pointee.random.next() % UInt64(count))
        for offset in 0..<count {
            let endpoint = endpoints[(start + offset) % count]
            guard let workload = snapshot.workload(endpoint.workload) else { continue }
            if workload.isLocal ? workload.isRunning : pointee.nodes[workload.node] == nil { return endpoint }
        }
        return nil
    }

    private func route(
        to id: WorkloadID, port: UInt16, isIPv6: Bool, _ record: inout OpenRecord, _ snapshot: Snapshot
    ) -> OutboundRoute {
        guard let workload = snapshot.workload(id) else { return .refused(.MESH_REASON_NO_ROUTE) }
        record.destinationWorkload = id
        record.destinationPrincipal = workload.principal
        record.peerNode = workload.node
        guard let address = workload.address(isIPv6: isIPv6) ?? workload.address(isIPv6: !isIPv6) else {
            return .refused(.MESH_REASON_NO_ROUTE)
        }
        record.upstream = SocketAddress(address, port)
        if workload.isLocal { return .local(id, record.upstream) }
        let key = TunnelKey(client: record.sourcePrincipal, server: workload.principal, node: workload.node)
        return .remote(
            OutboundRequest(
                key: key, authority: record.upstream, client: record.source, workload: record.sourceWorkload,
                service: record.service))
    }
}

extension UnsafeMutablePointer<Stream> {
    /// The request of a stream that is not open yet.
    private var request: OutboundRequest? {
        guard case .client(let request) = pointee.opening?.pointee.side else { return nil }
        return request
    }

    /// Whether it can go to another tunnel as if nothing had been: no answer has come, and all that the application
    /// said is kept. Only for streams that the peer is known not to have looked at.
    var isRetriable: Bool {
        guard pointee.phase == .requested, let opening = pointee.opening else { return false }
        return opening.pointee.attempts < 3 && opening.pointee.early.isComplete
    }

    /// Sends the CONNECT on an open tunnel with room.
    func sendRequest(on tunnel: TunnelPointer) {
        let loop = pointee.loop
        guard let request else { return abort(.MESH_REASON_STATE_MISSING) }
        pointee.opening?.pointee.attempts += 1
        pointee.tunnel = tunnel
        pointee.id = tunnel.pointee.nextStreamID
        tunnel.pointee.nextStreamID += 2
        pointee.phase = .requested
        pointee.flags.insert(.attached)
        pointee.sendWindow = SendWindow(initial: tunnel.pointee.settings.initialWindowSize)
        pointee.receiveWindow = ReceiveWindow()
        tunnel.pointee.table.insert(self)
        tunnel.pointee.streamsTotal += 1
        guard tunnel.queueRequest(request, streamID: pointee.id) else {
            return tunnel.end(.MESH_REASON_PROTOCOL_ERROR)
        }
        let increment = pointee.receiveWindow.start(loop.pointee.shared.budget.room)
        if increment > 0 { tunnel.queueWindowUpdate(pointee.id, increment) }
        arm(after: loop.pointee.settings.headersTimeout + loop.pointee.settings.connectTimeout)
        wantsToSend()
    }

    /// Tries another tunnel. `leavesFull`: the peer takes no more in this one until a stream of it has ended.
    func retry(leavesFull: Bool = false) {
        guard let request else { return abort(.MESH_REASON_STATE_MISSING) }
        let tunnel = pointee.tunnel
        detach()
        // A key is in numbers: those of a snapshot since may mean somebody else.
        if let tunnel, !pointee.loop.isKeyTrue(tunnel) { return end(.MESH_REASON_TUNNEL_LOST, resets: true) }
        if leavesFull { tunnel?.pointee.flags.insert(.full) }
        rewindEarly()
        pointee.state = .client()
        pointee.phase = .waitingForTunnel
        pointee.tunnel = nil
        pointee.loop.place(self, request.key)
    }

    /// The peer's answer to the CONNECT.
    func answerCame(_ outcome: ConnectResponseReader.Outcome, _ endsStream: Bool) {
        guard pointee.phase == .requested else {
            perform(pointee.state.event(.trailers))
            return
        }
        switch outcome {
        case .interim: break
        case .accepted:
            let action = pointee.state.event(.accepted(endsStream: endsStream))
            opened()
            perform(action)
            if !isDead { detachIfClosed() }
            if !isDead { wantsToSend() }
        case .refused(let status): perform(pointee.state.event(.refused(ConnectResponse.reason(for: status))))
        case .malformed(let fault):
            perform(pointee.state.event(.abort(fault)))
        }
    }

    /// The connection is made: what was needed for that is let go.
    func opened() {
        let loop = pointee.loop
        disarm()
        pointee.phase = .open
        pointee.connectMicroseconds = UInt32(clamping: (loop.pointee.now - pointee.openedAt) / 1_000)
        guard let opening = pointee.opening else { return }
        opening.pointee.record.tunnel = pointee.tunnel?.pointee.id ?? 0
        loop.pointee.reports.append(.opened(opening.pointee.record))
        pointee.announcement = Announcement(opening.pointee.record)
        pointee.flags.insert(.reported)
        if !pointee.flags.contains(.repeats) { freeOpening() }
    }

    /// Tells the record's end: what was announced is closed, what never opened is told as refused.
    func report(_ reason: Reason) {
        let loop = pointee.loop
        loop.pointee.counters.count(reason)
        guard pointee.flags.contains(.reported) else {
            guard let opening = pointee.opening else { return }
            opening.pointee.record.isAllowed = reason == .MESH_REASON_NONE
            opening.pointee.record.reason = reason
            opening.pointee.record.denied(by: loop.pointee.denyingRule)
            opening.pointee.record.tunnel = pointee.tunnel?.pointee.id ?? 0
            loop.pointee.reports.append(.opened(opening.pointee.record))
            return
        }
        let isClient = pointee.state.role == .client
        loop.pointee.reports.append(
            .closed(
                ConnectionClosed(
                    id: pointee.connectionID,
                    bytesSent: isClient ? pointee.bytesToTunnel : pointee.bytesFromTunnel,
                    bytesReceived: isClient ? pointee.bytesFromTunnel : pointee.bytesToTunnel,
                    reason: reason, connectMicroseconds: pointee.connectMicroseconds,
                    firstByteMicroseconds: pointee.firstByteMicroseconds, closedNanoseconds: loop.pointee.now,
                    decidedBy: loop.pointee.denyingRule)))
    }
}

extension UnsafeMutablePointer<Tunnel> {
    /// Writes the HEADERS of a CONNECT. False where the compressor failed: the tunnel is of no more use.
    func queueRequest(_ request: OutboundRequest, streamID: UInt32) -> Bool {
        let loop = pointee.loop
        let trace = TraceParent(
            traceHigh: loop.pointee.random.next(), traceLow: loop.pointee.random.next(),
            parent: loop.pointee.random.next())
        ConnectRequest.write(
            authority: .address(request.authority),
            forwarded: Forwarded(client: request.client, host: loop.host(of: request.service)),
            traceParent: trace, baggage: loop.baggage(of: request.workload), to: &loop.pointee.requestFields)
        let size = pointee.headerEncoder?.sizeMax(of: loop.pointee.requestFields) ?? 0
        guard size > 0 else { return false }
        return withUnsafeTemporaryAllocation(byteCount: size, alignment: 8) { block in
            guard let count = pointee.headerEncoder?.encode(loop.pointee.requestFields, to: block) else { return false }
            queueHeaders(UnsafeRawBufferPointer(rebasing: block[..<count]), streamID, endsStream: false)
            return true
        }
    }
}
