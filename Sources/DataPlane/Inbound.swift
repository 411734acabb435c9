import CLinux
import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import MeshPolicy
import ProxyControl

// Tunnels of peer nodes and the streams in them: who the peer is, whether it may speak for that principal, where each
// stream wants to go, and whether it may. Every refusal has a name.

extension UnsafeMutablePointer<LoopState> {
    /// A connection to the tunnel port.
    func tunnelCame(_ descriptor: Int32, _ peer: SocketAddress) {
        guard let snapshot = pointee.snapshot else {
            return refuseTunnel(descriptor, peer, .MESH_REASON_SNAPSHOT_MISSING)
        }
        // Before any TLS: a stranger's connection costs no handshake.
        guard let node = snapshot.node(withTunnelAddress: peer.address) else {
            return refuseTunnel(descriptor, peer, .MESH_REASON_PEER_NODE_UNKNOWN)
        }
        guard makeRoomForTunnel() else { return refuseTunnel(descriptor, peer, .MESH_REASON_TUNNEL_LIMIT) }
        guard let tls = pointee.identities.accept(descriptor: descriptor, pointee.tlsBuffers) else {
            return refuseTunnel(descriptor, peer, .MESH_REASON_NO_CERTIFICATE)
        }
        Socket.prepareTunnel(descriptor)
        let tunnel = addTunnel(
            .handshaking, flags: [.readable], descriptor: descriptor, peer: peer,
            key: TunnelKey(client: .none, server: .none, node: node))
        tunnel.pointee.tls = consume tls
        tunnel.arm(after: pointee.settings.handshakeTimeout)
        watchEdges(descriptor, tunnel)
    }

    private func refuseTunnel(_ descriptor: Int32, _ peer: SocketAddress, _ reason: Reason) {
        close(descriptor, resets: true)
        pointee.counters.count(reason)
        pointee.reports.append(.refused(PeerRefusal(reason: reason, peer: peer, principal: "", subject: "")))
    }

    /// Judges the tunnel's client by its certificate and address; nil: it is let in.
    func admitPeer(_ tunnel: TunnelPointer, _ snapshot: Snapshot) -> Reason? {
        guard let server = snapshot.principalID(of: tunnel.pointee.localPrincipal) else {
            return .MESH_REASON_SNI_UNKNOWN
        }
        let peer = PeerAddress(tunnel.pointee.peer)
        switch admit(clientPrincipal: tunnel.pointee.peerPrincipal, from: peer, snapshot) {
        case .failure(let denial): return denial.reason
        case .success(let peer):
            tunnel.pointee.key = TunnelKey(client: peer.principal, server: server, node: peer.node)
            return nil
        }
    }

    /// Judges every tunnel again: principals may have moved or gone, and their numbers are those of another meshd if
    /// it had to begin anew.
    func judgeTunnelsAgain(_ snapshot: Snapshot) {
        var next = pointee.firstTunnel
        while let tunnel = next {
            next = tunnel.pointee.listNext
            if tunnel.isClient {
                if isKeyTrue(tunnel) { continue }
                pointee.boundByLoss = [:]
                tunnel.drain()
            } else if tunnel.isOpen, let denial = admitPeer(tunnel, snapshot) {
                tunnel.fail(HTTP2Fault(.inadequateSecurity, denial))
            }
        }
    }

    /// Whether the numbers in a client tunnel's key still mean those whom it was made for.
    func isKeyTrue(_ tunnel: TunnelPointer) -> Bool {
        guard let snapshot = pointee.snapshot else { return false }
        let key = tunnel.pointee.key
        return snapshot.principalID(of: tunnel.pointee.localPrincipal) == key.client
            && snapshot.principalID(of: tunnel.pointee.peerPrincipal) == key.server
            && snapshot.node(withTunnelAddress: tunnel.pointee.peer.address) == key.node
    }
}

extension UnsafeMutablePointer<Tunnel> {
    /// A whole HEADERS block opened a new stream.
    func requestCame(_ outcome: ConnectRequestReader.Outcome, streamID: UInt32, endsStream: Bool) {
        pointee.peerStreams.open(streamID)
        pointee.streamsTotal += 1
        if pointee.flags.contains(.drained) { return queueReset(streamID, .refusedStream) }
        switch outcome {
        case .malformed(let fault): resetForFault(streamID, fault)
        case .refused(let reason):
            refusePeer(reason, subject: "")
            answerRefusal(reason, streamID, endsStream)
        case .connect(let request):
            guard pointee.limits.streamOpened() else {
                return resetForFault(streamID, ConnectionLimits.streamLimit, as: .byUsForLimit)
            }
            connectCame(request, streamID, endsStream)
        }
    }

    /// The stream counts in the limits already.
    private func connectCame(_ request: ConnectRequest, _ streamID: UInt32, _ endsStream: Bool) {
        let loop = pointee.loop
        guard let snapshot = loop.pointee.snapshot else {
            return refuse(.MESH_REASON_SNAPSHOT_MISSING, streamID, endsStream, request)
        }
        guard !loop.pointee.shared.budget.isTight else {
            return refuse(.MESH_REASON_MEMORY_BUDGET, streamID, endsStream, request)
        }
        guard let destination = snapshot.destination(of: request.authority, principal: pointee.key.server) else {
            return refuse(.MESH_REASON_NO_ENDPOINTS, streamID, endsStream, request)
        }
        let presented = presentedClient(
            claimed: request.forwarded?.client, peer: PeerAddress(pointee.peer),
            client: TunnelPeer(principal: pointee.key.client, node: pointee.key.node), destination: destination.address,
            snapshot)
        let facts = ConnectionFacts(
            clientPrincipal: pointee.key.client, clientNode: pointee.key.node, source: presented,
            destination: destination.address, channel: .tunnel(serverPrincipal: pointee.key.server),
            tunnelPort: loop.pointee.settings.tunnelPort)
        switch authorize(facts, snapshot) {
        case .denied(let denial):
            guard denial.reason == .MESH_REASON_POLICY_DENIED else {
                return refuse(denial.reason, streamID, endsStream, request, destination)
            }
            denyByPolicy(denial.rule, facts, streamID, endsStream, snapshot)
        case .allowed(let permit):
            let service =
                destination.service == .none ? snapshot.meantService(request.forwarded, permit) : destination.service
            openInbound(permit, presented, service, streamID, endsStream, snapshot)
        }
    }

    private func openInbound(
        _ permit: Permit, _ presented: SocketAddress, _ service: ServiceID, _ streamID: UInt32, _ endsStream: Bool,
        _ snapshot: Snapshot
    ) {
        let loop = pointee.loop
        let namespace = snapshot.workload(permit.destinationWorkload)?.networkNamespace ?? .node
        let stream = loop.addStream(
            .waitingForSocket, descriptor: -1, state: .server(endsStream: endsStream), loop.takeConnectionID())
        var record = record(permit.destination, permit.destinationWorkload, id: stream.pointee.connectionID)
        record.source = presented
        record.service = service
        record.decide(permit, snapshot, loop)
        stream.pointee.live = LiveConnection(permit, source: presented.address)
        stream.pointee.id = streamID
        stream.pointee.tunnel = self
        stream.pointee.workload = permit.destinationWorkload
        stream.pointee.flags.formUnion([.attached, .counted])
        stream.pointee.sendWindow = SendWindow(initial: pointee.settings.initialWindowSize)
        if endsStream { stream.pointee.flags.insert(.finishWanted) }
        stream.pointee.opening = loop.pointee.openings.take()
        stream.pointee.opening?.initialize(
            to: Opening(
                side: .server(
                    ApplicationDial(permit: permit, presented: presented, networkNamespace: namespace)),
                record: record))
        pointee.table.insert(stream)
        stream.arm(after: loop.pointee.settings.connectTimeout)
        stream.dial()
    }

    /// Refuses a stream that never became one, and tells the operator: a connection like any other, with both
    /// principals and where it was meant to go.
    private func refuse(
        _ reason: Reason, _ streamID: UInt32, _ endsStream: Bool, _ request: ConnectRequest,
        _ found: StreamDestination? = nil
    ) {
        let loop = pointee.loop
        pointee.limits.streamEnded()
        var address = found?.address
        if address == nil, case .address(let literal) = request.authority { address = literal }
        if let address {
            var record = record(address, .none, id: loop.takeConnectionID())
            record.service = found?.service ?? .none
            record.isAllowed = false
            record.reason = reason
            record.policyGeneration = loop.pointee.snapshot?.policyGeneration ?? 0
            loop.pointee.reports.append(.opened(record))
        } else {
            refusePeer(reason, subject: request.authority.description)
        }
        answerRefusal(reason, streamID, endsStream)
    }

    /// A connection like any other, only that it was not let in: it is told with both its ends.
    private func denyByPolicy(
        _ rule: DecidingRule, _ facts: ConnectionFacts, _ streamID: UInt32, _ endsStream: Bool, _ snapshot: Snapshot
    ) {
        let loop = pointee.loop
        let workload = snapshot.localEndpoint(principal: pointee.key.server, destination: facts.destination) ?? .none
        var record = record(facts.destination, workload, id: loop.takeConnectionID())
        record.source = facts.source
        record.isAllowed = false
        record.reason = .MESH_REASON_POLICY_DENIED
        record.policyGeneration = snapshot.policyGeneration
        record.decidedBy = loop.name(rule, snapshot)
        loop.pointee.reports.append(.opened(record))
        pointee.limits.streamEnded()
        answerRefusal(.MESH_REASON_POLICY_DENIED, streamID, endsStream)
    }

    private func answerRefusal(_ reason: Reason, _ streamID: UInt32, _ endsStream: Bool) {
        let loop = pointee.loop
        loop.pointee.counters.count(reason)
        queueResponse(ConnectResponse.status(for: reason), streamID, endsStream: true)
        // Nobody wants the rest of the request (RFC 9113 section 8.1).
        if !endsStream { queueReset(streamID, .noError) }
        if let fault = pointee.limits.reset(.byUsForFault, now: loop.pointee.now), isAbusive(reason) { fail(fault) }
    }

    /// Refusals that an honest peer may meet often, because this node's state changes, cost no connection.
    private func isAbusive(_ reason: Reason) -> Bool {
        switch reason {
        case .MESH_REASON_NOT_CONNECT, .MESH_REASON_AUTHORITY_MALFORMED, .MESH_REASON_AUTHORITY_MESH_PORT,
            .MESH_REASON_HEADERS_TOO_LARGE:
            true
        default: false
        }
    }

    private func record(_ destination: SocketAddress, _ workload: WorkloadID, id: UInt64) -> OpenRecord {
        OpenRecord(
            id: id, direction: .inbound, cookie: 0, destinationWorkload: workload,
            sourcePrincipal: pointee.key.client, destinationPrincipal: pointee.key.server, source: pointee.peer,
            originalDestination: destination, upstream: destination, peerNode: pointee.key.node, tunnel: pointee.id,
            openedNanoseconds: pointee.loop.pointee.now)
    }
}
