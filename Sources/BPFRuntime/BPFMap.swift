import CLibBPF
import Glibc
package import LinuxIO

/// One BPF map with its key and value types. The two are C structures of `bpf/abi`, so that sizes agree by construction;
/// they are compared with the map's own when it is opened.
package final class BPFMap<Key: BitwiseCopyable, Value: BitwiseCopyable> {
    package let name: String
    let descriptor: FileDescriptor

    init(name: String, descriptor: consuming FileDescriptor) {
        self.name = name
        self.descriptor = descriptor
    }

    package func put(_ key: Key, _ value: Value) throws(IOError) {
        let failed = withUnsafeBytes(of: key) { key in
            withUnsafeBytes(of: value) { value in
                bpf_map_update_elem(descriptor.number, key.baseAddress, value.baseAddress, UInt64(BPF_ANY))
            }
        }
        if failed < 0 { throw IOError("bpf_map_update_elem", code: -failed, object: name) }
    }

    /// No error when there is no such key.
    package func remove(_ key: Key) throws(IOError) {
        let failed = withUnsafeBytes(of: key) { bpf_map_delete_elem(descriptor.number, $0.baseAddress) }
        if failed < 0 && failed != -ENOENT { throw IOError("bpf_map_delete_elem", code: -failed, object: name) }
    }

    package func get(_ key: Key) throws(IOError) -> Value? {
        var failed: Int32 = 0
        let value: Value? = withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { space in
            failed = withUnsafeBytes(of: key) {
                bpf_map_lookup_elem(descriptor.number, $0.baseAddress, space.baseAddress)
            }
            return failed < 0 ? nil : space[0]
        }
        if failed < 0 && failed != -ENOENT { throw IOError("bpf_map_lookup_elem", code: -failed, object: name) }
        return value
    }

    /// Every key that is there from beginning to end of the walk; one that is removed meanwhile may be among them.
    package func keys() throws(IOError) -> [Key] {
        var keys: [Key] = []
        var failed: Int32 = 0
        withUnsafeTemporaryAllocation(of: Key.self, capacity: 2) { space in
            guard let base = space.baseAddress else { return }
            failed = bpf_map_get_next_key(descriptor.number, nil, base)
            while failed == 0 {
                keys.append(base[0])
                base[1] = base[0]
                failed = bpf_map_get_next_key(descriptor.number, base + 1, base)
            }
        }
        if failed != -ENOENT { throw IOError("bpf_map_get_next_key", code: -failed, object: name) }
        return keys
    }
}
