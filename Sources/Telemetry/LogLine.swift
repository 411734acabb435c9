/// How much an operator needs a line: error = act, warn = degraded, info = lifecycle, debug = per connection.
package enum LogLevel: String, Sendable, Comparable, CaseIterable {
    case error, warn, info, debug

    private var rank: Int {
        switch self {
        case .error: 0
        case .warn: 1
        case .info: 2
        case .debug: 3
        }
    }

    package static func < (left: LogLevel, right: LogLevel) -> Bool { left.rank < right.rank }
}

package enum LogFormat: String, Sendable {
    case text, json
}

/// One structured log line. Never put payload or key material into a field.
package struct LogLine: Sendable {
    package var level: LogLevel
    package var message: String
    package var fields: [(key: String, value: String)]

    package init(_ level: LogLevel, _ message: String, _ fields: [(key: String, value: String)] = []) {
        self.level = level
        self.message = message
        self.fields = fields
    }

    /// The line with its newline. `wallMilliseconds` counts from 1970.
    package func text(format: LogFormat, wallMilliseconds: Int64) -> String {
        let time = UTCTime.text(milliseconds: wallMilliseconds)
        let members = [("time", time), ("level", level.rawValue), ("message", message)] + fields
        switch format {
        case .text: return members.map { "\($0)=\(Self.value($1))" }.joined(separator: " ") + "\n"
        case .json:
            var json = JSONWriter()
            json.object { json in
                for (key, value) in members {
                    json.key(key)
                    json.string(value)
                }
            }
            return String(decoding: json.bytes, as: UTF8.self) + "\n"
        }
    }

    // MARK: private

    /// Bare where a reader can't mistake it, else quoted as in JSON: a value never breaks the line.
    private static func value(_ text: String) -> String {
        let isBare =
            !text.isEmpty
            && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != 0x22 && $0 != 0x3d && $0 != 0x5c }
        if isBare { return text }
        var bytes: [UInt8] = []
        JSONWriter.append(text, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Writes times as RFC 3339 in UTC, since log lines and records are compared between machines.
package enum UTCTime {
    package static func text(milliseconds: Int64) -> String {
        let (seconds, fraction) = floorDivide(milliseconds, 1_000)
        let (days, second) = floorDivide(seconds, 86_400)
        let date = civil(days: days)
        return "\(pad(date.year, 4))-\(pad(date.month, 2))-\(pad(date.day, 2))T\(pad(second / 3_600, 2)):"
            + "\(pad(second / 60 % 60, 2)):\(pad(second % 60, 2)).\(pad(fraction, 3))Z"
    }

    /// Of the form that `text(milliseconds:)` writes; nil for any other.
    package static func milliseconds(parsing bytes: ArraySlice<UInt8>) -> Int64? {
        let form = Array("dddd-dd-ddTdd:dd:dd.dddZ".utf8)
        guard bytes.count == form.count else { return nil }
        var numbers: [Int64] = [0]
        for (byte, wanted) in zip(bytes, form) {
            if wanted == UInt8(ascii: "d") {
                guard byte >= 0x30, byte < 0x3a else { return nil }
                numbers[numbers.count - 1] = numbers[numbers.count - 1] * 10 + Int64(byte - 0x30)
            } else {
                guard byte == wanted else { return nil }
                numbers.append(0)
            }
        }
        let days = day(year: numbers[0], month: numbers[1], day: numbers[2])
        return ((days * 24 + numbers[3]) * 60 + numbers[4]) * 60_000 + numbers[5] * 1_000 + numbers[6]
    }

    /// Without the fraction.
    package static func text(seconds: Int64) -> String { String(text(milliseconds: seconds * 1_000).dropLast(5)) + "Z" }

    // MARK: private

    private static func floorDivide(_ value: Int64, _ by: Int64) -> (Int64, Int64) {
        let rest = (value % by + by) % by
        return ((value - rest) / by, rest)
    }

    private static func pad(_ value: Int64, _ width: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, width - text.count)) + text
    }

    /// The inverse of `civil`.
    private static func day(year: Int64, month: Int64, day: Int64) -> Int64 {
        let (era, yearOfEra) = floorDivide(month <= 2 ? year - 1 : year, 400)
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    /// The proleptic Gregorian date of a day counted from 1970-01-01, by 400-year eras that begin in March.
    private static func civil(days: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let (era, dayOfEra) = floorDivide(days + 719_468, 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
    }
}
