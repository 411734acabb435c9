/// What a field may be before anybody looks at its meaning (RFC 9113 section 8.2). A block that breaks one of these is
/// malformed, and its stream is reset with PROTOCOL_ERROR.
enum FieldRules {
    static func isLawful(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) -> Bool {
        isLawful(name: name) && isLawful(value: value) && !isOfHTTP1(name, value)
    }

    private static func isLawful(name: UnsafeRawBufferPointer) -> Bool {
        guard let first = name.first else { return false }
        let rest = first == UInt8(ascii: ":") ? name.dropFirst() : name[...]
        return !rest.isEmpty && rest.allSatisfy { $0.isTokenCharacter && !$0.isUpperCase }
    }

    private static func isLawful(value: UnsafeRawBufferPointer) -> Bool {
        guard let first = value.first, let last = value.last else { return true }
        let isBlank: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 }
        return !isBlank(first) && !isBlank(last) && value.allSatisfy { $0 != 0 && $0 != 0x0a && $0 != 0x0d }
    }

    /// Section 8.2.2: fields that speak of an HTTP/1 connection.
    private static func isOfHTTP1(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
        if name.equals("te") { return !value.equals("trailers") }
        return name.equals("connection") || name.equals("proxy-connection") || name.equals("keep-alive")
            || name.equals("transfer-encoding") || name.equals("upgrade")
    }
}

extension UnsafeRawBufferPointer {
    func equals(_ text: StaticString) -> Bool {
        count == text.utf8CodeUnitCount && elementsEqual(UnsafeRawBufferPointer(start: text.utf8Start, count: count))
    }
}
