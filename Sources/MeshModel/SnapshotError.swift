/// Why bytes are no snapshot, or resources can't become one.
package enum SnapshotError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Shorter than a header, not aligned, or of another length than the header says.
    case wrongLength
    case notASnapshot
    /// Written by a version with another layout of the bytes.
    case otherLayout(UInt32)
    case checksumMismatch
    /// An offset, index or size leads out of its section.
    case malformed(section: String)
    /// More than the 32-bit offsets can reach.
    case tooLarge
    /// A namespace, service account or trust domain that no SPIFFE ID can carry.
    case invalidPrincipal(ResourceName)

    package var description: String {
        switch self {
        case .wrongLength: "the snapshot has the wrong length"
        case .notASnapshot: "not a snapshot"
        case .otherLayout(let layout):
            "the snapshot has layout \(layout), this program reads layout \(SnapshotHeader.currentLayout)"
        case .checksumMismatch: "the snapshot's checksum does not match its bytes"
        case .malformed(let section): "the snapshot's section \(section) is malformed"
        case .tooLarge: "the snapshot would be larger than 4 GiB"
        case .invalidPrincipal(let name): "workload \(name) has a principal that is no SPIFFE ID"
        }
    }
}
