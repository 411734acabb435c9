import CLibBPF
import Glibc
import LinuxIO

/// One program's place: which hook, on which cgroup, and the file that pins its link.
struct Attachment {
    enum Place {
        case cgroup(String, bpf_attach_type)
        case trace
    }

    var program: String
    var place: Place
    /// Tells the links of a program apart that has several.
    var suffix = ""
    private var pinName: String { "link_\(program)\(suffix)" }

    /// Everything that is attached. Programs that only read come first, the one that begins connections last, so that a
    /// swap of versions never has a writer without its readers.
    static func all(root: String, sockets: String) -> [Attachment] {
        [
            Attachment(program: "mesh_getopt", place: .cgroup(sockets, BPF_CGROUP_GETSOCKOPT)),
            Attachment(program: "mesh_setopt", place: .cgroup(sockets, BPF_CGROUP_SETSOCKOPT)),
            Attachment(program: "mesh_peername4", place: .cgroup(root, BPF_CGROUP_INET4_GETPEERNAME)),
            Attachment(program: "mesh_peername6", place: .cgroup(root, BPF_CGROUP_INET6_GETPEERNAME)),
            Attachment(program: "mesh_sockname4", place: .cgroup(root, BPF_CGROUP_INET4_GETSOCKNAME)),
            Attachment(program: "mesh_sockname6", place: .cgroup(root, BPF_CGROUP_INET6_GETSOCKNAME)),
            Attachment(program: "mesh_udp_recv4", place: .cgroup(root, BPF_CGROUP_UDP4_RECVMSG)),
            Attachment(program: "mesh_udp_recv6", place: .cgroup(root, BPF_CGROUP_UDP6_RECVMSG)),
            Attachment(program: "mesh_udp_peer4", place: .cgroup(root, BPF_CGROUP_INET4_GETPEERNAME)),
            Attachment(program: "mesh_udp_peer6", place: .cgroup(root, BPF_CGROUP_INET6_GETPEERNAME)),
            Attachment(program: "mesh_udp_name4", place: .cgroup(root, BPF_CGROUP_INET4_GETSOCKNAME)),
            Attachment(program: "mesh_udp_name6", place: .cgroup(root, BPF_CGROUP_INET6_GETSOCKNAME)),
            Attachment(program: "mesh_udp_asked", place: .cgroup(sockets, BPF_CGROUP_INET_INGRESS)),
            Attachment(program: "mesh_release", place: .cgroup(root, BPF_CGROUP_INET_SOCK_RELEASE)),
            Attachment(program: "mesh_sockops", place: .cgroup(root, BPF_CGROUP_SOCK_OPS)),
            Attachment(program: "mesh_cgmkdir", place: .trace),
            Attachment(program: "mesh_cgrmdir", place: .trace),
            Attachment(program: "mesh_bind4", place: .cgroup(root, BPF_CGROUP_INET4_BIND)),
            Attachment(program: "mesh_bind6", place: .cgroup(root, BPF_CGROUP_INET6_BIND)),
            Attachment(program: "mesh_sock", place: .cgroup(root, BPF_CGROUP_INET_SOCK_CREATE)),
            Attachment(program: "mesh_udp_bound4", place: .cgroup(root, BPF_CGROUP_INET4_POST_BIND)),
            Attachment(program: "mesh_udp_bound6", place: .cgroup(root, BPF_CGROUP_INET6_POST_BIND)),
            Attachment(program: "mesh_udp_in", place: .cgroup(root, BPF_CGROUP_INET_INGRESS)),
            Attachment(program: "mesh_udp_out", place: .cgroup(root, BPF_CGROUP_INET_EGRESS)),
            Attachment(program: "mesh_udp_send6", place: .cgroup(root, BPF_CGROUP_UDP6_SENDMSG)),
            Attachment(program: "mesh_udp_send4", place: .cgroup(root, BPF_CGROUP_UDP4_SENDMSG)),
            Attachment(program: "mesh_udp_conn6", place: .cgroup(root, BPF_CGROUP_INET6_CONNECT)),
            Attachment(program: "mesh_udp_conn4", place: .cgroup(root, BPF_CGROUP_INET4_CONNECT)),
            Attachment(program: "mesh_connect6", place: .cgroup(root, BPF_CGROUP_INET6_CONNECT)),
            Attachment(program: "mesh_connect4", place: .cgroup(root, BPF_CGROUP_INET4_CONNECT)),
        ]
    }

    /// Puts the program in its place: swapped atomically in a pinned link that is still good, else attached and pinned.
    func install(_ descriptor: Int32, pinDirectory: String) throws(BPFError) {
        let pin = "\(pinDirectory)/\(pinName)"
        switch place {
        case .cgroup(let path, let type):
            let number = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            guard number >= 0 else { throw BPFError("open cgroup", code: errno, object: path) }
            let cgroup = FileDescriptor(owning: number)
            if Attachment.swap(descriptor, in: pin, cgroup: cgroup) { return }
            try pinNew(bpf_link_create(descriptor, cgroup.number, type, nil), at: pin)
        case .trace:
            // Such a link can't take another program: the new one is attached beside the old, then the old goes.
            try pinNew(bpf_link_create(descriptor, 0, BPF_TRACE_RAW_TP, nil), at: pin)
        }
    }

    /// Why the program is not at work, in a sentence; nil where it is.
    func fault(pinDirectory: String) -> String? {
        let number = bpf_obj_get("\(pinDirectory)/\(pinName)")
        guard number >= 0 else { return "\(program) is not pinned: \(String(cString: strerror(-number)))" }
        let link = FileDescriptor(owning: number)
        guard case .cgroup(let path, _) = place else { return nil }
        var info = bpf_link_info()
        var size = UInt32(MemoryLayout<bpf_link_info>.size)
        var status = stat()
        guard bpf_obj_get_info_by_fd(link.number, &info, &size) == 0, stat(path, &status) == 0,
            info.cgroup.cgroup_id == UInt64(status.st_ino)
        else { return "\(program) is not attached to \(path)" }
        return nil
    }

    /// Takes the program away from its place.
    func remove(pinDirectory: String) { unlink("\(pinDirectory)/\(pinName)") }

    private func pinNew(_ link: Int32, at pin: String) throws(BPFError) {
        guard link >= 0 else { throw BPFError("attach", code: -link, object: program) }
        let link = FileDescriptor(owning: link)
        unlink(pin)
        let failed = bpf_obj_pin(link.number, pin)
        if failed < 0 { throw BPFError("pin", code: -failed, object: pin) }
    }

    /// False when there is no pinned link, or it is on a cgroup that has been removed since.
    private static func swap(_ program: Int32, in pin: String, cgroup: borrowing FileDescriptor) -> Bool {
        let number = bpf_obj_get(pin)
        guard number >= 0 else { return false }
        let link = FileDescriptor(owning: number)
        var info = bpf_link_info()
        var size = UInt32(MemoryLayout<bpf_link_info>.size)
        var status = stat()
        guard bpf_obj_get_info_by_fd(link.number, &info, &size) == 0, fstat(cgroup.number, &status) == 0,
            info.cgroup.cgroup_id == UInt64(status.st_ino)
        else { return false }
        return bpf_link_update(link.number, program, nil) == 0
    }
}
