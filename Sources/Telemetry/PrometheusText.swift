/// Writes the Prometheus text exposition format 0.0.4.
package struct PrometheusText: Sendable {
    package enum Kind: String, Sendable {
        case counter, gauge, histogram
    }

    package private(set) var bytes: [UInt8] = []

    package init() {}

    /// Announces a metric; its samples follow before the next one is announced.
    package mutating func family(_ name: String, _ kind: Kind, _ help: String) {
        bytes += "# HELP \(name) ".utf8
        for byte in help.utf8 {
            switch byte {
            case UInt8(ascii: "\\"): bytes += "\\\\".utf8
            case UInt8(ascii: "\n"): bytes += "\\n".utf8
            default: bytes.append(byte)
            }
        }
        bytes += "\n# TYPE \(name) \(kind.rawValue)\n".utf8
    }

    package mutating func sample(_ name: String, _ labels: [(String, String)] = [], _ value: UInt64) {
        line(name, labels: Self.labelText(labels), value: String(value))
    }

    package mutating func sample(_ name: String, _ labels: [(String, String)] = [], seconds: Double) {
        line(name, labels: Self.labelText(labels), value: "\(seconds)")
    }

    /// With labels that are text already.
    package mutating func line(_ name: String, labels: String, value: String) {
        bytes += name.utf8
        if !labels.isEmpty {
            bytes.append(UInt8(ascii: "{"))
            bytes += labels.utf8
            bytes.append(UInt8(ascii: "}"))
        }
        bytes.append(UInt8(ascii: " "))
        bytes += value.utf8
        bytes.append(UInt8(ascii: "\n"))
    }

    /// A metric with one sample and no labels.
    package mutating func single(_ name: String, _ kind: Kind, _ help: String, _ value: UInt64) {
        family(name, kind, help)
        sample(name, [], value)
    }

    package static func labelText(_ labels: [(String, String)]) -> String {
        labels.map { "\($0)=\"\(escaped($1))\"" }.joined(separator: ",")
    }

    // MARK: private

    private static func escaped(_ value: String) -> String {
        guard value.utf8.contains(where: { $0 == 0x5c || $0 == 0x22 || $0 == 0x0a }) else { return value }
        var text = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}

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
