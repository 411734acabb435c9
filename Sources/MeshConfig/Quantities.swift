/// Durations as text: a whole number and a unit, `500ms`, `30s`, `5m`, `1h`.
package enum DurationText {
    private static let units: [(name: String, milliseconds: UInt64)] = [
        ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000),
    ]

    package static func milliseconds(parsing text: String) -> UInt64? {
        Quantity.parse(text, units: units.map { ($0.name, $0.milliseconds) })
    }

    /// In the largest unit that divides it.
    package static func format(milliseconds: UInt64) -> String {
        Quantity.format(milliseconds, units: units.map { ($0.name, $0.milliseconds) })
    }
}

/// Sizes as text: a whole number and a unit, `512B`, `64KiB`, `256MiB`, `2GiB`.
package enum SizeText {
    private static let units: [(name: String, bytes: UInt64)] = [
        ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30),
    ]

    package static func bytes(parsing text: String) -> UInt64? {
        Quantity.parse(text, units: units.map { ($0.name, $0.bytes) })
    }

    package static func format(bytes: UInt64) -> String {
        Quantity.format(bytes, units: units.map { ($0.name, $0.bytes) })
    }
}

private enum Quantity {
    static func parse(_ text: String, units: [(name: String, factor: UInt64)]) -> UInt64? {
        let digits = text.utf8.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        let unit = text.utf8.dropFirst(digits.count)
        guard !digits.isEmpty, digits.count == 1 || digits.first != UInt8(ascii: "0"),
            let number = UInt64(String(Substring(digits))),
            let factor = units.first(where: { $0.name.utf8.elementsEqual(unit) })?.factor
        else { return nil }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? nil : product
    }

    static func format(_ value: UInt64, units: [(name: String, factor: UInt64)]) -> String {
        let unit = units.last { value != 0 && value % $0.factor == 0 } ?? units[0]
        return "\(value / unit.factor)\(unit.name)"
    }
}
