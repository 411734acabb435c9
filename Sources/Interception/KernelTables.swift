package import CMeshABI
package import LinuxIO

/// How a map's operations fail. (A declaration of its own: the compiler does not count an error type within a closure's
/// type as a use of its import.)
package typealias KernelTableError = IOError

/// One BPF map as KernelState needs it. Closures, so that tests run on dictionaries and meshd on the pinned maps.
package struct KernelTable<Key: BitwiseCopyable, Value: BitwiseCopyable> {
    package var put: (Key, Value) throws(IOError) -> Void
    /// No error when there is no such key.
    package var remove: (Key) throws(IOError) -> Void
    package var get: (Key) throws(IOError) -> Value?
    package var keys: () throws(IOError) -> [Key]

    package init(
        put: @escaping (Key, Value) throws(IOError) -> Void, remove: @escaping (Key) throws(IOError) -> Void,
        get: @escaping (Key) throws(IOError) -> Value?, keys: @escaping () throws(IOError) -> [Key]
    ) {
        self.put = put
        self.remove = remove
        self.get = get
        self.keys = keys
    }
}

/// The maps that meshd writes (bpf/abi/mesh_abi.h says what is in them).
package struct KernelTables {
    package var settings: (mesh_settings) throws(IOError) -> Void
    package var cgroups: KernelTable<UInt64, mesh_cgroup>
    package var workloads: KernelTable<UInt32, mesh_workload>
    package var destinations: KernelTable<mesh_destination_key, mesh_destination>
    package var listeners: KernelTable<mesh_listeners_key, mesh_listeners>
    package var nodes: KernelTable<mesh_address, UInt32>
    package var egress: KernelTable<mesh_egress_key, mesh_egress>
    /// An array: keys are 0..<MESH_PATTERNS_MAX, and what is removed becomes an unused entry.
    package var patterns: KernelTable<UInt32, mesh_pattern>
    /// Notes the listeners of the calling thread's network namespace that no program saw begin.
    package var noteListeners: () throws(IOError) -> Void
    /// Puts the egress fence on these cgroups, directories by id, and on no others.
    package var fence: ([UInt64: String]) throws(IOError) -> Void
    /// Connections of the calling thread's network namespace that no program saw begin; `holding`: workloads by the
    /// inodes of the sockets that their processes hold.
    package var findOlder: (_ holding: [UInt64: UInt32]) throws(IOError) -> [mesh_older]
    package var inbound: InboundTables
    package var direct: DirectTables

    package init(
        settings: @escaping (mesh_settings) throws(IOError) -> Void, cgroups: KernelTable<UInt64, mesh_cgroup>,
        workloads: KernelTable<UInt32, mesh_workload>,
        destinations: KernelTable<mesh_destination_key, mesh_destination>,
        listeners: KernelTable<mesh_listeners_key, mesh_listeners>, nodes: KernelTable<mesh_address, UInt32>,
        egress: KernelTable<mesh_egress_key, mesh_egress>, patterns: KernelTable<UInt32, mesh_pattern>,
        noteListeners: @escaping () throws(IOError) -> Void,
        fence: @escaping ([UInt64: String]) throws(IOError) -> Void,
        findOlder: @escaping (_ holding: [UInt64: UInt32]) throws(IOError) -> [mesh_older],
        inbound: InboundTables, direct: DirectTables
    ) {
        self.settings = settings
        self.cgroups = cgroups
        self.workloads = workloads
        self.destinations = destinations
        self.listeners = listeners
        self.nodes = nodes
        self.egress = egress
        self.patterns = patterns
        self.noteListeners = noteListeners
        self.fence = fence
        self.findOlder = findOlder
        self.inbound = inbound
        self.direct = direct
    }
}

/// A C structure compared by its bytes: all of ours have explicit padding.
struct Raw<Value: BitwiseCopyable>: Hashable {
    var value: Value

    init(_ value: Value) { self.value = value }

    static func == (left: Raw, right: Raw) -> Bool {
        withUnsafeBytes(of: left.value) { left in withUnsafeBytes(of: right.value) { left.elementsEqual($0) } }
    }

    func hash(into hasher: inout Hasher) { withUnsafeBytes(of: value) { hasher.combine(bytes: $0) } }
}

/// Keeps one map equal to what is wanted by writing only differences. What is in the map at the first use (an earlier
/// meshd's work) is read and counts as written.
struct TableSync<Key: BitwiseCopyable, Value: BitwiseCopyable> {
    typealias Content = [Raw<Key>: Raw<Value>]

    let table: KernelTable<Key, Value>
    private var present: Content = [:]
    private var isRead = false
    /// The part of a value that the programs write, taken over into the new one before a put.
    private let keeping: (inout Value, Value) -> Void
    /// False for entries that are others' to remove.
    private let isOurs: (Value) -> Bool

    init(
        _ table: KernelTable<Key, Value>, keeping: @escaping (inout Value, Value) -> Void = { _, _ in },
        isOurs: @escaping (Value) -> Bool = { _ in true }
    ) {
        self.table = table
        self.keeping = keeping
        self.isOurs = isOurs
    }

    /// First half: new and changed entries. Everything that must exist exists afterwards.
    mutating func put(_ wanted: Content) throws(IOError) {
        try read()
        for (key, value) in wanted where present[key] != value {
            var written = value.value
            if present[key] != nil, let old = try table.get(key.value) { keeping(&written, old) }
            try table.put(key.value, written)
            present[key] = value
        }
    }

    /// Second half: entries that are not wanted any more, those that are `first` before the others.
    mutating func removeOthers(_ wanted: Content, first: (Value) -> Bool = { _ in true }) throws(IOError) {
        try read()
        for isLast in [false, true] {
            for (key, value) in present where wanted[key] == nil && (isLast || first(value.value)) {
                try table.remove(key.value)
                present[key] = nil
            }
        }
    }

    /// Someone else wrote the entry: the next put writes it again.
    mutating func forget(_ key: Key) { present[Raw(key)] = nil }

    private mutating func read() throws(IOError) {
        guard !isRead else { return }
        for key in try table.keys() {
            guard var value = try table.get(key), isOurs(value) else { continue }
            // What the programs write is not ours to compare.
            keeping(&value, zeroed())
            present[Raw(key)] = Raw(value)
        }
        isRead = true
    }

    private func zeroed() -> Value {
        withUnsafeTemporaryAllocation(of: Value.self, capacity: 1) { space in
            let bytes = UnsafeMutableRawBufferPointer(space)
            bytes.initializeMemory(as: UInt8.self, repeating: 0)
            return space[0]
        }
    }
}
