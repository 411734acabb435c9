/// Numbers as people read them, at most seven characters.
package enum Figures {
    /// With binary units: `999 B`, `1.2 MiB` would be too wide for columns, so `1.2M`.
    package static func bytes(_ count: UInt64) -> String {
        if count < 1_024 { return "\(count)B" }
        var value = Double(count)
        for unit in ["K", "M", "G", "T", "P", "E"] {
            value /= 1_024
            if value < 999.5 { return decimal(value) + unit }
        }
        return "\(count)"
    }

    /// A figure without its fraction; what is no number that fits is the nearest that does.
    package static func whole(_ value: Double) -> UInt64 {
        guard value > 0 else { return 0 }
        return UInt64(exactly: value.rounded(.towardZero)) ?? .max
    }

    package static func rate(_ bytesPerSecond: Double) -> String {
        bytesPerSecond < 0.5 ? "0" : bytes(whole(bytesPerSecond.rounded())) + "/s"
    }

    package static func microseconds(_ count: UInt32) -> String {
        switch count {
        case 0: "-"
        case ..<1_000: "\(count)us"
        case ..<1_000_000: decimal(Double(count) / 1_000) + "ms"
        default: decimal(Double(count) / 1_000_000) + "s"
        }
    }

    package static func duration(milliseconds: UInt64) -> String {
        let seconds = milliseconds / 1_000
        return switch seconds {
        case 0: "\(milliseconds)ms"
        case ..<60: decimal(Double(milliseconds) / 1_000) + "s"
        case ..<3_600: "\(seconds / 60)m\(pad(seconds % 60))s"
        case ..<86_400: "\(seconds / 3_600)h\(pad(seconds / 60 % 60))m"
        default: "\(seconds / 86_400)d\(pad(seconds / 3_600 % 24))h"
        }
    }

    /// Milliseconds of `90`, `90s`, `5m`, `2h`, `1d`, `500ms`; nil for anything else.
    package static func milliseconds(of text: String) -> UInt64? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let count = UInt64(digits), count <= 1_000_000_000 else { return nil }
        switch text[digits.endIndex...] {
        case "ms": return count
        case "", "s": return count * 1_000
        case "m": return count * 60_000
        case "h": return count * 3_600_000
        case "d": return count * 86_400_000
        default: return nil
        }
    }

    // MARK: private

    /// One digit after the point below 10, none above.
    private static func decimal(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return tenths < 100 ? "\(tenths / 10).\(tenths % 10)" : "\(Int(value.rounded()))"
    }

    private static func pad(_ value: UInt64) -> String { value < 10 ? "0\(value)" : "\(value)" }
}
