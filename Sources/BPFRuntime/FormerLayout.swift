import CLibBPF
import Glibc
import LinuxIO

/// What a meshd of another layout left pinned for this node, `v<layout>` beside our own directory. A table of the same
/// shape is shared: pinned here too, so that programs of both layouts work on it while links are swapped. One of another
/// shape is copied: by the rule of `mesh_abi.h` the longer value only appends. Storage of sockets and connections on their
/// way can't be copied without losing some, so they never change their shape: what is added goes into reserved space or a
/// storage of its own.
struct FormerLayout {
    private static let unchangeable = ["mesh_handover"]

    /// Without content worth keeping.
    private static let uncopied: Set<UInt32> = [BPF_MAP_TYPE_RINGBUF.rawValue]

    let directory: String

    /// The directories beside `pinDirectory` that have something pinned.
    static func all(beside pinDirectory: String) -> [FormerLayout] {
        guard let slash = pinDirectory.lastIndex(of: "/") else { return [] }
        let own = pinDirectory[pinDirectory.index(after: slash)...]
        let node = String(pinDirectory[..<slash])
        let names = PinDirectory.names(node).filter { name in
            name != own && name.first == "v" && UInt32(name.dropFirst()) != nil
        }
        return names.sorted().map { FormerLayout(directory: "\(node)/\($0)") }
            .filter { !PinDirectory.names($0.directory).isEmpty }
    }

    /// Takes over the map before it would be made: pinned at `pin` if it has the shape that `map` wants. False where it
    /// must be copied, or there is none.
    func share(_ map: OpaquePointer, pin: String) throws(BPFError) -> Bool {
        let name = String(cString: bpf_map__name(map))
        guard access(pin, F_OK) != 0, let old = try open(name) else { return false }
        let info = try Self.info(of: old.number, name)
        let isSame =
            info.type == bpf_map__type(map).rawValue && info.key_size == bpf_map__key_size(map)
            && info.value_size == bpf_map__value_size(map) && info.max_entries == Self.entries(map)
            && info.map_flags == bpf_map__map_flags(map)
        if isSame {
            let failed = bpf_obj_pin(old.number, pin)
            if failed < 0 { throw BPFError("pin", code: -failed, object: pin) }
            return true
        }
        if info.type == BPF_MAP_TYPE_SK_STORAGE.rawValue || Self.unchangeable.contains(name) {
            throw BPFError(
                "take over", code: EINVAL, object: "\(directory)/map_\(name)",
                details: "its shape is another; detach the former version first: meshd uninstall")
        }
        return false
    }

    /// Copies every entry of the map, if it is there, into the new one of that name, which must not be in use yet.
    func copy(_ name: String, to descriptor: Int32) throws(BPFError) {
        guard let old = try open(name) else { return }
        let (from, to) = (try Self.info(of: old.number, name), try Self.info(of: descriptor, name))
        guard from.id != to.id, !Self.uncopied.contains(from.type) else { return }
        guard from.type == to.type, from.key_size == to.key_size else {
            throw BPFError("copy", code: EINVAL, object: "\(directory)/map_\(name)", details: "its keys are others")
        }
        try TableCopy(from: from, to: to).run(from: old.number, to: descriptor, name: name)
    }

    /// Pins its links here too, so that they are swapped like our own.
    func shareLinks(pinDirectory: String) throws(BPFError) {
        for name in PinDirectory.names(directory) where name.hasPrefix("link_") {
            let pin = "\(pinDirectory)/\(name)"
            let number = bpf_obj_get("\(directory)/\(name)")
            guard number >= 0 else { continue }
            let link = FileDescriptor(owning: number)
            let failed = bpf_obj_pin(link.number, pin)
            if failed < 0 && failed != -EEXIST { throw BPFError("pin", code: -failed, object: pin) }
        }
    }

    /// Nothing of it is in use any more.
    func remove() throws(BPFError) { try PinDirectory.remove(directory) }

    // MARK: private

    private func open(_ name: String) throws(BPFError) -> FileDescriptor? {
        let number = bpf_obj_get("\(directory)/map_\(name)")
        if number == -ENOENT || (number < 0 && errno == ENOENT) { return nil }
        guard number >= 0 else { throw BPFError("open", code: -number, object: "\(directory)/map_\(name)") }
        return FileDescriptor(owning: number)
    }

    private static func info(of descriptor: Int32, _ name: String) throws(BPFError) -> bpf_map_info {
        var info = bpf_map_info()
        var size = UInt32(MemoryLayout<bpf_map_info>.size)
        let failed = bpf_obj_get_info_by_fd(descriptor, &info, &size)
        if failed < 0 { throw BPFError("look at", code: -failed, object: name) }
        return info
    }

    /// Socket storage has none.
    private static func entries(_ map: OpaquePointer) -> UInt32 { bpf_map__max_entries(map) }
}

/// Entries of one map put into another whose values may be longer or shorter at their end.
private struct TableCopy {
    let keySize: Int
    let fromSize: Int
    let toSize: Int

    init(from: bpf_map_info, to: bpf_map_info) {
        keySize = Int(from.key_size)
        // A value of a per-processor map is one of each, every one at a multiple of eight bytes.
        let isPerProcessor =
            from.type == BPF_MAP_TYPE_PERCPU_ARRAY.rawValue || from.type == BPF_MAP_TYPE_PERCPU_HASH.rawValue
        let processors = isPerProcessor ? max(1, Int(libbpf_num_possible_cpus())) : 1
        let size = { (bytes: UInt32) in isPerProcessor ? (Int(bytes) + 7) / 8 * 8 * processors : Int(bytes) }
        (fromSize, toSize) = (size(from.value_size), size(to.value_size))
    }

    func run(from: Int32, to: Int32, name: String) throws(BPFError) {
        var key = [UInt8](repeating: 0, count: keySize)
        var next = key
        var old = [UInt8](repeating: 0, count: fromSize)
        var isFirst = true
        while bpf_map_get_next_key(from, isFirst ? nil : key, &next) == 0 {
            isFirst = false
            key = next
            // One that went away meanwhile.
            guard bpf_map_lookup_elem(from, key, &old) == 0 else { continue }
            var new = [UInt8](repeating: 0, count: toSize)
            let shared = min(fromSize, toSize)
            new.replaceSubrange(..<shared, with: old[..<shared])
            let failed = bpf_map_update_elem(to, key, new, 0)
            // An array that has become shorter.
            if failed < 0 && failed != -E2BIG { throw BPFError("copy", code: -failed, object: name) }
        }
    }
}

/// Names in a directory of a BPF file system.
enum PinDirectory {
    static func names(_ path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }

    /// No error when there is none. Links go first: no program may run on maps that are gone.
    static func remove(_ path: String) throws(BPFError) {
        guard access(path, F_OK) == 0 else { return }
        for name in names(path).sorted() where name.hasPrefix("link_") || name.hasPrefix("map_") {
            guard unlink("\(path)/\(name)") == 0 else {
                throw BPFError("remove", code: errno, object: "\(path)/\(name)")
            }
        }
        guard rmdir(path) == 0 else { throw BPFError("remove", code: errno, object: path) }
    }
}
