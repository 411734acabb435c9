package import CMeshABI
import CLibBPF
import Glibc
package import LinuxIO

/// Finds and notes connections in plain text that no hook has seen, in one network namespace at a time.
package final class OlderSockets {
    private let link: OpaquePointer
    private let holders: BPFMap<UInt64, UInt32>
    private let listenerScan: ListenerScan

    init(
        program: OpaquePointer, holders: BPFMap<UInt64, UInt32>, listenerScan: ListenerScan
    ) throws(BPFError) {
        guard let attached = bpf_program__attach_iter(program, nil) else {
            throw BPFError("attach", code: errno, object: "mesh_older")
        }
        link = attached
        self.holders = holders
        self.listenerScan = listenerScan
    }

    deinit { bpf_link__destroy(link) }

    /// Those of the calling thread's network namespace, whose listeners are noted first. `holding`:
    /// workloads by the inodes of the sockets that their processes hold.
    package func find(holding: [UInt64: UInt32]) throws(IOError) -> [mesh_older] {
        defer { for inode in holding.keys { try? holders.remove(inode) } }
        for (inode, workload) in holding { try holders.put(inode, workload) }
        try listenerScan.run()
        let number = bpf_iter_create(bpf_link__fd(link))
        guard number >= 0 else { throw IOError("bpf_iter_create", code: -number, object: "mesh_older") }
        let iterator = FileDescriptor(owning: number)
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 * MemoryLayout<mesh_older>.size)
        while true {
            let count = read(iterator.number, &buffer, buffer.count)
            if count == 0 { break }
            if count < 0 && errno == EINTR { continue }
            if count < 0 { throw .last("read", object: "mesh_older") }
            bytes += buffer[..<count]
        }
        return bytes.withUnsafeBytes { bytes in
            stride(
                from: 0, to: bytes.count - bytes.count % MemoryLayout<mesh_older>.size,
                by: MemoryLayout<mesh_older>.size
            )
            .map { bytes.loadUnaligned(fromByteOffset: $0, as: mesh_older.self) }
        }
    }
}
