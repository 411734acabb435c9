import Glibc
package import LinuxIO
package import MeshModel

/// Why the last good snapshot can't be used.
package enum LastGoodError: Error, Equatable, Sendable, CustomStringConvertible {
    case io(IOError)
    /// Damaged, or of a version with another layout.
    case unreadable(path: String, SnapshotError)
    /// Of another node or trust domain: a state directory that was copied or shared.
    case foreign(path: String, node: String, trustDomain: String)

    package var description: String {
        switch self {
        case .io(let error): "the last good snapshot: \(error)"
        case .unreadable(let path, let error): "the last good snapshot \(path) is left aside: \(error)"
        case .foreign(let path, let node, let trustDomain):
            "the last good snapshot \(path) is left aside: it belongs to node \(node) of \(trustDomain); give each "
                + "meshd a stateDirectory of its own"
        }
    }
}

/// The snapshot on disk that a meshd starts from when the resource files are broken, and that ids go on from.
package struct LastGoodSnapshot: Sendable {
    package let path: String
    private var savedVersion: UInt64?

    /// Larger ones are damage.
    private static let bytesMax = 1 << 30

    package init(stateDirectory: String) { path = stateDirectory + "/snapshot" }

    /// Nil where there is none yet. Damage is an error and never more: the caller logs it and starts without.
    package func load(localNode: String, trustDomain: String) throws(LastGoodError) -> Snapshot? {
        let bytes: [UInt8]
        do throws(IOError) {
            bytes = try TextFile.readBytes(path, limitBytes: Self.bytesMax)
        } catch {
            if error.code == ENOENT { return nil }
            throw .io(error)
        }
        let snapshot: Snapshot
        do throws(SnapshotError) {
            snapshot = try Snapshot(bytes: bytes)
        } catch {
            throw .unreadable(path: path, error)
        }
        let node = snapshot.node(snapshot.localNode)?.name ?? ""
        guard node == localNode, snapshot.trustDomain == trustDomain else {
            throw .foreign(path: path, node: node, trustDomain: snapshot.trustDomain)
        }
        return snapshot
    }

    /// Replaces the file at once and durably; a version that is there already is not written again.
    package mutating func save(_ snapshot: Snapshot) throws(IOError) {
        guard snapshot.version != savedVersion else { return }
        try TextFile.replace(path, with: snapshot.withBytes { Array($0) })
        savedVersion = snapshot.version
    }
}
