/// The immutable, versioned picture of nodes, workloads and services that decisions are made from: a view over flat
/// bytes, in memory of its own or in a mapping that several processes share. Every offset is checked once, when the
/// snapshot is made; look-ups then trust the bytes, take constant time and allocate nothing.
///
/// Safe to share between threads: nothing changes after `init` (a mapping must be sealed against writing).
package final class Snapshot: @unchecked Sendable {
    /// Rises with every change.
    package let version: UInt64
    /// Rises only when policies, principals or labels change: verdicts of an older one have to be judged again.
    package let policyGeneration: UInt32
    /// Of what the policy generation counts: generations of a meshd that had to begin anew may repeat.
    package var policyDigest: UInt64 { header.policyDigest }
    /// The node that this snapshot was built for.
    package let localNode: NodeID

    let bytes: UnsafeRawBufferPointer
    let header: SnapshotHeader
    let sections: SnapshotSections
    private let release: @Sendable () -> Void

    /// Copies `bytes`.
    package convenience init(bytes: [UInt8]) throws(SnapshotError) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(bytes.count, 8), alignment: 8)
        copy.copyBytes(from: bytes)
        // The address as a number, since a closure that leaves this thread can't hold a pointer.
        let address = UInt(bitPattern: copy.baseAddress)
        do throws(SnapshotError) {
            try self.init(
                mapping: UnsafeRawBufferPointer(rebasing: copy[..<bytes.count]),
                release: { UnsafeMutableRawPointer(bitPattern: address)?.deallocate() })
        } catch {
            throw error
        }
    }

    /// Takes `mapping` over: `release` is called when the last reference is gone, or at once if this throws.
    package init(
        mapping: UnsafeRawBufferPointer, release: @escaping @Sendable () -> Void
    ) throws(SnapshotError) {
        do throws(SnapshotError) {
            header = try Self.checkedHeader(mapping)
            sections = try SnapshotSections(mapping)
            try sections.validate(header)
        } catch {
            release()
            throw error
        }
        bytes = mapping
        self.release = release
        version = header.version
        policyGeneration = header.policyGeneration
        localNode = NodeID(rawValue: header.localNode)
    }

    deinit { release() }

    /// The bytes as they are written to disk or to a memfd; `body` must not keep the pointer.
    package func withBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(bytes)
    }

    /// Size in bytes.
    package var byteCount: Int { bytes.count }

    // MARK: private

    private static func checkedHeader(_ bytes: UnsafeRawBufferPointer) throws(SnapshotError) -> SnapshotHeader {
        guard let base = bytes.baseAddress, bytes.count >= MemoryLayout<SnapshotHeader>.stride,
            bytes.count % 8 == 0, UInt(bitPattern: base) % 8 == 0
        else { throw .wrongLength }
        let header = base.load(as: SnapshotHeader.self)
        guard header.magic == SnapshotHeader.expectedMagic else { throw .notASnapshot }
        guard header.layout == SnapshotHeader.currentLayout else { throw .otherLayout(header.layout) }
        guard header.length == UInt64(bytes.count) else { throw .wrongLength }
        let covered = UnsafeRawBufferPointer(rebasing: bytes[SnapshotHeader.checksumFrom...])
        guard header.checksum == SnapshotHash.checksum(covered) else { throw .checksumMismatch }
        guard header.sectionCount == UInt32(SnapshotSectionKind.allCases.count) else {
            throw .malformed(section: "header")
        }
        return header
    }
}
