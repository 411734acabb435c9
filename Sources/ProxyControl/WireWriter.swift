import MeshModel

/// Appends fields in the control protocol's binary form: little-endian numbers, texts with a 16-bit length, blobs
/// with a 32-bit length, records with a 16-bit length so that a later version can append fields to them.
struct WireWriter {
    private(set) var bytes: [UInt8] = []

    init(kind: UInt8) {
        bytes.reserveCapacity(256)
        bytes.append(kind)
        bytes.append(WireWriter.format)
    }

    /// Raised only by a change that an older decoder would misread.
    static let format: UInt8 = 1

    mutating func number<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func flag(_ value: Bool) { bytes.append(value ? 1 : 0) }

    mutating func text(_ value: String) {
        var value = value
        value.withUTF8 { utf8 in
            var count = min(utf8.count, ControlLimits.textBytesMax)
            // Never cut inside a character: the decoder refuses broken UTF-8.
            while count < utf8.count, count > 0, utf8[count] & 0xc0 == 0x80 { count -= 1 }
            number(UInt16(count))
            bytes.append(contentsOf: utf8.prefix(count))
        }
    }

    mutating func blob(_ value: [UInt8]) {
        number(UInt32(value.count))
        bytes.append(contentsOf: value)
    }

    /// The last field of its message: growing further would leave a copy of it behind.
    mutating func secret(_ value: SecretBytes) {
        number(UInt32(value.count))
        bytes.reserveCapacity(bytes.count + value.count)
        value.withBytes { bytes.append(contentsOf: $0) }
    }

    /// A record whose length stands before it.
    mutating func record(_ body: (inout WireWriter) -> Void) {
        let start = bytes.count
        number(UInt16(0))
        body(&self)
        // No record holds more than two short texts and numbers, so 16 bits are enough.
        let length = UInt16(bytes.count - start - 2)
        bytes[start] = UInt8(truncatingIfNeeded: length)
        bytes[start + 1] = UInt8(truncatingIfNeeded: length >> 8)
    }

    mutating func list<Element>(_ elements: [Element], _ body: (inout WireWriter, Element) -> Void) {
        number(UInt32(elements.count))
        for element in elements { record { body(&$0, element) } }
    }
}
