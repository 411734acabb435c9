import CLibBPF
import Glibc
import LinuxIO

/// The egress fence's places: `mesh_fence` runs for every packet of the cgroups that it is attached to, so it is attached
/// to those of fenced workloads and nowhere else. Pinned like the other programs: it stands while meshd is away.
package final class EgressFence {
    private static let program = "mesh_fence"

    private let descriptor: Int32
    private let pinDirectory: String
    private var places: [UInt64: Attachment] = [:]

    /// `program` stays the caller's and must outlive this. What an earlier meshd fenced gets the program at once.
    init(program: Int32, pinDirectory: String) throws(BPFError) {
        descriptor = program
        self.pinDirectory = pinDirectory
        for cgroup in pinnedCgroups() { swapProgram(cgroup) }
    }

    /// Fences these cgroups, directories by id, and no others. One that has gone meanwhile is left out.
    package func set(_ wanted: [UInt64: String]) throws(BPFError) {
        for (cgroup, directory) in wanted where places[cgroup] == nil {
            let attachment = Self.attachment(cgroup, directory)
            do throws(BPFError) {
                try attachment.install(descriptor, pinDirectory: pinDirectory)
                places[cgroup] = attachment
            } catch {
                if error.code != ENOENT { throw error }
            }
        }
        for cgroup in pinnedCgroups() where wanted[cgroup] == nil {
            Self.attachment(cgroup, "").remove(pinDirectory: pinDirectory)
            places[cgroup] = nil
        }
    }

    func faults() -> [String] { places.values.compactMap { $0.fault(pinDirectory: pinDirectory) } }

    // MARK: private

    private static func attachment(_ cgroup: UInt64, _ directory: String) -> Attachment {
        Attachment(program: program, place: .cgroup(directory, BPF_CGROUP_INET_EGRESS), suffix: "_\(cgroup)")
    }

    /// The pins are what survives meshd, so they say what is fenced.
    private func pinnedCgroups() -> [UInt64] {
        guard let directory = opendir(pinDirectory) else { return [] }
        defer { closedir(directory) }
        var cgroups: [UInt64] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            let prefix = "link_\(Self.program)_"
            if name.hasPrefix(prefix), let cgroup = UInt64(name.dropFirst(prefix.count)) { cgroups.append(cgroup) }
        }
        return cgroups
    }

    /// A link whose cgroup has gone can't take it, and goes with the next `set`.
    private func swapProgram(_ cgroup: UInt64) {
        let number = bpf_obj_get("\(pinDirectory)/link_\(Self.program)_\(cgroup)")
        guard number >= 0 else { return }
        let link = FileDescriptor(owning: number)
        _ = bpf_link_update(link.number, descriptor, nil)
    }
}
