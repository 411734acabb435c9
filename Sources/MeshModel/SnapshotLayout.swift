// The bytes of a snapshot: a header, a table of sections, then the sections, each aligned to eight bytes. A section is
// an array of one kind of record; records name others by index or by id, and text by offset into the text section.
// Both ends are processes of one machine, or one machine at two times, so numbers are in its own (little-endian) order.
// A change of any record raises `SnapshotHeader.currentLayout`.

struct SnapshotHeader: BitwiseCopyable {
    var magic: UInt64 = SnapshotHeader.expectedMagic
    var layout: UInt32 = SnapshotHeader.currentLayout
    var sectionCount: UInt32 = UInt32(SnapshotSectionKind.allCases.count)
    /// Of the whole snapshot, in bytes; a multiple of eight.
    var length: UInt64 = 0
    /// Of everything behind this field.
    var checksum: UInt64 = 0
    var version: UInt64 = 0
    var policyDigest: UInt64 = 0
    var policyGeneration: UInt32 = 0
    var localNode: UInt32 = 0
    var trustDomain = TextReference()
    var nextNode: UInt32 = 1
    var nextService: UInt32 = 1
    var nextPrincipal: UInt32 = 1
    var nextNetwork: UInt32 = 1
    var nextWorkload: UInt32 = 1
    var reserved: UInt32 = 0
    var rootNamespace = TextReference()

    /// "CULVSNAP"
    static let expectedMagic: UInt64 = 0x5041_4e53_564c_5543
    static let currentLayout: UInt32 = 2
    /// Where the bytes that `checksum` covers begin.
    static let checksumFrom = 32
}

struct SnapshotSectionEntry: BitwiseCopyable {
    var offset: UInt64
    var count: UInt32
    var recordSize: UInt32
}

enum SnapshotSectionKind: Int, CaseIterable {
    case text
    case networks
    case nodes
    case nodeAddresses
    case principals
    case workloads
    case services
    case labels
    case ports
    case virtualAddresses
    case servicePorts
    case endpoints
    case routes
    case localEndpoints
    case owners
    case placements
    case policies
    case policyRules
    case policyClauses
    case policyTests
    case policyTexts
    case policyBlocks
    case policyPorts
    /// One for each workload.
    case workloadPolicies
    case policySelections
    case inboundPorts
    case inboundExemptions
    case peerAuthentications
    /// Of PeerAuthentications, as written.
    case declaredPorts
    case declaredExemptions
    case egressPolicies
    case egressEntries
    // Open-addressed tables over the sections above: a slot holds index + 1, 0 is empty.
    case nodesByID
    case nodesByAddress
    case principalsByID
    case principalsByURI
    case workloadsByID
    case servicesByID
    case servicesByName
    case routesByKey
    case localEndpointsByKey
    case ownersByKey
    case placementsByKey
}

/// A string in the text section.
struct TextReference: BitwiseCopyable {
    var offset: UInt32 = 0
    var length: UInt32 = 0
}

/// A run of records in another section.
struct RecordRange: BitwiseCopyable {
    var first: UInt32 = 0
    var count: UInt32 = 0
}

struct AddressRecord: BitwiseCopyable {
    var high: UInt64 = 0
    var low: UInt64 = 0

    init(_ address: IPAddress?) {
        high = address?.high ?? 0
        low = address?.low ?? 0
    }

    var address: IPAddress { IPAddress(high: high, low: low) }
    /// Nil for the unspecified address, which stands for none.
    var optional: IPAddress? { high == 0 && low == 0 ? nil : address }
}

struct NetworkRecord: BitwiseCopyable {
    var id: UInt32
    var reserved: UInt32 = 0
    var name: TextReference
}

struct NodeRecord: BitwiseCopyable {
    var id: UInt32
    var reserved: UInt32 = 0
    var name: TextReference
    var addresses: RecordRange
    var address4: AddressRecord
    var address6: AddressRecord
}

struct NodeAddressRecord: BitwiseCopyable {
    var address: AddressRecord
    var node: UInt32
    var reserved: UInt32 = 0
}

struct PrincipalRecord: BitwiseCopyable {
    var id: UInt32
    var reserved: UInt32 = 0
    var uri: TextReference
    /// The URI without its scheme, as policies write it.
    var name: TextReference
    var namespace: TextReference
    var serviceAccount: TextReference
}

struct WorkloadRecord: BitwiseCopyable {
    var id: UInt32
    var principal: UInt32
    var node: UInt32
    var network: UInt32
    var networkNamespace: UInt32
    var flags: UInt32
    var cgroupID: UInt64
    var address4: AddressRecord
    var address6: AddressRecord
    var name: TextReference
    var namespace: TextReference
    var serviceAccount: TextReference
    var labels: RecordRange
    var ports: RecordRange
    /// Of a local workload only: nobody else needs it.
    var selector: TextReference
    var selectorNetworkNamespace: TextReference

    static let isLocal: UInt32 = 1
    static let isRunning: UInt32 = 2
    static let sharesAddress: UInt32 = 4
    static let selectsUnit: UInt32 = 8
    static let selectsNetworkNamespace: UInt32 = 16
}

struct ServiceRecord: BitwiseCopyable {
    var id: UInt32
    var reserved: UInt32 = 0
    var name: TextReference
    var namespace: TextReference
    var addresses: RecordRange
    var ports: RecordRange
    var selector: RecordRange
}

struct LabelRecord: BitwiseCopyable {
    var key: TextReference
    var value: TextReference
}

struct ServicePortRecord: BitwiseCopyable {
    var port: UInt16
    var targetPort: UInt16
    var reserved: UInt32 = 0
    var endpoints: RecordRange
}

struct RouteRecord: BitwiseCopyable {
    /// `RouteRecord.everyNetwork` for virtual addresses.
    var network: UInt32
    /// 0: the address alone.
    var port: UInt16
    var kind: UInt16
    var id: UInt32
    var reserved: UInt32 = 0
    var address: AddressRecord

    static let everyNetwork = UInt32.max
    static let workload: UInt16 = 1
    static let service: UInt16 = 2

    static func hash(network: UInt32, address: IPAddress, port: UInt16) -> UInt64 {
        SnapshotHash.mix(address.high, address.low, UInt64(network) << 16 | UInt64(port))
    }
}

struct LocalEndpointRecord: BitwiseCopyable {
    /// 0: whoever it is; answers whether the destination is known at all.
    var principal: UInt32
    var workload: UInt32
    /// 0: the address alone.
    var port: UInt16
    var reserved0: UInt16 = 0
    var reserved1: UInt32 = 0
    var address: AddressRecord

    static func hash(principal: UInt32, address: IPAddress, port: UInt16) -> UInt64 {
        SnapshotHash.mix(address.high, address.low, UInt64(principal) << 16 | UInt64(port))
    }
}

struct OwnerRecord: BitwiseCopyable {
    var principal: UInt32
    var node: UInt32
    var address: AddressRecord

    static func hash(principal: UInt32, node: UInt32, address: IPAddress) -> UInt64 {
        SnapshotHash.mix(address.high, address.low, UInt64(principal) << 32 | UInt64(node))
    }
}

struct PlacementRecord: BitwiseCopyable {
    var principal: UInt32
    var node: UInt32

    static func hash(principal: UInt32, node: UInt32) -> UInt64 {
        SnapshotHash.mix(UInt64(principal) << 32 | UInt64(node))
    }
}

/// Hashes that stay the same from process to process, which Swift's own do not.
enum SnapshotHash {
    @inline(__always)
    static func mix(_ word: UInt64) -> UInt64 { step(seed, word) }

    @inline(__always)
    static func mix(_ first: UInt64, _ second: UInt64, _ third: UInt64) -> UInt64 {
        step(step(step(seed, first), second), third)
    }

    static func text(_ bytes: some Sequence<UInt8>) -> UInt64 {
        // FNV-1a, then a finalizer for the low bits.
        step(0, bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 })
    }

    /// Of `<name>.<namespace>`, letters of either case being the same.
    static func name(_ name: some Sequence<UInt8>, _ namespace: some Sequence<UInt8>) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        func add(_ byte: UInt8) { hash = (hash ^ UInt64(lowered(byte))) &* 0x100_0000_01b3 }
        for byte in name { add(byte) }
        add(UInt8(ascii: "."))
        for byte in namespace { add(byte) }
        return step(0, hash)
    }

    /// ASCII only, as in DNS.
    static func lowered(_ byte: UInt8) -> UInt8 { byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte }

    /// `bytes` has a multiple of eight bytes.
    static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash = seed &+ UInt64(bytes.count)
        var offset = 0
        while offset + 8 <= bytes.count {
            hash = (hash ^ bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)) &* 0x9e37_79b9_7f4a_7c15
            hash ^= hash >> 32
            offset += 8
        }
        return hash
    }

    // MARK: private

    private static let seed: UInt64 = 0x243f_6a88_85a3_08d3

    @inline(__always)
    private static func step(_ hash: UInt64, _ word: UInt64) -> UInt64 {
        var value = (hash ^ word) &* 0xff51_afd7_ed55_8ccd
        value ^= value >> 32
        value = value &* 0xc4ce_b9fe_1a85_ec53
        return value ^ value >> 29
    }
}
