import CLibBPF
import Glibc
package import LinuxIO

/// capture_inbound's instances, one in each network namespace with workloads, each with a pinned link of its own. A
/// program at this hook can't find out which namespace it runs in, so it is told when it is loaded: an instance is the
/// main object's program with another constant. What is pinned goes on without this process.
package final class InboundPrograms {
    static let program = "mesh_arrival"
    private static let pinPrefix = "link_\(program)_"
    /// NETNS_COOKIE_PLACEHOLDER of bpf/capture_inbound.bpf.c.
    private static let placeholder: UInt64 = 0x6d65_7368_636f_6f6b

    private let instructions: [bpf_insn]
    /// Of the two halves of the 64-bit constant.
    private let placeholderIndices: [Int]
    private let pinDirectory: String
    /// Those that this process has loaded.
    private var current: Set<UInt64> = []

    init(template: OpaquePointer, pinDirectory: String) throws(BPFError) {
        guard let first = bpf_program__insns(template) else {
            throw BPFError("find program", code: ENOENT, object: Self.program)
        }
        instructions = Array(UnsafeBufferPointer(start: first, count: bpf_program__insn_cnt(template)))
        let low = Int32(truncatingIfNeeded: Self.placeholder)
        let high = Int32(truncatingIfNeeded: Self.placeholder >> 32)
        placeholderIndices = instructions.indices.dropLast().filter { [instructions] index in
            instructions[index].code == UInt8(BPF_LD | BPF_IMM | BPF_DW) && instructions[index].src_reg == 0
                && instructions[index].imm == low && instructions[index + 1].imm == high
        }
        guard !placeholderIndices.isEmpty else { throw BPFError("find constant", code: ENOENT, object: Self.program) }
        self.pinDirectory = pinDirectory
    }

    /// Puts the program to work in the namespace that has this cookie; swapped in its pinned link where there is one.
    package func attach(cookie: UInt64, in namespace: borrowing NetworkNamespace) throws(BPFError) {
        if current.contains(cookie) { return }
        let program = try load(cookie: cookie)
        let descriptor = try duplicate(namespace)
        var status = stat()
        guard fstat(descriptor.number, &status) == 0 else {
            throw BPFError("open network namespace", code: errno, object: "\(cookie)")
        }
        let inode = UInt64(status.st_ino)
        if !swap(program, at: pin(cookie), inode: inode) {
            let number = bpf_link_create(program.number, descriptor.number, BPF_SK_LOOKUP, nil)
            guard number >= 0 else { throw BPFError("attach", code: -number, object: Self.program) }
            let link = FileDescriptor(owning: number)
            unlink(pin(cookie))
            let failed = bpf_obj_pin(link.number, pin(cookie))
            if failed < 0 { throw BPFError("pin", code: -failed, object: pin(cookie)) }
        }
        current.insert(cookie)
    }

    /// Takes it away; no error where it is not.
    package func detach(cookie: UInt64) {
        current.remove(cookie)
        unlink(pin(cookie))
    }

    /// The cookies of the namespaces that have a pinned link, of this process or of an earlier one.
    package func pinned() -> Set<UInt64> {
        guard let directory = opendir(pinDirectory) else { return [] }
        defer { closedir(directory) }
        var cookies: Set<UInt64> = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasPrefix(Self.pinPrefix), let cookie = UInt64(name.dropFirst(Self.pinPrefix.count)) {
                cookies.insert(cookie)
            }
        }
        return cookies
    }

    /// Instances that are not in their place any more, one sentence each.
    func faults() -> [String] {
        current.sorted().compactMap { cookie in
            inode(at: pin(cookie)) == nil
                ? "\(Self.program) is not at work in the network namespace with cookie \(cookie)" : nil
        }
    }

    // MARK: private

    private func pin(_ cookie: UInt64) -> String { "\(pinDirectory)/\(Self.pinPrefix)\(cookie)" }

    private func duplicate(_ namespace: borrowing NetworkNamespace) throws(BPFError) -> FileDescriptor {
        do throws(IOError) { return try namespace.duplicate() } catch {
            throw BPFError("open network namespace", code: error.code)
        }
    }

    private func load(cookie: UInt64) throws(BPFError) -> FileDescriptor {
        var instructions = instructions
        for index in placeholderIndices {
            instructions[index].imm = Int32(truncatingIfNeeded: cookie)
            instructions[index + 1].imm = Int32(truncatingIfNeeded: cookie >> 32)
        }
        var options = bpf_prog_load_opts()
        // libbpf wants every byte after the last field to be zero, and what pads the structure need not be.
        options.sz =
            (MemoryLayout<bpf_prog_load_opts>.offset(of: \.expected_attach_type) ?? 0) + MemoryLayout<UInt32>.size
        options.expected_attach_type = BPF_SK_LOOKUP
        let number = bpf_prog_load(
            BPF_PROG_TYPE_SK_LOOKUP, Self.program, "Dual BSD/GPL", instructions, instructions.count, &options)
        guard number >= 0 else { throw BPFError("load", code: -number, object: Self.program) }
        return FileDescriptor(owning: number)
    }

    /// Of the namespace that the pinned link is in; nil where there is none, or its namespace is gone.
    private func inode(at pin: String) -> UInt64? {
        let number = bpf_obj_get(pin)
        guard number >= 0 else { return nil }
        let link = FileDescriptor(owning: number)
        var info = bpf_link_info()
        var size = UInt32(MemoryLayout<bpf_link_info>.size)
        guard bpf_obj_get_info_by_fd(link.number, &info, &size) == 0, info.netns.netns_ino != 0 else { return nil }
        return UInt64(info.netns.netns_ino)
    }

    /// False where there is no pinned link, or its namespace is another.
    private func swap(_ program: borrowing FileDescriptor, at pin: String, inode: UInt64) -> Bool {
        guard self.inode(at: pin) == inode else { return false }
        let number = bpf_obj_get(pin)
        guard number >= 0 else { return false }
        let link = FileDescriptor(owning: number)
        return bpf_link_update(link.number, program.number, nil) == 0
    }
}
