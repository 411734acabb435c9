import CLinux
import Synchronization

/// Whether lost packets bound what a tunnel carries, from what its TCP connection has met while it moved bytes.
///
/// Each lost packet shrinks the congestion window, so that a connection carries MSS / RTT * sqrt(3/2 / loss) bytes a
/// second at the most (Mathis, Semke, Mahdavi and Ott, 1997), whatever the line could. The streams of one tunnel share
/// that; connections of their own would each have it. A tunnel that moves about so much is held back by it, and more
/// tunnels carry more. One that moves far less has enough of it: for single requests, sharing is an advantage, since a
/// packet that is lost is soon noticed by those that follow.
struct PathEstimate {
    private var last = clinux_tcp_statistics()
    private var sampledAt: UInt64 = 0
    // Each sample counts an eighth less than the next: the last two seconds in which something moved.
    private var lost: Float = 0
    private var segments: Float = 0
    private var bytes: Float = 0
    private var seconds: Float = 0

    /// Losses without which nothing is concluded.
    private static let lostMin: Float = 3
    /// Bytes a second that one loop carries without loss: a bound beyond that is none.
    private static let loopRate = Float(4 * Tunnel.busyBytesPerSweep)

    /// Nothing moved since the last sample: the time does not count.
    mutating func pause(_ now: UInt64) {
        if sampledAt != 0 { sampledAt = now }
    }

    /// `moved` bytes of payload, either way, since the last sample; `now` in nanoseconds.
    mutating func add(_ statistics: clinux_tcp_statistics, moved: UInt64, now: UInt64) {
        defer { (last, sampledAt) = (statistics, now) }
        guard sampledAt != 0, now > sampledAt else { return }
        let elapsed = Float(now - sampledAt) / 1e9
        let sent = Float(statistics.segments_sent &- last.segments_sent)
        let received = Float(statistics.segments_received &- last.segments_received)
        // All that comes until the missing packet is sent again, a round trip later, is out of order for that one.
        let perRoundTrip = max(1, received * roundTrip(statistics) / elapsed)
        let missing = Float(statistics.out_of_order &- last.out_of_order) / perRoundTrip
        add(&lost, Float(statistics.retransmits &- last.retransmits) + missing)
        add(&segments, sent + received)
        add(&bytes, Float(moved))
        add(&seconds, elapsed)
    }

    var isBoundByLoss: Bool {
        let (size, time) = (Float(last.segment_size), roundTrip(last))
        guard lost >= Self.lostMin, segments > 0, time > 0 else { return false }
        let rate = bytes / seconds
        let bound = size / time * (1.5 * segments / lost).squareRoot()
        // Far beyond the bound, what looked like loss was packets that overtook each other.
        return bound < Self.loopRate && rate >= bound / 2 && rate <= bound * 4
    }

    private func add(_ sum: inout Float, _ sample: Float) { sum = sum * 7 / 8 + sample }

    private func roundTrip(_ statistics: clinux_tcp_statistics) -> Float { Float(statistics.rtt_us) / 1e6 }
}

extension UnsafeMutablePointer<LoopState> {
    /// For how long a key's streams are spread after one of its tunnels was last bound.
    private static var lossRemembered: UInt64 { 600_000_000_000 }

    /// Looks at the path of a client tunnel that moved `bytes` since the last sweep.
    func notePath(_ tunnel: TunnelPointer, moved bytes: UInt64) {
        guard pointee.settings.tunnelsUnderLossMax > 1 else { return }
        guard bytes > 0 else { return tunnel.pointee.path.pause(pointee.now) }
        let statistics = pointee.shared.kernel.path(tunnel.pointee.descriptor)
        tunnel.pointee.path.add(statistics, moved: bytes, now: pointee.now)
        guard tunnel.pointee.path.isBoundByLoss else { return }
        pointee.boundByLoss[tunnel.pointee.key] = pointee.now + Self.lossRemembered
    }

    func forgetLosses() {
        guard !pointee.boundByLoss.isEmpty else { return }
        pointee.boundByLoss = pointee.boundByLoss.filter { $0.value > pointee.now }
    }

    func isBoundByLoss(_ key: TunnelKey) -> Bool { !pointee.boundByLoss.isEmpty && pointee.boundByLoss[key] != nil }

    /// Another tunnel for a key whose open ones all have streams, if the limits leave room. It must be dialled. Half of
    /// all tunnels are kept for keys that have none.
    func makeAddedTunnel(_ key: TunnelKey) -> TunnelPointer? {
        let shared = pointee.shared
        guard let group = pointee.pool[key], group.tunnels.count < pointee.settings.tunnelsUnderLossMax,
            pointee.now >= group.addsAfter, pointee.nodes[key.node] == nil, pointee.drainDeadline == nil,
            !shared.isOverloaded, shared.tunnelCount.load(ordering: .relaxed) < pointee.settings.tunnelsMax / 2,
            let tunnel = makeTunnel(key)
        else { return nil }
        tunnel.pointee.isAdded = true
        return tunnel
    }

    func hasOtherOpen(_ tunnel: TunnelPointer) -> Bool {
        pointee.pool[tunnel.pointee.key]?.tunnels.contains { $0 != tunnel && $0.isOpen } ?? false
    }

    /// What waits for an added tunnel that could not be opened goes to the others for its key. `failed` has left the pool.
    func moveToOthers(_ failed: TunnelPointer) {
        let key = failed.pointee.key
        pointee.pool[key]?.addsAfter = pointee.now + NodeTrouble.pauseMax
        if pointee.pool[key]?.withRoom(spreads: true) != nil { moveWaiting(failed) }
    }
}

extension UnsafeMutablePointer<Tunnel> {
    /// For an added tunnel, no more than a few round trips: what waits for it can go elsewhere.
    func patience(_ timeout: UInt64) -> UInt64 { pointee.isAdded ? Swift.min(timeout, 3_000_000_000) : timeout }
}
