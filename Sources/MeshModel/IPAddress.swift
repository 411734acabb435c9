// MeshModel names the things of the mesh (workload, service, node, principal, address, reason) and holds the snapshot
// that every decision is made from. It is pure: it does no I/O, reads no clock and keeps no state of its own.

package import CMeshABI

/// An IPv4 or IPv6 address as one 128-bit value, so that both families share every table and every code path.
/// IPv4 is kept mapped, `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
package struct IPAddress: Hashable, Sendable, Comparable {
    /// The first eight bytes, as a number.
    package var high: UInt64
    /// The last eight bytes, as a number.
    package var low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// The IPv4 address whose four bytes are `value`, most significant first.
    package init(ipv4 value: UInt32) {
        self.init(high: 0, low: 0xffff_0000_0000 | UInt64(value))
    }

    package init(_ address: mesh_address) {
        let word = address.word
        high = UInt64(UInt32(bigEndian: word.0)) << 32 | UInt64(UInt32(bigEndian: word.1))
        low = UInt64(UInt32(bigEndian: word.2)) << 32 | UInt64(UInt32(bigEndian: word.3))
    }

    package static let unspecified = IPAddress(high: 0, low: 0)

    package var isIPv4: Bool { high == 0 && low >> 32 == 0xffff }

    /// The four bytes of an IPv4 address as a number; of an IPv6 address, its last four.
    package var ipv4: UInt32 { UInt32(truncatingIfNeeded: low) }

    package var isUnspecified: Bool { high == 0 && (low == 0 || (isIPv4 && ipv4 == 0)) }
    package var isLoopback: Bool { isIPv4 ? ipv4 >> 24 == 127 : high == 0 && low == 1 }
    package var isMulticast: Bool { isIPv4 ? ipv4 >> 28 == 0xe : high >> 56 == 0xff }
    package var isLinkLocal: Bool { isIPv4 ? ipv4 >> 16 == 0xa9fe : high >> 54 == 0x3fa }

    package static func < (left: IPAddress, right: IPAddress) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }

    /// The form that the programs in bpf/ use.
    package var meshAddress: mesh_address {
        mesh_address(
            word: (
                UInt32(truncatingIfNeeded: high >> 32).bigEndian, UInt32(truncatingIfNeeded: high).bigEndian,
                UInt32(truncatingIfNeeded: low >> 32).bigEndian, UInt32(truncatingIfNeeded: low).bigEndian
            ))
    }
}
