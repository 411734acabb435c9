package import CMeshABI
import CLibBPF
import Glibc
import LinuxIO

/// The live counters of every observed socket, read from the kernel by an iterator over socket storage, or over the TCP
/// sockets of one network namespace after the other where a security module refuses the first kind.
package final class LiveFlows {
    static let program = "mesh_live"
    static let programForEachNamespace = "mesh_live_tcp"

    private let link: OpaquePointer
    /// Whether `read` gives only the sockets of the calling thread's network namespace.
    package let isPerNamespace: Bool

    /// Goes through the sockets of one network namespace at a time.
    init(programForEachNamespace program: OpaquePointer) throws(BPFError) {
        guard let attached = bpf_program__attach_iter(program, nil) else {
            throw BPFError("attach", code: errno, object: Self.programForEachNamespace)
        }
        link = attached
        isPerNamespace = true
    }

    init(program: OpaquePointer, mapDescriptor: Int32) throws(BPFError) {
        var target = bpf_iter_link_info()
        target.map.map_fd = UInt32(mapDescriptor)
        let attached: OpaquePointer? = withUnsafeMutablePointer(to: &target) { target in
            var options = bpf_iter_attach_opts()
            // libbpf wants every byte after the last field to be zero, and what pads the structure need not be.
            options.sz = Self.optionsSize
            options.link_info = target
            options.link_info_len = UInt32(MemoryLayout<bpf_iter_link_info>.size)
            return bpf_program__attach_iter(program, &options)
        }
        guard let attached else { throw BPFError("attach", code: errno, object: "mesh_live") }
        link = attached
        isPerNamespace = false
    }

    private static let optionsSize =
        (MemoryLayout<bpf_iter_attach_opts>.offset(of: \.link_info_len) ?? 0) + MemoryLayout<UInt32>.size

    deinit { bpf_link__destroy(link) }

    /// One event of kind open for each socket, with its counters as of now.
    package func read(_ body: (mesh_event) -> Void) throws(BPFError) {
        let number = bpf_iter_create(bpf_link__fd(link))
        guard number >= 0 else { throw BPFError("iterate", code: -number, object: "mesh_live") }
        let iterator = FileDescriptor(owning: number)
        let size = MemoryLayout<mesh_event>.size
        var failure: Int32 = 0
        withUnsafeTemporaryAllocation(byteCount: 64 * size, alignment: 8) { buffer in
            var filled = 0
            while true {
                let free = UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
                let count = Glibc.read(iterator.number, free.baseAddress, free.count)
                if count < 0 && errno == EINTR { continue }
                if count < 0 { failure = errno }
                guard count > 0 else { return }
                filled += count
                var offset = 0
                while filled - offset >= size {
                    body(buffer.loadUnaligned(fromByteOffset: offset, as: mesh_event.self))
                    offset += size
                }
                // A read may end within a record: its beginning waits for the rest.
                buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[offset..<filled]))
                filled -= offset
            }
        }
        if failure != 0 { throw BPFError("iterate", code: failure, object: "mesh_live") }
    }
}
