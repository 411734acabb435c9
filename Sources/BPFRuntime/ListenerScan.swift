import CLibBPF
import Glibc
package import LinuxIO

/// Notes the listening sockets that are older than the programs, or than their cgroup's being a workload: an iterator
/// over the TCP sockets of one network namespace, which writes into the same map as the programs do.
package final class ListenerScan {
    private let link: OpaquePointer

    init(program: OpaquePointer) throws(BPFError) {
        guard let attached = bpf_program__attach_iter(program, nil) else {
            throw BPFError("attach", code: errno, object: "mesh_listening")
        }
        link = attached
    }

    deinit { bpf_link__destroy(link) }

    /// In the calling thread's network namespace.
    package func run() throws(IOError) {
        let number = bpf_iter_create(bpf_link__fd(link))
        guard number >= 0 else { throw IOError("bpf_iter_create", code: -number, object: "mesh_listening") }
        let iterator = FileDescriptor(owning: number)
        var byte: UInt8 = 0
        while true {
            let count = read(iterator.number, &byte, 1)
            // It writes nothing, and ends with EAGAIN at the first socket that does not listen.
            if count == 0 || (count < 0 && errno == EAGAIN) { return }
            if count < 0 && errno != EINTR { throw .last("read", object: "mesh_listening") }
        }
    }
}
