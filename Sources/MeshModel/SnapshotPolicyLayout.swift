// The records of policies. A rule is kept as what has to be compared: clauses of tests of values. A workload has the
// list of the policies that select it, so that a decision looks at no others.

struct PolicyRecord: BitwiseCopyable {
    var name: TextReference
    var namespace: TextReference
    var selector: RecordRange
    var rules: RecordRange
    var flags: UInt32
    var scope: UInt32

    static let denies: UInt32 = 1
    static let isDryRun: UInt32 = 2
    static let flagsMask: UInt32 = 3
}

/// Runs of clauses: one of `from` must match, one of `to`, and all of `when`; an empty run does.
struct PolicyRuleRecord: BitwiseCopyable {
    var from: RecordRange
    var to: RecordRange
    var when: RecordRange
}

/// Runs of tests that must all hold; an empty one does not match.
struct PolicyClauseRecord: BitwiseCopyable {
    var tests: RecordRange
}

struct PolicyTestRecord: BitwiseCopyable {
    var field: UInt16
    /// 1: none of the values may match; 0: one of them must.
    var isNegated: UInt16
    var reserved: UInt32 = 0
    /// Into the section of the field's values.
    var values: RecordRange
}

/// What a test compares; the number is that of `PolicyTestRecord.field`.
package enum PolicyField: UInt16, CaseIterable, Sendable {
    case sourcePrincipal = 1
    case sourceNamespace = 2
    case sourceServiceAccount = 3
    case sourceAddress = 4
    case destinationAddress = 5
    case destinationPort = 6
}

struct PolicyTextRecord: BitwiseCopyable {
    var form: UInt32
    var reserved: UInt32 = 0
    var text: TextReference
    /// Of a service account: its name, where `text` is its namespace.
    var account = TextReference()

    static let exact: UInt32 = 1
    static let prefix: UInt32 = 2
    static let suffix: UInt32 = 3
    static let any: UInt32 = 4
}

struct AddressBlockRecord: BitwiseCopyable {
    var address: AddressRecord
    var prefixBits: UInt32
    var reserved: UInt32 = 0

    init(_ block: AddressBlock) {
        address = AddressRecord(block.address)
        prefixBits = UInt32(block.prefixBits)
    }

    @inline(__always)
    var block: AddressBlock { AddressBlock(address.address, prefixBits: UInt8(truncatingIfNeeded: prefixBits)) }
}

struct PeerAuthenticationRecord: BitwiseCopyable {
    var name: TextReference
    var namespace: TextReference
    var selector: RecordRange
    var ports: RecordRange
    var exemptions: RecordRange
    /// 0: what the wider scope says.
    var mode: UInt32
    var reserved: UInt32 = 0
}

struct InboundPortRecord: BitwiseCopyable {
    var port: UInt16
    var mode: UInt16
}

struct InboundExemptionRecord: BitwiseCopyable {
    var source: AddressBlockRecord
    var port: UInt16
    var reserved0: UInt16 = 0
    var reserved1: UInt32 = 0
}

struct EgressPolicyRecord: BitwiseCopyable {
    var name: TextReference
    var namespace: TextReference
    var selector: RecordRange
    var entries: RecordRange
    var mode: UInt32
    var allowsRawSockets: UInt32
}

struct EgressEntryRecord: BitwiseCopyable {
    /// Of no meaning where there is a name.
    var block: AddressBlockRecord
    /// Empty: the addresses count.
    var name: TextReference
    /// Into the ports of policies; none is any.
    var ports: RecordRange
}

/// What policies mean for one workload.
struct WorkloadPolicyRecord: BitwiseCopyable {
    /// Into the selections, which are indices of policies.
    var policies = RecordRange()
    var inboundPorts = RecordRange()
    var exemptions = RecordRange()
    var inboundMode = UInt32(InboundMode.strict.rawValue)
    /// Index + 1; 0 is none.
    var egress: UInt32 = 0
}
