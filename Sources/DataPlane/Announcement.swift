import HBONE
import MeshModel
import ProxyControl

// A new meshd knows nothing of the connections that are open: the proxy tells of them again, in the words that it used
// when they opened. What that takes is kept with each connection, and little: principals are the tunnel's.

/// What must be kept of an open connection's `OpenRecord`: addresses and ports apart, as there is one for every stream.
struct Announcement {
    /// Of the captured client socket, or of the dial socket where that is the record's.
    private var cookie: UInt64 = 0
    private var sourceAddress = IPAddress.unspecified
    private var destinationAddress = IPAddress.unspecified
    private var sourcePort: UInt16 = 0
    private var destinationPort: UInt16 = 0
    private var service = ServiceID.none
    /// The workload at the other end, where it is known.
    private var peerWorkload = WorkloadID.none
    private var policyGeneration: UInt32 = 0

    init() {}

    init(_ record: OpenRecord) {
        cookie = record.cookie
        (sourceAddress, sourcePort) = (record.source.address, record.source.port)
        (destinationAddress, destinationPort) = (record.originalDestination.address, record.originalDestination.port)
        service = record.service
        peerWorkload = record.direction == .inbound ? record.sourceWorkload : record.destinationWorkload
        policyGeneration = record.policyGeneration
    }

    /// The record of a connection that opened at `nanoseconds`.
    fileprivate func record(
        id: UInt64, _ direction: ConnectionDirection, own workload: WorkloadID, nanoseconds: UInt64
    ) -> OpenRecord {
        let destination = SocketAddress(destinationAddress, destinationPort)
        var record = OpenRecord(
            id: id, direction: direction, cookie: cookie, source: SocketAddress(sourceAddress, sourcePort),
            originalDestination: destination, upstream: destination, openedNanoseconds: nanoseconds)
        record.sourceWorkload = direction == .inbound ? peerWorkload : workload
        record.destinationWorkload = direction == .inbound ? workload : peerWorkload
        record.service = service
        record.policyGeneration = policyGeneration
        return record
    }
}

extension UnsafeMutablePointer<LoopState> {
    /// Tells of every connection that is open, once more.
    func announceAll() {
        var next = pointee.allStreams.first
        while let stream = next {
            next = stream.pointee.listNext
            if stream.pointee.flags.contains(.reported), !stream.isDead {
                pointee.reports.append(.opened(announced(stream)))
            }
        }
        var nextEnd = pointee.firstRelayEnd
        while let end = nextEnd {
            nextEnd = end.pointee.listNext
            if end.pointee.flags.contains(.reported), !end.isDead {
                pointee.reports.append(.opened(announced(end)))
            }
        }
    }

    // MARK: private

    private func announced(_ stream: StreamPointer) -> OpenRecord {
        let isClient = stream.pointee.state.role == .client
        var record = stream.pointee.announcement.record(
            id: stream.pointee.connectionID, isClient ? .outbound : .inbound, own: stream.pointee.workload,
            nanoseconds: stream.pointee.openedAt)
        guard let tunnel = stream.pointee.tunnel else { return record }
        record.tunnel = tunnel.pointee.id
        record.peerNode = tunnel.pointee.key.node
        // By name: the numbers in the tunnel's key are those of the snapshot that it was made from.
        let own = pointee.snapshot?.principalID(of: tunnel.pointee.localPrincipal) ?? .none
        let peer = pointee.snapshot?.principalID(of: tunnel.pointee.peerPrincipal) ?? .none
        (record.sourcePrincipal, record.destinationPrincipal) = isClient ? (own, peer) : (peer, own)
        return record
    }

    /// `end` is the client's.
    private func announced(_ end: RelayEndPointer) -> OpenRecord {
        let server = end.pointee.other
        var record = end.pointee.announcement.record(
            id: end.pointee.connectionID, .local, own: end.pointee.workload, nanoseconds: end.pointee.openedAt)
        record.dialCookie = Socket.cookie(of: server.pointee.descriptor)
        record.destinationWorkload = server.pointee.workload
        record.sourcePrincipal = pointee.snapshot?.workload(end.pointee.workload)?.principal ?? .none
        record.destinationPrincipal = pointee.snapshot?.workload(server.pointee.workload)?.principal ?? .none
        record.peerNode = pointee.snapshot?.localNode ?? .none
        return record
    }
}
