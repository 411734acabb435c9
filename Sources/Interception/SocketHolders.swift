import Glibc
import LinuxIO
package import MeshModel

/// Which sockets processes hold, from /proc: the inode numbers that the kernel shows for their descriptors.
package struct SocketHolders {
    /// By inode.
    package private(set) var workloads: [UInt64: UInt32] = [:]
    /// True when there were more sockets than one look may take.
    package private(set) var isCutShort = false

    /// What one look takes at most: the kernel's map has as many.
    private static let socketsMax = 262_144

    package init() {}

    package mutating func add(pid: Int32, workload: WorkloadID) {
        guard let directory = opendir("/proc/\(pid)/fd") else { return }  // It has ended.
        defer { closedir(directory) }
        var target = [CChar](repeating: 0, count: 64)
        while let entry = readdir(directory) {
            let length = withUnsafePointer(to: &entry.pointee.d_name) { name in
                name.withMemoryRebound(to: CChar.self, capacity: 1) {
                    readlinkat(dirfd(directory), $0, &target, target.count)
                }
            }
            guard length > 0,
                let inode = Self.inode(String(decoding: target[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self))
            else { continue }
            guard workloads.count < Self.socketsMax else {
                isCutShort = true
                return
            }
            workloads[inode] = workload.rawValue
        }
    }

    /// Of a link's text, as `socket:[4711]`.
    static func inode(_ text: String) -> UInt64? {
        guard text.hasPrefix("socket:["), text.hasSuffix("]") else { return nil }
        return UInt64(text.dropFirst("socket:[".count).dropLast())
    }

    /// The inodes of packet sockets in the network namespace that the process lives in.
    static func packetSockets(pid: Int32) -> Set<UInt64> {
        guard let text = try? TextFile.read("/proc/\(pid)/net/packet") else { return [] }
        return Set(
            text.split(separator: "\n").dropFirst().compactMap { line in
                line.split(separator: " ").last.flatMap { UInt64($0) }
            })
    }
}
