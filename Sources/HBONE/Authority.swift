package import MeshModel

/// Where a CONNECT wants to go: its `:authority`, always with a port (RFC 9113 section 8.5).
package enum Authority: Hashable, Sendable, CustomStringConvertible {
    /// `10.0.0.1:80`, `[2001:db8::1]:80`.
    case address(SocketAddress)
    /// A service's host name, in lower case, and its service port.
    case name(String, port: UInt16)

    /// RFC 1035 section 2.3.4.
    package static let nameLengthMax = 253
    static let labelLengthMax = 63

    /// Reads an authority from the wire. Anything that could be read in two ways is nil: a missing, zero or padded
    /// port, user information, an address outside brackets, a zone, a name whose last label is a number.
    package init?(parsing bytes: UnsafeRawBufferPointer) {
        guard bytes.count <= Self.nameLengthMax + 6, bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { return nil }
        if let address = SocketAddress(parsing: bytes) {
            self = .address(address)
            return
        }
        let text = String(decoding: bytes, as: UTF8.self)
        guard let colon = text.utf8.lastIndex(of: UInt8(ascii: ":")),
            let port = Self.port(text.utf8[text.utf8.index(after: colon)...])
        else { return nil }
        let host = text[..<colon]
        guard Self.isName(host.utf8) else { return nil }
        self = .name(host.lowercased(), port: port)
    }

    package var port: UInt16 {
        switch self {
        case .address(let address): address.port
        case .name(_, let port): port
        }
    }

    package var description: String {
        switch self {
        case .address(let address): address.description
        case .name(let host, let port): "\(host):\(port)"
        }
    }

    // MARK: private

    private static func port(_ digits: Substring.UTF8View) -> UInt16? {
        guard (1...5).contains(digits.count), digits.first != UInt8(ascii: "0"), digits.allSatisfy({ $0.isDigit })
        else { return nil }
        return UInt16(String(decoding: digits, as: UTF8.self))
    }

    private static func isName(_ host: Substring.UTF8View) -> Bool {
        guard (1...nameLengthMax).contains(host.count) else { return false }
        var isNumber = true
        var length = 0
        var previous = UInt8(ascii: ".")
        for byte in host {
            if byte == UInt8(ascii: ".") {
                guard length > 0, previous != UInt8(ascii: "-") else { return false }
                (length, isNumber) = (0, true)
            } else {
                guard byte.isLetter || byte.isDigit || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-") else {
                    return false
                }
                guard length < labelLengthMax, byte != UInt8(ascii: "-") || length > 0 else { return false }
                length += 1
                isNumber = isNumber && byte.isDigit
            }
            previous = byte
        }
        return length > 0 && !isNumber && previous != UInt8(ascii: "-")
    }
}

extension UInt8 {
    var isDigit: Bool { self >= UInt8(ascii: "0") && self <= UInt8(ascii: "9") }
    var isLetter: Bool { self | 0x20 >= UInt8(ascii: "a") && self | 0x20 <= UInt8(ascii: "z") }
    var isUpperCase: Bool { self >= UInt8(ascii: "A") && self <= UInt8(ascii: "Z") }
}
