/// A range of addresses with a common prefix (CIDR, RFC 4632), of one family: `::/0` holds no IPv4 address.
package struct AddressBlock: Hashable, Sendable {
    /// The first address; bits behind the prefix are 0.
    package let address: IPAddress
    /// In bits of the 128-bit form: an IPv4 block has 96 more than its text says.
    package let prefixBits: UInt8

    /// Bits behind the prefix are cleared. `prefixBits` is at most 128, and at least 96 for an IPv4 address.
    package init(_ address: IPAddress, prefixBits: UInt8) {
        let bits = min(128, address.isIPv4 ? max(96, prefixBits) : prefixBits)
        self.address = address.masked(to: bits)
        self.prefixBits = bits
    }

    /// The block of one address.
    package init(_ address: IPAddress) { self.init(address, prefixBits: 128) }

    /// Reads `10.0.0.0/8`, `fd00::/8`, or an address alone. Nil too where bits behind the prefix are set.
    package init?(parsing text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let first = parts.first, let address = IPAddress(parsing: first) else { return nil }
        guard parts.count == 2 else {
            self.init(address)
            return
        }
        let digits = parts[1].utf8
        guard (1...3).contains(digits.count), digits.count == 1 || digits.first != UInt8(ascii: "0"),
            digits.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let length = UInt8(parts[1]), length <= (address.isIPv4 ? 32 : 128)
        else { return nil }
        self.init(address, prefixBits: address.isIPv4 ? 96 + length : length)
        guard self.address == address else { return nil }
    }

    @inline(__always)
    package func contains(_ other: IPAddress) -> Bool {
        other.isIPv4 == address.isIPv4 && other.masked(to: prefixBits) == address
    }

    package func contains(_ other: AddressBlock) -> Bool {
        prefixBits <= other.prefixBits && contains(other.address)
    }
}

extension AddressBlock: CustomStringConvertible {
    /// With the length of its prefix unless it is one address.
    package var description: String {
        prefixBits == 128 ? "\(address)" : "\(address)/\(address.isIPv4 ? prefixBits - 96 : prefixBits)"
    }
}

extension IPAddress {
    @inline(__always)
    fileprivate func masked(to bits: UInt8) -> IPAddress {
        // Smart shifts: 64 and more leave nothing.
        let high = bits >= 64 ? self.high : self.high & ~(UInt64.max >> UInt64(bits))
        let low = bits <= 64 ? 0 : bits >= 128 ? self.low : self.low & ~(UInt64.max >> UInt64(bits - 64))
        return IPAddress(high: high, low: low)
    }
}
