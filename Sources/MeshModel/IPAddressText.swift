extension IPAddress: CustomStringConvertible {
    /// Reads an address as text: four decimal numbers without leading zeros, or IPv6 (RFC 4291 section 2.2) without
    /// zone and brackets. An IPv4 address in IPv6 form is that IPv4 address.
    package init?(parsing text: some StringProtocol) {
        var text = String(text)
        guard let parsed = text.withUTF8({ Self.parse($0[...]) }) else { return nil }
        self = parsed
    }

    fileprivate typealias Bytes = Slice<UnsafeBufferPointer<UInt8>>

    fileprivate static func parse(_ bytes: Bytes) -> IPAddress? {
        bytes.contains(UInt8(ascii: ":")) ? parseIPv6(bytes) : parseIPv4(bytes)
    }

    /// The text of RFC 5952; IPv4 addresses as four decimal numbers.
    package var description: String { isIPv4 ? Self.textIPv4(ipv4) : textIPv6 }

    // MARK: private

    /// Once for each connection of a peer: no array, no string.
    private static func parseIPv4(_ bytes: Bytes) -> IPAddress? {
        guard bytes.count <= 15 else { return nil }
        var value: UInt32 = 0
        var count = 0
        var number: UInt32 = 0
        var digits = 0
        for byte in bytes {
            if byte == UInt8(ascii: ".") {
                guard digits > 0, number <= 255, count < 3 else { return nil }
                value = value << 8 | number
                (number, digits, count) = (0, 0, count + 1)
                continue
            }
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte), digits < 3, digits == 0 || number > 0 else {
                return nil
            }
            number = number * 10 + UInt32(byte - UInt8(ascii: "0"))
            digits += 1
        }
        guard count == 3, digits > 0, number <= 255 else { return nil }
        return IPAddress(ipv4: value << 8 | number)
    }

    private static func parseIPv6(_ bytes: Bytes) -> IPAddress? {
        guard bytes.count <= 45 else { return nil }
        let colon = UInt8(ascii: ":")
        var gap: Bytes.Index?
        var index = bytes.startIndex
        while index + 1 < bytes.endIndex {
            if bytes[index] == colon && bytes[index + 1] == colon {
                gap = index
                break
            }
            index += 1
        }
        guard let gap else {
            guard let groups = parseGroups(bytes), groups.count == 8 else { return nil }
            return IPAddress(groups: groups)
        }
        guard let head = parseGroups(bytes[..<gap], isLast: false), let tail = parseGroups(bytes[(gap + 2)...]),
            head.count + tail.count <= 7
        else { return nil }
        return IPAddress(groups: head + [UInt16](repeating: 0, count: 8 - head.count - tail.count) + tail)
    }

    /// Groups of four hexadecimal digits between single colons; the last may be an IPv4 address.
    private static func parseGroups(_ bytes: Bytes, isLast: Bool = true) -> [UInt16]? {
        guard !bytes.isEmpty else { return [] }
        var groups: [UInt16] = []
        let parts = bytes.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard parts.count <= 8 else { return nil }
        for (number, part) in parts.enumerated() {
            if isLast && number == parts.count - 1 && part.contains(UInt8(ascii: ".")) {
                guard let embedded = parseIPv4(part) else { return nil }
                groups += [UInt16(embedded.ipv4 >> 16), UInt16(truncatingIfNeeded: embedded.ipv4)]
                continue
            }
            guard (1...4).contains(part.count) else { return nil }
            var group: UInt16 = 0
            for byte in part {
                guard let digit = hexDigit(byte) else { return nil }
                group = group << 4 | digit
            }
            groups.append(group)
        }
        return groups
    }

    private static func hexDigit(_ byte: UInt8) -> UInt16? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt16(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt16(byte - UInt8(ascii: "a") + 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt16(byte - UInt8(ascii: "A") + 10)
        default: nil
        }
    }

    private init(groups: [UInt16]) {
        let high = groups[..<4].reduce(UInt64(0)) { $0 << 16 | UInt64($1) }
        let low = groups[4...].reduce(UInt64(0)) { $0 << 16 | UInt64($1) }
        self.init(high: high, low: low)
    }

    private static func textIPv4(_ value: UInt32) -> String {
        String(unsafeUninitializedCapacity: 15) { text in
            var count = 0
            for shift: UInt32 in [24, 16, 8, 0] {
                let number = UInt8(truncatingIfNeeded: value >> shift)
                if number >= 100 { text.put(number / 100, &count) }
                if number >= 10 { text.put(number / 10 % 10, &count) }
                text.put(number % 10, &count)
                if shift > 0 {
                    text[count] = UInt8(ascii: ".")
                    count += 1
                }
            }
            return count
        }
    }

    private func group(_ index: Int) -> UInt16 {
        let half = index < 4 ? high : low
        return UInt16(truncatingIfNeeded: half >> UInt64(48 - 16 * (index & 3)))
    }

    private var textIPv6: String {
        // RFC 5952 section 4.2: the longest run of at least two zero groups is shortened, the first one at a tie.
        var best = 0..<0
        var start = 0
        for index in 0...8 where index == 8 || group(index) != 0 {
            if index - start > max(best.count, 1) { best = start..<index }
            start = index + 1
        }
        var text = ""
        var index = 0
        while index < 8 {
            if index == best.lowerBound && !best.isEmpty {
                text += "::"
                index = best.upperBound
                continue
            }
            if !text.isEmpty && !text.hasSuffix(":") { text += ":" }
            text += String(group(index), radix: 16)
            index += 1
        }
        return text
    }
}

extension SocketAddress: CustomStringConvertible {
    /// Reads `1.2.3.4:80` or `[2001:db8::1]:80`; the port is decimal without leading zeros, 1 to 65535.
    package init?(parsing text: some StringProtocol) {
        var text = String(text)
        guard let parsed = text.withUTF8({ Self.parse($0[...]) }) else { return nil }
        self = parsed
    }

    /// The same from a message, without a string in between.
    package init?(parsing bytes: UnsafeRawBufferPointer) {
        guard let parsed = bytes.withMemoryRebound(to: UInt8.self, { Self.parse($0[...]) }) else { return nil }
        self = parsed
    }

    package var description: String { address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)" }

    // MARK: private

    private static func parse(_ bytes: IPAddress.Bytes) -> SocketAddress? {
        guard let colon = bytes.lastIndex(of: UInt8(ascii: ":")), let port = parsePort(bytes[(colon + 1)...]) else {
            return nil
        }
        var host = bytes[..<colon]
        let isBracketed = host.first == UInt8(ascii: "[") && host.last == UInt8(ascii: "]") && host.count >= 2
        if isBracketed { host = host.dropFirst().dropLast() }
        // Brackets belong to IPv6 alone (RFC 3986 section 3.2.2), and there they must be.
        guard host.contains(UInt8(ascii: ":")) == isBracketed, let address = IPAddress.parse(host) else { return nil }
        return SocketAddress(address, port)
    }

    private static func parsePort(_ digits: IPAddress.Bytes) -> UInt16? {
        guard (1...5).contains(digits.count), digits.first != UInt8(ascii: "0") else { return nil }
        var port: UInt32 = 0
        for byte in digits {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            port = port * 10 + UInt32(byte - UInt8(ascii: "0"))
        }
        return UInt16(exactly: port)
    }
}

extension UnsafeMutableBufferPointer<UInt8> {
    fileprivate func put(_ digit: UInt8, _ count: inout Int) {
        self[count] = UInt8(ascii: "0") + digit
        count += 1
    }
}
