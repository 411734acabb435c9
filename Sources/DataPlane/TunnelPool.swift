import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import ProxyControl
import Synchronization

/// A loop's tunnels for one key: one as a rule, more when a peer allows fewer streams than are needed, or while packets are
/// lost on the way.
struct TunnelGroup {
    var tunnels: [TunnelPointer] = []
    /// None is added before: the last one could not be opened.
    var addsAfter: UInt64 = 0

    /// Where the next stream belongs: in an open tunnel, the first or the one with the fewest streams, else in one that is
    /// being set up.
    func withRoom(spreads: Bool) -> TunnelPointer? {
        let open = tunnels.lazy.filter { $0.hasRoom && $0.isOpen }
        let best = spreads ? open.min { $0.streamCount < $1.streamCount } : open.first
        return best ?? tunnels.first { $0.hasRoom }
    }
}

/// A node that could not be reached.
struct NodeTrouble {
    /// For the tunnel that will probe it.
    var key: TunnelKey
    var pause: UInt64
    var nextProbe: UInt64
    var isProbing = false

    static let pauseFirst: UInt64 = 200_000_000
    static let pauseMax: UInt64 = 15_000_000_000
}

extension UnsafeMutablePointer<Tunnel> {
    /// Streams that may be open at once. Before the peer's SETTINGS have come, what every peer allows.
    private var streamsMax: Int {
        let announced = pointee.decoder.isOpening ? 100 : pointee.settings.maxConcurrentStreams
        return Int(min(announced, pointee.loop.pointee.settings.streamsPerTunnelMax))
    }

    /// Whether one more stream can be opened here now, or once the tunnel is up.
    var hasRoom: Bool {
        guard !isDead, !pointee.flags.contains(.closing), !pointee.flags.contains(.full) else { return false }
        guard pointee.nextStreamID < FrameHeader.streamIDMax - 2 else { return false }
        return streamCount < streamsMax
    }

    /// Those that wait for it included.
    var streamCount: Int { pointee.table.count + pointee.waitingCount }

    /// Whether a stream that has waited for this tunnel can be opened now.
    var hasRoomNow: Bool {
        isOpen && !pointee.flags.contains(.closing) && !pointee.flags.contains(.full)
            && pointee.table.count < streamsMax && pointee.nextStreamID < FrameHeader.streamIDMax - 2
    }
}

extension UnsafeMutablePointer<LoopState> {
    /// Opens the stream in a tunnel for its key, waits for one that is being set up, or sets one up.
    func place(_ stream: StreamPointer, _ key: TunnelKey) {
        let group = pointee.pool[key]
        let spreads = isBoundByLoss(key)
        if let tunnel = group?.withRoom(spreads: spreads) {
            if spreads, tunnel.isOpen, tunnel.streamCount > 0, let added = makeAddedTunnel(key) {
                wait(stream, for: added)
                return dial(added)
            }
            guard tunnel.isOpen else { return wait(stream, for: tunnel) }
            stream.pointee.tunnel = tunnel
            return stream.sendRequest(on: tunnel)
        }
        if pointee.nodes[key.node] != nil && group?.tunnels.isEmpty ?? true {
            return stream.abort(.MESH_REASON_ENDPOINT_UNREACHABLE)
        }
        guard makeRoomForTunnel() else { return stream.abort(.MESH_REASON_TUNNEL_LIMIT) }
        guard let tunnel = makeTunnel(key) else { return stream.abort(.MESH_REASON_NO_ROUTE) }
        wait(stream, for: tunnel)
        dial(tunnel)
    }

    private func wait(_ stream: StreamPointer, for tunnel: TunnelPointer) {
        stream.pointee.phase = .waitingForTunnel
        stream.pointee.tunnel = tunnel
        tunnel.pointee.waiting.append(stream)
        tunnel.pointee.waitingCount += 1
    }

    /// Opens what waits, as far as the peer lets us; the rest goes to another tunnel.
    func placeWaiting(_ tunnel: TunnelPointer) {
        while tunnel.hasRoomNow, let stream = tunnel.pointee.waiting.popFirst() {
            tunnel.pointee.waitingCount -= 1
            stream.sendRequest(on: tunnel)
            if isBoundByLoss(tunnel.pointee.key) { return moveWaiting(tunnel) }
        }
        // Until its SETTINGS have come there may be more room than is known.
        if !tunnel.pointee.decoder.isOpening { moveWaiting(tunnel) }
    }

    /// Places what waits for a tunnel that takes no more.
    func moveWaiting(_ tunnel: TunnelPointer) {
        var moved: [StreamPointer] = []
        while let stream = tunnel.pointee.waiting.popFirst() {
            tunnel.pointee.waitingCount -= 1
            stream.pointee.tunnel = nil
            moved.append(stream)
        }
        guard !moved.isEmpty else { return }
        let isTrue = isKeyTrue(tunnel)
        for stream in moved {
            if isTrue { place(stream, tunnel.pointee.key) } else { stream.abort(.MESH_REASON_TUNNEL_LOST) }
        }
    }

    /// A stream of a client tunnel is over: one that waited may take its place, and a full peer may take more.
    func roomInTunnel(_ tunnel: TunnelPointer) {
        guard tunnel.isOpen else { return }
        tunnel.pointee.flags.remove(.full)
        if tunnel.pointee.waitingCount > 0 && !tunnel.pointee.flags.contains(.closing) { placeWaiting(tunnel) }
    }

    // MARK: making tunnels

    func makeTunnel(_ key: TunnelKey, isProbe: Bool = false, isIPv6: Bool? = nil) -> TunnelPointer? {
        let family = isIPv6 ?? pointee.answersOverIPv6.contains(key.node)
        guard let snapshot = pointee.snapshot, let node = snapshot.node(key.node),
            let address = node.tunnelAddress(isIPv6: family) ?? node.tunnelAddress(isIPv6: !family),
            let client = snapshot.principal(key.client), let server = snapshot.principal(key.server)
        else { return nil }
        let tunnel = addTunnel(
            .waitingForSocket, flags: isProbe ? [.client, .probe] : .client, descriptor: -1,
            peer: SocketAddress(address, pointee.settings.tunnelPort), key: key)
        tunnel.pointee.localPrincipal = client
        tunnel.pointee.peerPrincipal = server
        pointee.pool[key, default: TunnelGroup()].tunnels.append(tunnel)
        return tunnel
    }

    /// A node that did not answer at its address of one family is tried at that of the other, once: false where it has
    /// none. What waits goes along.
    func dialOtherFamily(_ failed: TunnelPointer, _ reason: Reason) -> Bool {
        let isIPv6 = failed.pointee.peer.address.isIPv4
        let key = failed.pointee.key
        guard !failed.pointee.flags.contains(.secondFamily),
            pointee.snapshot?.node(key.node)?.tunnelAddress(isIPv6: isIPv6) != nil,
            let tunnel = makeTunnel(key, isProbe: failed.pointee.flags.contains(.probe), isIPv6: isIPv6)
        else { return false }
        tunnel.pointee.flags.insert(.secondFamily)
        failed.pointee.flags.insert(.closing)
        failed.pointee.flags.remove(.probe)
        leavePool(failed)
        moveWaiting(failed)
        failed.end(reason)
        dial(tunnel)
        return true
    }

    func addTunnel(
        _ phase: Tunnel.Phase, flags: Tunnel.Flags, descriptor: Int32, peer: SocketAddress, key: TunnelKey
    ) -> TunnelPointer {
        let tunnel = pointee.tunnels.take()
        tunnel.initialize(
            to: Tunnel(
                phase, flags: flags, descriptor: descriptor, id: pointee.shared.takeTunnelID(), loop: self, peer: peer,
                key: key, now: pointee.now))
        tunnel.pointee.listNext = pointee.firstTunnel
        pointee.firstTunnel?.pointee.listPrevious = tunnel
        pointee.firstTunnel = tunnel
        pointee.shared.tunnelCount.add(1, ordering: .relaxed)
        return tunnel
    }

    func removeFromList(_ tunnel: TunnelPointer) {
        if let previous = tunnel.pointee.listPrevious {
            previous.pointee.listNext = tunnel.pointee.listNext
        } else {
            pointee.firstTunnel = tunnel.pointee.listNext
        }
        tunnel.pointee.listNext?.pointee.listPrevious = tunnel.pointee.listPrevious
    }

    private func dial(_ tunnel: TunnelPointer) {
        let isIPv6 = !tunnel.pointee.peer.address.isIPv4
        let dialPool = DialPool(purpose: .tunnel, networkNamespace: .node, isIPv6: isIPv6)
        guard let descriptor = takeDialSocket(dialPool) else {
            tunnel.arm(after: tunnel.patience(pointee.settings.connectTimeout))
            pointee.waitingTunnels.append(tunnel)
            return
        }
        tunnel.pointee.descriptor = descriptor
        tunnel.pointee.phase = .connecting
        Socket.setNonBlocking(descriptor)
        Socket.prepareTunnel(descriptor)
        tunnel.arm(after: tunnel.patience(pointee.settings.connectTimeout))
        let code = Socket.connect(descriptor, to: tunnel.pointee.peer, isIPv6: isIPv6)
        guard code == 0 || code == EINPROGRESS else {
            return tunnel.dialFailed(code, .MESH_REASON_TUNNEL_CONNECT_FAILED)
        }
        watchEdges(descriptor, tunnel)
    }

    /// A dial socket, or nil: then the caller waits for more, bounded by the connect timeout.
    func takeDialSocket(_ dialPool: DialPool) -> Int32? {
        let (taking, need) = pointee.shared.dialSockets.take(dialPool, now: pointee.now)
        if need > 0 { pointee.reports.append(.needDialSockets(dialPool, need)) }
        switch taking {
        case .socket(let descriptor): return descriptor
        case .empty: return nil
        }
    }

    func dialWaitingTunnels() {
        let waiting = pointee.waitingTunnels
        pointee.waitingTunnels = []
        for tunnel in waiting where !tunnel.isDead { dial(tunnel) }
    }

    /// Room below the limit of tunnels, if need be by closing the oldest of our own that is idle.
    func makeRoomForTunnel() -> Bool {
        guard pointee.shared.tunnelCount.load(ordering: .relaxed) >= pointee.settings.tunnelsMax else { return true }
        var oldest: TunnelPointer?
        var next = pointee.firstTunnel
        while let tunnel = next {
            next = tunnel.pointee.listNext
            guard tunnel.isOpen, tunnel.isClient, tunnel.pointee.table.count == 0, tunnel.pointee.waitingCount == 0
            else { continue }
            if let found = oldest, found.pointee.idleSince <= tunnel.pointee.idleSince { continue }
            oldest = tunnel
        }
        guard let oldest else { return false }
        oldest.queueGoAway(0, nil)
        oldest.pump()
        oldest.end(.MESH_REASON_NONE)
        return true
    }

    /// The tunnel takes no more streams.
    func leavePool(_ tunnel: TunnelPointer) {
        pointee.waitingTunnels.removeAll { $0 == tunnel }
        let key = tunnel.pointee.key
        guard tunnel.isClient, let index = pointee.pool[key]?.tunnels.firstIndex(of: tunnel) else { return }
        pointee.pool[key]?.tunnels.remove(at: index)
        guard pointee.pool[key]?.tunnels.isEmpty ?? true else { return noteLoad(of: key) }
        pointee.pool[key] = nil
        pointee.shared.directory.leave(key, loop: pointee.index)
    }

    // MARK: nodes that do not answer

    /// A dial failed. Others that were under way beside the first change nothing any more: the probes find out.
    func nodeFailed(_ key: TunnelKey, errno code: Int32, _ reason: Reason, isProbe: Bool) {
        if var trouble = pointee.nodes[key.node] {
            guard isProbe else { return }
            trouble.pause = min(trouble.pause * 2, NodeTrouble.pauseMax)
            trouble.isProbing = false
            trouble.nextProbe = pointee.now + trouble.pause
            pointee.nodes[key.node] = trouble
            return
        }
        // What a connect() to a dead host gives: the connect hook will give it to applications.
        let known = [ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH].contains(code)
        pointee.reports.append(.nodeUnreachable(key.node, errno: known ? code : EHOSTUNREACH, reason))
        let pause = NodeTrouble.pauseFirst
        pointee.nodes[key.node] = NodeTrouble(key: key, pause: pause, nextProbe: pointee.now + pause)
    }

    /// A probe ended without an answer to the question (no dial socket, no certificate): it is asked again.
    func probeEnded(_ node: NodeID) {
        guard let trouble = pointee.nodes[node], trouble.isProbing else { return }
        pointee.nodes[node]?.isProbing = false
        pointee.nodes[node]?.nextProbe = pointee.now + trouble.pause
    }

    func nodeAnswered(_ node: NodeID, at address: IPAddress) {
        if address.isIPv4 { pointee.answersOverIPv6.remove(node) } else { pointee.answersOverIPv6.insert(node) }
        guard pointee.nodes.removeValue(forKey: node) != nil else { return }
        pointee.reports.append(.nodeReachable(node))
    }

    /// Dials nodes again whose pause is over.
    func probeNodes() {
        for (node, trouble) in pointee.nodes where !trouble.isProbing && pointee.now >= trouble.nextProbe {
            guard pointee.snapshot?.node(node) != nil else {
                pointee.nodes[node] = nil
                continue
            }
            guard pointee.drainDeadline == nil, let tunnel = makeTunnel(trouble.key, isProbe: true) else {
                pointee.nodes[node]?.nextProbe = pointee.now + NodeTrouble.pauseMax
                continue
            }
            pointee.nodes[node]?.isProbing = true
            dial(tunnel)
        }
    }
}
