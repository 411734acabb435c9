/// Durations in buckets that fit connection set-up: 100 µs to 30 s.
package struct LatencyHistogram: Equatable, Sendable {
    package static let boundsMicroseconds: [UInt32] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
        10_000_000, 30_000_000,
    ]

    package private(set) var counts = [UInt64](repeating: 0, count: boundsMicroseconds.count + 1)
    package private(set) var sumMicroseconds: UInt64 = 0

    package init() {}

    package mutating func observe(microseconds: UInt32) {
        let index = Self.boundsMicroseconds.firstIndex { microseconds <= $0 } ?? Self.boundsMicroseconds.count
        counts[index] += 1
        sumMicroseconds += UInt64(microseconds)
    }

    /// The samples of one histogram of a family that the caller has announced.
    package func write(_ name: String, _ labels: [(String, String)], to text: inout PrometheusText) {
        var total: UInt64 = 0
        for (index, count) in counts.enumerated() {
            total += count
            let bound =
                index < Self.boundsMicroseconds.count ? "\(Double(Self.boundsMicroseconds[index]) / 1e6)" : "+Inf"
            text.sample(name + "_bucket", labels + [("le", bound)], total)
        }
        text.sample(name + "_sum", labels, seconds: Double(sumMicroseconds) / 1e6)
        text.sample(name + "_count", labels, total)
    }
}

/// One histogram for each direction.
package struct LatencyByDirection: Equatable, Sendable {
    private var outbound = LatencyHistogram()
    private var inbound = LatencyHistogram()
    private var local = LatencyHistogram()

    package mutating func observe(_ direction: FlowDirection, microseconds: UInt32) {
        switch direction {
        case .outbound: outbound.observe(microseconds: microseconds)
        case .inbound: inbound.observe(microseconds: microseconds)
        case .local: local.observe(microseconds: microseconds)
        }
    }

    package func write(_ name: String, help: String, to text: inout PrometheusText) {
        text.family(name, .histogram, help)
        outbound.write(name, [("direction", "outbound")], to: &text)
        inbound.write(name, [("direction", "inbound")], to: &text)
        local.write(name, [("direction", "local")], to: &text)
    }
}
