/// The `traceparent` header (W3C Trace Context, version 00): 55 characters that tie the two ends of a stream together
/// in logs. Flags go out as 00, as ztunnel sends them.
package struct TraceParent: Equatable, Sendable, CustomStringConvertible {
    package static let length = 55

    package var traceHigh: UInt64
    package var traceLow: UInt64
    package var parent: UInt64
    package var flags: UInt8

    /// Randomness comes from the caller. An all-zero trace or parent is not lawful: its last bit is set.
    package init(traceHigh: UInt64, traceLow: UInt64, parent: UInt64) {
        self.traceHigh = traceHigh
        self.traceLow = traceHigh == 0 && traceLow == 0 ? 1 : traceLow
        self.parent = parent == 0 ? 1 : parent
        flags = 0
    }

    /// Nil for any other version, upper-case digits, and all-zero identifiers.
    package init?(parsing bytes: UnsafeRawBufferPointer) {
        guard bytes.count == Self.length, bytes[0] == UInt8(ascii: "0"), bytes[1] == UInt8(ascii: "0"),
            bytes[2] == UInt8(ascii: "-"), bytes[35] == UInt8(ascii: "-"), bytes[52] == UInt8(ascii: "-"),
            let traceHigh = Self.number(bytes[3..<19]), let traceLow = Self.number(bytes[19..<35]),
            let parent = Self.number(bytes[36..<52]), let flags = Self.number(bytes[53..<55]),
            traceHigh | traceLow != 0, parent != 0
        else { return nil }
        self.init(traceHigh: traceHigh, traceLow: traceLow, parent: parent)
        self.flags = UInt8(truncatingIfNeeded: flags)
    }

    package var description: String {
        String(unsafeUninitializedCapacity: Self.length) { text in
            text.initialize(repeating: UInt8(ascii: "-"))
            text[0] = UInt8(ascii: "0")
            text[1] = UInt8(ascii: "0")
            Self.put(traceHigh, into: text[3..<19])
            Self.put(traceLow, into: text[19..<35])
            Self.put(parent, into: text[36..<52])
            Self.put(UInt64(flags), into: text[53..<55])
            return Self.length
        }
    }

    // MARK: private

    private static func number(_ digits: Slice<UnsafeRawBufferPointer>) -> UInt64? {
        var value: UInt64 = 0
        for byte in digits {
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            default: return nil
            }
            value = value << 4 | UInt64(digit)
        }
        return value
    }

    private static func put(_ value: UInt64, into digits: Slice<UnsafeMutableBufferPointer<UInt8>>) {
        var rest = value
        for index in digits.indices.reversed() {
            let digit = UInt8(truncatingIfNeeded: rest & 15)
            digits.base[index] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
            rest >>= 4
        }
    }
}
