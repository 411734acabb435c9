import MeshModel

/// Takes fields off a message that may come from a less trusted process: every length is checked against what is left
/// before it is used, and nothing is reserved on the word of a count.
struct WireReader {
    private let bytes: UnsafeRawBufferPointer
    private var offset = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    private var remaining: Int { bytes.count - offset }
    var isAtEnd: Bool { remaining == 0 }

    mutating func number<T: FixedWidthInteger>(
        _ field: ControlError.StaticText, as type: T.Type = T.self
    ) throws(ControlError) -> T {
        let size = MemoryLayout<T>.size
        guard remaining >= size else { throw .truncated(field: field) }
        defer { offset += size }
        return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }

    mutating func flag(_ field: ControlError.StaticText) throws(ControlError) -> Bool {
        switch try number(field, as: UInt8.self) {
        case 0: return false
        case 1: return true
        default: throw .invalid(field: field)
        }
    }

    mutating func text(_ field: ControlError.StaticText) throws(ControlError) -> String {
        let count = Int(try number(field, as: UInt16.self))
        guard count <= ControlLimits.textBytesMax else { throw .invalid(field: field) }
        let slice = try take(count, field)
        guard let text = String(validating: slice, as: UTF8.self) else { throw .invalid(field: field) }
        return text
    }

    mutating func blob(_ field: ControlError.StaticText) throws(ControlError) -> [UInt8] {
        let count = Int(try number(field, as: UInt32.self))
        return Array(try take(count, field))
    }

    mutating func secret(_ field: ControlError.StaticText) throws(ControlError) -> SecretBytes {
        let count = Int(try number(field, as: UInt32.self))
        return SecretBytes(copying: try take(count, field))
    }

    mutating func list<Element>(
        _ field: ControlError.StaticText, _ body: (inout WireReader) throws(ControlError) -> Element
    ) throws(ControlError) -> [Element] {
        let count = Int(try number(field, as: UInt32.self))
        // Each element has at least its two bytes of length.
        guard count <= ControlLimits.elementsMax, count * 2 <= remaining else { throw .truncated(field: field) }
        var elements: [Element] = []
        for _ in 0..<count { elements.append(try record(field, body)) }
        return elements
    }

    /// A record with its length before it. Bytes behind the fields that this version knows are skipped.
    mutating func record<Element>(
        _ field: ControlError.StaticText, _ body: (inout WireReader) throws(ControlError) -> Element
    ) throws(ControlError) -> Element {
        let count = Int(try number(field, as: UInt16.self))
        var inner = WireReader(UnsafeRawBufferPointer(rebasing: try take(count, field)))
        return try body(&inner)
    }

    /// A field that earlier versions did not write: their messages end before it, and it has its former meaning, false.
    mutating func appendedFlag(_ field: ControlError.StaticText) throws(ControlError) -> Bool {
        remaining == 0 ? false : try flag(field)
    }

    /// Nil where the message ends before the field.
    mutating func appendedNumber<Number: FixedWidthInteger>(
        _ field: ControlError.StaticText
    ) throws(ControlError) -> Number? {
        remaining == 0 ? nil : try number(field)
    }

    private mutating func take(
        _ count: Int, _ field: ControlError.StaticText
    ) throws(ControlError) -> Slice<UnsafeRawBufferPointer> {
        guard count <= remaining else { throw .truncated(field: field) }
        defer { offset += count }
        return bytes[offset..<(offset + count)]
    }
}

extension WireReader {
    /// The kind of a message, behind which its body begins.
    static func open(_ bytes: UnsafeRawBufferPointer) throws(ControlError) -> (kind: UInt8, body: WireReader) {
        guard bytes.count <= ControlLimits.bodyBytesMax else { throw .tooLong(bytes: bytes.count) }
        var reader = WireReader(bytes)
        let kind = try reader.number("kind", as: UInt8.self)
        let format = try reader.number("format", as: UInt8.self)
        guard format == WireWriter.format else { throw .unknownFormat(format) }
        return (kind, reader)
    }
}
