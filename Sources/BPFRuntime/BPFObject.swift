import CBPFObjects
import CLibBPF
import Glibc
import LinuxIO

/// The embedded object: opened, its maps tied to their pins, loaded. Closed when the value ends; what is pinned stays.
struct BPFObject: ~Copyable {
    private let object: OpaquePointer

    /// Room to work in, without content worth keeping: its size may differ between versions.
    private static let scratchMap = "mesh_path"

    private init(owning object: OpaquePointer) { self.object = object }

    /// Loads the programs, all but `omitted`. Maps that are pinned in the directory, or in one of another layout with the
    /// same shape, are taken over; others are made, with the content of a former one, and pinned there.
    static func load(
        pinDirectory: String, former: [FormerLayout] = [], omitting omitted: String? = nil
    ) throws(BPFError) -> BPFObject {
        LibraryLog.attach()
        guard let handle = bpf_object__open_mem(culvert_bpf_object(), culvert_bpf_object_size(), nil) else {
            throw BPFError("open", code: errno, object: "embedded BPF object", details: LibraryLog.take())
        }
        let object = BPFObject(owning: handle)
        if let omitted { _ = bpf_program__set_autoload(try object.program(omitted), false) }
        var made: [String] = []
        var map = bpf_object__next_map(handle, nil)
        while let current = map {
            let name = String(cString: bpf_map__name(current))
            if name.hasPrefix("mesh_"), name != scratchMap {
                let pin = "\(pinDirectory)/map_\(name)"
                if access(pin, F_OK) != 0 { made.append(name) }
                for layout in former where try layout.share(current, pin: pin) { made.removeAll { $0 == name } }
                _ = bpf_map__set_pin_path(current, pin)
            }
            map = bpf_object__next_map(handle, current)
        }
        let failed = bpf_object__load(handle)
        if failed < 0 { throw BPFError("load", code: -failed, object: "BPF programs", details: LibraryLog.take()) }
        for name in made {
            for layout in former { try layout.copy(name, to: try object.mapDescriptor(name)) }
        }
        return object
    }

    /// Whether the object has a program of which the name begins with this one, or is it.
    func hasProgram(ofLink name: String) -> Bool {
        var program = bpf_object__next_program(object, nil)
        while let current = program {
            let own = "link_" + String(cString: bpf_program__name(current))
            if name == own || name.hasPrefix(own + "_") { return true }
            program = bpf_object__next_program(object, current)
        }
        return false
    }

    func hasMap(ofPin name: String) -> Bool {
        bpf_object__find_map_by_name(object, String(name.dropFirst("map_".count))) != nil
    }

    deinit { bpf_object__close(object) }

    func program(_ name: String) throws(BPFError) -> OpaquePointer {
        guard let program = bpf_object__find_program_by_name(object, name) else {
            throw BPFError("find program", code: ENOENT, object: name)
        }
        return program
    }

    func programDescriptor(_ name: String) throws(BPFError) -> Int32 { bpf_program__fd(try program(name)) }

    func map<Key, Value>(_ name: String, _ key: Key.Type, _ value: Value.Type) throws(BPFError) -> BPFMap<Key, Value> {
        guard let map = bpf_object__find_map_by_name(object, name) else {
            throw BPFError("find map", code: ENOENT, object: name)
        }
        guard bpf_map__key_size(map) == MemoryLayout<Key>.size, bpf_map__value_size(map) == MemoryLayout<Value>.size
        else { throw BPFError("check sizes of", code: EINVAL, object: name) }
        let copy = fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw BPFError("open map", code: errno, object: name) }
        return BPFMap(name: name, descriptor: FileDescriptor(owning: copy))
    }

    func mapDescriptor(_ name: String) throws(BPFError) -> Int32 {
        guard let map = bpf_object__find_map_by_name(object, name) else {
            throw BPFError("find map", code: ENOENT, object: name)
        }
        return bpf_map__fd(map)
    }
}

/// libbpf talks to standard error; its last lines belong into our errors instead. Used by the control thread alone.
private enum LibraryLog {
    nonisolated(unsafe) private static var text: [UInt8] = []
    private static let bytesMax = 600

    static func attach() { culvert_libbpf_log_to(keepLibraryLine) }

    static func add(_ line: UnsafePointer<CChar>) {
        text += Array(String(cString: line).utf8)
        if text.count > bytesMax { text.removeFirst(text.count - bytesMax) }
    }

    static func take() -> String {
        defer { text = [] }
        return String(decoding: text, as: UTF8.self).split(separator: "\n").joined(separator: "; ")
    }
}

private func keepLibraryLine(_ line: UnsafePointer<CChar>?) {
    if let line { LibraryLog.add(line) }
}
