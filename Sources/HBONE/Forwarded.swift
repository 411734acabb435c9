package import MeshModel

/// The `forwarded` header as ztunnel sends it, `for="10.0.0.1:4242";host=web.shop` (RFC 7239). A received one is what
/// the peer says: telemetry, and a client address to present only where the snapshot agrees.
package struct Forwarded: Equatable, Sendable, CustomStringConvertible {
    package static let lengthMax = 512

    /// The application's own address; nil where it is missing, obfuscated or without a port.
    package var client: SocketAddress?
    /// The service that the application meant.
    package var host: String?

    package init(client: SocketAddress?, host: String? = nil) {
        self.client = client
        self.host = host
    }

    package var description: String {
        var text = ""
        if let client { text += "for=\"\(client)\"" }
        guard let host else { return text }
        if client != nil { text += ";" }
        text += "host="
        text += Self.quoted(host)
        return text
    }

    /// A name is a token and stands as it is; anything else is quoted.
    private static func quoted(_ text: String) -> String {
        if !text.isEmpty && text.utf8.allSatisfy({ $0.isTokenCharacter }) { return text }
        var quoted = "\""
        for character in text.unicodeScalars where character.isASCII && character.value >= 0x20 {
            if character == "\"" || character == "\\" { quoted += "\\" }
            quoted.unicodeScalars.append(character)
        }
        return quoted + "\""
    }

    /// Reads the first element, which the hop next to the client wrote. Nil where the grammar is broken or a parameter
    /// comes twice.
    package init?(parsing bytes: UnsafeRawBufferPointer) {
        guard bytes.count <= Self.lengthMax else { return nil }
        var reader = Reader(bytes: bytes)
        var isClientSeen = false
        self.init(client: nil)
        repeat {
            guard let name = reader.token(), reader.take(UInt8(ascii: "=")), let value = reader.value() else {
                return nil
            }
            switch name.lowercased() {
            case "for":
                guard !isClientSeen else { return nil }
                isClientSeen = true
                client = SocketAddress(parsing: value)
            case "host":
                guard host == nil else { return nil }
                host = value
            default: break
            }
        } while reader.take(UInt8(ascii: ";"))
        guard reader.isAtEnd || reader.takeComma() else { return nil }
    }

    /// Tokens and quoted strings of RFC 9110 section 5.6.
    private struct Reader {
        let bytes: UnsafeRawBufferPointer
        var position = 0

        var isAtEnd: Bool { position == bytes.count }

        mutating func take(_ byte: UInt8) -> Bool {
            guard position < bytes.count, bytes[position] == byte else { return false }
            position += 1
            return true
        }

        /// A comma after optional blanks, with an element behind it.
        mutating func takeComma() -> Bool {
            while take(UInt8(ascii: " ")) || take(UInt8(ascii: "\t")) {}
            return take(UInt8(ascii: ",")) && !isAtEnd
        }

        mutating func token() -> String? {
            let start = position
            while position < bytes.count, bytes[position].isTokenCharacter { position += 1 }
            return position > start ? String(decoding: bytes[start..<position], as: UTF8.self) : nil
        }

        /// The rest of a quoted string that has no escape in it, which needs no copy on the way; else nothing is read.
        private mutating func plainText() -> String? {
            var end = position
            while end < bytes.count, bytes[end] >= 0x20, bytes[end] < 0x7f, bytes[end] != UInt8(ascii: "\\") {
                if bytes[end] == UInt8(ascii: "\"") {
                    defer { position = end + 1 }
                    return String(decoding: bytes[position..<end], as: UTF8.self)
                }
                end += 1
            }
            return nil
        }

        mutating func value() -> String? {
            guard take(UInt8(ascii: "\"")) else { return token() }
            if let plain = plainText() { return plain }
            var text: [UInt8] = []
            while position < bytes.count {
                var byte = bytes[position]
                position += 1
                if byte == UInt8(ascii: "\"") { return String(decoding: text, as: UTF8.self) }
                if byte == UInt8(ascii: "\\") {
                    guard position < bytes.count else { return nil }
                    byte = bytes[position]
                    position += 1
                }
                guard byte >= 0x20, byte < 0x7f else { return nil }
                text.append(byte)
            }
            return nil
        }
    }
}

extension UInt8 {
    /// RFC 9110 section 5.6.2.
    var isTokenCharacter: Bool {
        if isLetter || isDigit { return true }
        return switch self {
        case UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"),
            UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "-"), UInt8(ascii: "."),
            UInt8(ascii: "^"), UInt8(ascii: "_"), UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
            true
        default: false
        }
    }
}
