import CLinux

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
