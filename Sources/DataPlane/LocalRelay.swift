import CMeshABI
import Glibc
import HTTP2Framing
import MeshModel
import MeshPolicy
import ProxyControl

// Connections whose both ends are on this node: captured, judged with the identities that the kernel attests, dialled,
// relayed. No TLS and no tunnel. Two records, one for each socket, point to each other. Plain text from outside the mesh
// is relayed in the same way.

/// One socket of a local relay.
struct RelayEnd {
    struct Flags: OptionSet {
        let rawValue: UInt16
        static let readable = Flags(rawValue: 1 << 0)
        static let writable = Flags(rawValue: 1 << 1)
        static let hangup = Flags(rawValue: 1 << 2)
        /// The kernel reported an error: what reads as an end is a reset.
        static let broken = Flags(rawValue: 1 << 3)
        static let dead = Flags(rawValue: 1 << 4)
        /// Its end was read.
        static let ended = Flags(rawValue: 1 << 5)
        /// FIN was written to it.
        static let finished = Flags(rawValue: 1 << 6)
        static let connecting = Flags(rawValue: 1 << 7)
        static let reported = Flags(rawValue: 1 << 8)
        /// In the loop's list of relays that go on next turn.
        static let busy = Flags(rawValue: 1 << 9)
    }

    let kind = ObjectKind.relayEnd
    var flags: Flags = []
    /// The captured client's end; the record is kept there.
    let isClient: Bool
    var descriptor: Int32
    let loop: LoopPointer
    var other: RelayEndPointer
    /// Waits to be written to this socket.
    var held = ByteQueue()
    var timer: TimerPointer?
    /// Client's end, until connected.
    var opening: UnsafeMutablePointer<Opening>?
    var connectionID: UInt64 = 0
    var openedAt: UInt64
    var connectMicroseconds: UInt32 = 0
    var firstByteMicroseconds: UInt32 = 0
    /// Read from this socket and written to the other.
    var bytes: UInt64 = 0
    var workload: WorkloadID
    /// Client's end: what its verdict depends on.
    var live = LiveConnection()
    /// Client's end, once connected.
    var announcement = Announcement()
    var listPrevious: RelayEndPointer?
    var listNext: RelayEndPointer?
}

typealias RelayEndPointer = UnsafeMutablePointer<RelayEnd>

extension UnsafeMutablePointer<LoopState> {
    func openLocalRelay(
        _ descriptor: Int32, _ record: OpenRecord, destination: WorkloadID, address: SocketAddress,
        _ snapshot: Snapshot
    ) {
        var record = record
        record.direction = .local
        let facts = ConnectionFacts(
            clientPrincipal: record.sourcePrincipal, clientNode: snapshot.localNode, source: record.source,
            destination: address, channel: .sameNode(destinationWorkload: destination),
            tunnelPort: pointee.settings.tunnelPort)
        relayIfAllowed(descriptor, record, facts, snapshot)
    }

    /// Judges the connection of `descriptor`, then dials the application and relays it.
    func relayIfAllowed(
        _ descriptor: Int32, _ record: OpenRecord, _ facts: ConnectionFacts, _ snapshot: Snapshot
    ) {
        var record = record
        let permit: Permit
        switch authorize(facts, snapshot) {
        case .denied(let denial):
            record.decidedBy = name(denial.rule, snapshot)
            return refuseCaptured(descriptor, record, denial.reason)
        case .allowed(let given): permit = given
        }
        record.decide(permit, snapshot, self)
        let namespace = snapshot.workload(permit.destinationWorkload)?.networkNamespace ?? .node
        let dial = ApplicationDial(permit: permit, presented: record.source, networkNamespace: namespace)
        let client = pointee.relayEnds.take()
        let server = pointee.relayEnds.take()
        client.initialize(
            to: RelayEnd(
                isClient: true, descriptor: descriptor, loop: self, other: server, openedAt: pointee.now,
                workload: record.sourceWorkload))
        server.initialize(
            to: RelayEnd(
                isClient: false, descriptor: -1, loop: self, other: client, openedAt: pointee.now,
                workload: permit.destinationWorkload))
        client.pointee.connectionID = record.id
        client.pointee.live = LiveConnection(
            permit, source: record.source.address, isPlaintext: record.direction == .inbound)
        client.pointee.opening = pointee.openings.take()
        client.pointee.opening?.initialize(to: Opening(side: .server(dial), record: record))
        insert(client)
        insert(server)
        pointee.counters.connections += 1
        pointee.counters.connectionsTotal += 1
        watchEdges(descriptor, client)
        client.arm(after: pointee.settings.connectTimeout)
        client.dial()
    }

    private func insert(_ end: RelayEndPointer) {
        end.pointee.listNext = pointee.firstRelayEnd
        pointee.firstRelayEnd?.pointee.listPrevious = end
        pointee.firstRelayEnd = end
    }

    fileprivate func remove(_ end: RelayEndPointer) {
        if let previous = end.pointee.listPrevious {
            previous.pointee.listNext = end.pointee.listNext
        } else {
            pointee.firstRelayEnd = end.pointee.listNext
        }
        end.pointee.listNext?.pointee.listPrevious = end.pointee.listPrevious
    }

    /// Goes on with relays that had more than one turn's share.
    func serveRelays() {
        let busy = pointee.busyRelays
        pointee.busyRelays.removeAll(keepingCapacity: true)
        for end in busy {
            end.pointee.flags.remove(.busy)
            if !end.isDead { end.relay() }
        }
    }
}

extension UnsafeMutablePointer<RelayEnd> {
    private static var readsPerTurn: Int { 4 }

    var isDead: Bool { pointee.flags.contains(.dead) }

    /// Client's end: dials the application, or waits for a socket to do it with.
    func dial() {
        let loop = pointee.loop
        guard case .server(let dial) = pointee.opening?.pointee.side else { return endBoth(.MESH_REASON_STATE_MISSING) }
        switch loop.connect(dial, clientPrincipal: dial.permit.clientPrincipal) {
        case .failed(let reason): endBoth(reason)
        case .noSocket: loop.pointee.waitingRelays.append(self)
        case .underWay(let descriptor):
            let server = pointee.other
            server.pointee.descriptor = descriptor
            server.pointee.flags.insert(.connecting)
            let cookie = Socket.cookie(of: descriptor)
            if pointee.opening?.pointee.record.direction == .inbound {
                pointee.opening?.pointee.record.cookie = cookie
            } else {
                pointee.opening?.pointee.record.dialCookie = cookie
            }
            loop.watchEdges(descriptor, server)
        }
    }

    func socketReady(_ events: SocketEvents) {
        guard !isDead else { return }
        if pointee.flags.contains(.connecting) {
            guard events.isConnectOutcome else { return }
            let code = Socket.connectError(of: pointee.descriptor, events)
            guard code == 0 else { return endBoth(pointee.loop.connectReason(code)) }
            pointee.flags.remove(.connecting)
            pointee.other.connected()
        }
        if events.contains(.output) { pointee.flags.insert(.writable) }
        if events.contains(.input) || events.hasAny(.ends) { pointee.flags.insert(.readable) }
        if events.hasAny(.ends) { pointee.flags.insert(.hangup) }
        if events.contains(.error) { pointee.flags.insert(.broken) }
        relay()
        if !isDead { pointee.other.relay() }
    }

    private func connected() {
        let loop = pointee.loop
        disarm()
        pointee.connectMicroseconds = UInt32(clamping: (loop.pointee.now - pointee.openedAt) / 1_000)
        guard let opening = pointee.opening else { return }
        loop.pointee.reports.append(.opened(opening.pointee.record))
        pointee.announcement = Announcement(opening.pointee.record)
        pointee.flags.insert(.reported)
        loop.free(opening)
        pointee.opening = nil
    }

    private var client: RelayEndPointer { pointee.isClient ? self : pointee.other }
    private var isConnected: Bool { client.pointee.opening == nil }

    /// Writes what is held for this socket, then reads from it for the other.
    func relay() {
        guard isConnected else {
            // A client that resets while the application is being dialled.
            if pointee.flags.contains(.broken) { endBoth(.MESH_REASON_APPLICATION_RESET) }
            return
        }
        guard drainHeld() else { return }
        var rounds = Self.readsPerTurn
        while pointee.flags.contains(.readable), !pointee.flags.contains(.ended), pointee.other.pointee.held.isEmpty {
            guard rounds > 0 else { return goOnNextTurn() }
            rounds -= 1
            guard moveOnce() else { return }
        }
        if pointee.flags.contains(.broken) && (pointee.flags.contains(.ended) || !pointee.other.pointee.held.isEmpty) {
            return endBoth(.MESH_REASON_APPLICATION_RESET)
        }
        finishIfDue()
    }

    private func goOnNextTurn() {
        guard !pointee.flags.contains(.busy) else { return }
        pointee.flags.insert(.busy)
        pointee.loop.pointee.busyRelays.append(self)
    }

    /// False when the relay has ended.
    private func drainHeld() -> Bool {
        let loop = pointee.loop
        while !pointee.held.isEmpty && pointee.flags.contains(.writable) {
            let count = pointee.held.describe(loop.pointee.vectors)
            let written = writev(pointee.descriptor, loop.pointee.vectors.baseAddress, Int32(count))
            if written >= 0 {
                pointee.held.consume(written, pool: &loop.pointee.chunks)
                continue
            }
            if errno == EINTR { continue }
            guard errno == EAGAIN else {
                endBoth(.MESH_REASON_APPLICATION_RESET)
                return false
            }
            pointee.flags.remove(.writable)
        }
        if pointee.held.isEmpty && pointee.other.pointee.flags.contains(.readable) { pointee.other.goOnNextTurn() }
        return true
    }

    /// One read and one write. False when the relay has ended.
    private func moveOnce() -> Bool {
        let loop = pointee.loop
        let count = read(pointee.descriptor, loop.pointee.input.baseAddress, LoopState.inputReadMax)
        if count < 0 {
            if errno == EINTR { return true }
            pointee.flags.remove(.readable)
            if errno == EAGAIN { return true }
            endBoth(.MESH_REASON_APPLICATION_RESET)
            return false
        }
        if count == 0 {
            pointee.flags.remove(.readable)
            if pointee.flags.contains(.broken) {
                endBoth(.MESH_REASON_APPLICATION_RESET)
                return false
            }
            pointee.flags.insert(.ended)
            return true
        }
        if count < LoopState.inputReadMax && !pointee.flags.contains(.hangup) { pointee.flags.remove(.readable) }
        if !pointee.isClient && pointee.bytes == 0 {
            client.pointee.firstByteMicroseconds = UInt32(
                clamping: max(1, (loop.pointee.now - pointee.openedAt) / 1_000))
        }
        pointee.bytes += UInt64(count)
        return pointee.other.write(count)
    }

    /// Writes the first `count` bytes of the loop's input buffer; what is not taken is held.
    private func write(_ count: Int) -> Bool {
        let loop = pointee.loop
        guard let base = loop.pointee.input.baseAddress else { return true }
        var written = 0
        if pointee.flags.contains(.writable) {
            repeat { written = Glibc.write(pointee.descriptor, base, count) } while written < 0 && errno == EINTR
            if written < 0 {
                guard errno == EAGAIN else {
                    endBoth(.MESH_REASON_APPLICATION_RESET)
                    return false
                }
                written = 0
            }
            if written < count { pointee.flags.remove(.writable) }
        }
        if written < count { pointee.held.append(base + written, count: count - written, pool: &loop.pointee.chunks) }
        return true
    }

    /// FIN to the other side when this one's end was read and written out; the end of the relay when both are over.
    private func finishIfDue() {
        for end in [self, pointee.other] {
            let target = end.pointee.other
            guard end.pointee.flags.contains(.ended), target.pointee.held.isEmpty,
                !target.pointee.flags.contains(.finished)
            else { continue }
            target.pointee.flags.insert(.finished)
            _ = shutdown(target.pointee.descriptor, Int32(SHUT_WR))
        }
        if pointee.flags.contains(.finished) && pointee.other.pointee.flags.contains(.finished) {
            endBoth(.MESH_REASON_NONE)
        }
    }

    func timerFired() {
        pointee.timer = nil
        guard !isDead, pointee.opening != nil else { return }
        endBoth(
            pointee.other.pointee.descriptor < 0 ? .MESH_REASON_NO_DIAL_SOCKET : .MESH_REASON_CONNECT_TIMEOUT)
    }

    func arm(after nanoseconds: UInt64) {
        let loop = pointee.loop
        pointee.timer = loop.pointee.timers.arm(deadline: loop.pointee.now + nanoseconds, owner: self)
    }

    private func disarm() {
        guard let timer = pointee.timer else { return }
        pointee.loop.pointee.timers.disarm(timer)
        pointee.timer = nil
    }

    /// Closes both sockets, in order only for `MESH_REASON_NONE`.
    func endBoth(_ reason: Reason) {
        guard !isDead else { return }
        let loop = pointee.loop
        let client = client
        let server = client.pointee.other
        client.report(reason, received: server.pointee.bytes)
        for end in [client, server] {
            end.pointee.flags.insert(.dead)
            end.disarm()
            end.pointee.held.removeAll(pool: &loop.pointee.chunks)
            if let opening = end.pointee.opening { loop.free(opening) }
            end.pointee.opening = nil
            if end.pointee.descriptor >= 0 { loop.close(end.pointee.descriptor, resets: reason != .MESH_REASON_NONE) }
            end.pointee.descriptor = -1
            loop.remove(end)
            loop.pointee.endedRelayEnds.append(end)
        }
        loop.pointee.waitingRelays.removeAll { $0 == client }
        loop.pointee.busyRelays.removeAll { $0 == client || $0 == server }
        loop.pointee.counters.connections -= 1
    }

    /// Client's end: tells the record's end.
    private func report(_ reason: Reason, received: UInt64) {
        let loop = pointee.loop
        loop.pointee.counters.count(reason)
        guard pointee.flags.contains(.reported) else {
            guard let opening = pointee.opening else { return }
            opening.pointee.record.isAllowed = reason == .MESH_REASON_NONE
            opening.pointee.record.reason = reason
            opening.pointee.record.denied(by: loop.pointee.denyingRule)
            loop.pointee.reports.append(.opened(opening.pointee.record))
            return
        }
        loop.pointee.reports.append(
            .closed(
                ConnectionClosed(
                    id: pointee.connectionID, bytesSent: pointee.bytes, bytesReceived: received, reason: reason,
                    connectMicroseconds: pointee.connectMicroseconds,
                    firstByteMicroseconds: pointee.firstByteMicroseconds, closedNanoseconds: loop.pointee.now,
                    decidedBy: loop.pointee.denyingRule)))
    }
}
