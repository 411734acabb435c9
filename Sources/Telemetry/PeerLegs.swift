/// Round-trip time and retransmits of the legs to peer nodes, each over all tunnels with that node. Bounded by nodes and
/// tunnels; what is told of tunnels comes in several lists where there are many.
package struct PeerLegs: Sendable {
    /// A tunnel as it is now.
    package struct Tunnel: Sendable {
        var id: UInt32
        var openedNanoseconds: UInt64
        var peer: String
        var rttMicroseconds: UInt32
        var retransmits: UInt32

        package init(
            id: UInt32, openedNanoseconds: UInt64, peer: String, rttMicroseconds: UInt32, retransmits: UInt32
        ) {
            self.id = id
            self.openedNanoseconds = openedNanoseconds
            self.peer = peer
            self.rttMicroseconds = rttMicroseconds
            self.retransmits = retransmits
        }
    }

    /// Numbers come again with another proxy: the time tells them apart.
    private struct Key: Hashable {
        let id: UInt32
        let openedNanoseconds: UInt64
    }

    private struct Leg {
        var tunnel: Tunnel
        var atNanoseconds: UInt64
    }

    static let peersMax = 4_096
    /// A tunnel of which nothing is heard for so long is closed.
    static let silenceNanoseconds: UInt64 = 5_000_000_000

    private var legs: [Key: Leg] = [:]
    /// Over all tunnels since meshd started.
    private(set) var retransmits: [String: UInt64] = [:]

    package init() {}

    package mutating func take(_ tunnels: [Tunnel], now: UInt64) {
        for tunnel in tunnels where !tunnel.peer.isEmpty {
            let key = Key(id: tunnel.id, openedNanoseconds: tunnel.openedNanoseconds)
            let counted = legs[key]?.tunnel.retransmits ?? 0
            legs[key] = Leg(tunnel: tunnel, atNanoseconds: now)
            guard retransmits[tunnel.peer] != nil || retransmits.count < Self.peersMax else { continue }
            retransmits[tunnel.peer, default: 0] += UInt64(max(tunnel.retransmits, counted) - counted)
        }
        legs = legs.filter { now < $0.value.atNanoseconds &+ Self.silenceNanoseconds }
    }

    /// The mean of the peer's open tunnels, in seconds.
    var rttSeconds: [String: Double] {
        var sums: [String: (microseconds: UInt64, count: UInt64)] = [:]
        for leg in legs.values where leg.tunnel.rttMicroseconds > 0 {
            sums[leg.tunnel.peer, default: (0, 0)].microseconds += UInt64(leg.tunnel.rttMicroseconds)
            sums[leg.tunnel.peer, default: (0, 0)].count += 1
        }
        return sums.mapValues { Double($0.microseconds / $0.count) / 1_000_000 }
    }

    func write(to text: inout PrometheusText) {
        text.family(
            "meshd_peer_rtt_seconds", .gauge, "Round-trip time to each peer node: the mean of its open tunnels.")
        for (peer, seconds) in rttSeconds.sorted(by: { $0.key < $1.key }) {
            text.sample("meshd_peer_rtt_seconds", [("peer_node", peer)], seconds: seconds)
        }
        text.family(
            "meshd_peer_retransmits_total", .counter, "TCP segments sent again to each peer node, over its tunnels.")
        for (peer, count) in retransmits.sorted(by: { $0.key < $1.key }) {
            text.sample("meshd_peer_retransmits_total", [("peer_node", peer)], count)
        }
    }
}
