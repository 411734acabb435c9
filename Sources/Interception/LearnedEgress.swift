import BPFRuntime
import CMeshABI
import LinuxIO
import MeshModel
import ProxyControl

/// The addresses that workloads were told for names of their EgressPolicies, in the kernel's list. The list itself is the
/// memory: the next meshd finds in it what was learned, and for which of a policy's names.
struct LearnedEgress {
    /// As long as a name was answered so lately, it is taken to stand for the address: applications keep addresses for
    /// longer than their records live, and some until they end.
    static let lifetimeMinSeconds: UInt32 = 600
    static let lifetimeMaxSeconds: UInt32 = 86_400
    /// Of one workload, ports counted apart; beyond it those that would end first go.
    static let perWorkloadMax = 1_024

    private struct Entry {
        /// Of the policy's names, those that the address was answered for; the kernel's entry has the first.
        var names: [UInt32]
        var expires: UInt64
    }

    private let table: KernelTable<mesh_egress_key, mesh_egress>
    private var entries: [Raw<mesh_egress_key>: Entry] = [:]
    private var isRead = false
    /// Pushed out by others of the same workload, since the start.
    private(set) var displaced: UInt64 = 0

    init(_ table: KernelTable<mesh_egress_key, mesh_egress>) { self.table = table }

    var count: Int { entries.count }

    /// Takes over what a workload is about to be told, as far as its policy lists the name. `now` in nanoseconds since
    /// boot. False where nothing is allowed by it.
    mutating func take(_ resolution: NameResolution, _ view: EgressView, now: UInt64) throws(IOError) -> Bool {
        guard view.mode == .listed else { return false }
        try read()
        let lifetime = min(max(resolution.timeToLiveSeconds, Self.lifetimeMinSeconds), Self.lifetimeMaxSeconds)
        let expires = now + UInt64(lifetime) * 1_000_000_000
        var isListed = false
        for entry in view.allowed where entry.lists(name: resolution.name) {
            guard case .name(let pattern) = entry.destination else { continue }
            isListed = true
            for address in resolution.addresses {
                for port in entry.ports.isEmpty ? [0] : entry.ports where !view.covers(address, port) {
                    let key = EgressPlan.key(resolution.workload, AddressBlock(address), port)
                    try put(Raw(key), Entry(names: [EgressPlan.number(ofName: pattern)], expires: expires))
                }
            }
        }
        try limit(resolution.workload)
        return isListed
    }

    /// Whether a workload that connects there now is let out by a name's leave.
    func allows(_ workload: WorkloadID, _ destination: SocketAddress, now: UInt64) -> Bool {
        [0, destination.port].contains { port in
            let key = EgressPlan.key(workload, AddressBlock(destination.address), port)
            return entries[Raw(key)].map { $0.expires > now } ?? false
        }
    }

    /// Forgets what the policies in force do not list any more, or list by address.
    mutating func keep(_ plan: EgressPlan) throws(IOError) {
        try read()
        for (key, entry) in entries {
            let listed = entry.names.filter { plan.listsName($0, key.value) }
            if listed.isEmpty {
                try remove(key)
            } else if listed != entry.names {
                try write(key, Entry(names: listed, expires: entry.expires))
            }
        }
    }

    mutating func expire(now: UInt64) throws(IOError) {
        for (key, entry) in entries where entry.expires <= now { try remove(key) }
    }

    // MARK: private

    private static let origin = UInt8(truncatingIfNeeded: mesh_egress_origin.MESH_EGRESS_RESOLVED.rawValue)

    private mutating func put(_ key: Raw<mesh_egress_key>, _ entry: Entry) throws(IOError) {
        var entry = entry
        if let known = entries[key] {
            entry.expires = max(entry.expires, known.expires)
            entry.names = known.names + entry.names.filter { !known.names.contains($0) }
        }
        try write(key, entry)
    }

    private mutating func write(_ key: Raw<mesh_egress_key>, _ entry: Entry) throws(IOError) {
        var value = mesh_egress()
        value.origin = Self.origin
        value.name = entry.names.first ?? 0
        value.expires_ns = entry.expires
        try table.put(key.value, value)
        entries[key] = entry
    }

    private mutating func remove(_ key: Raw<mesh_egress_key>) throws(IOError) {
        // A policy may list the very address by now.
        if let value = try table.get(key.value), value.origin == Self.origin { try table.remove(key.value) }
        entries[key] = nil
    }

    private mutating func limit(_ workload: WorkloadID) throws(IOError) {
        let own = entries.filter { $0.key.value.workload == workload.rawValue }
        guard own.count > Self.perWorkloadMax else { return }
        let leaving = own.sorted { $0.value.expires < $1.value.expires }.prefix(own.count - Self.perWorkloadMax)
        for (key, _) in leaving { try remove(key) }
        displaced += UInt64(leaving.count)
    }

    private mutating func read() throws(IOError) {
        guard !isRead else { return }
        for key in try table.keys() {
            guard let value = try table.get(key), value.origin == Self.origin else { continue }
            entries[Raw(key)] = Entry(names: [value.name], expires: value.expires_ns)
        }
        isRead = true
    }
}

extension EgressView {
    /// Whether it lists the address at the port by a block: a learned entry would stand before that one, and end.
    func covers(_ address: IPAddress, _ port: UInt16) -> Bool {
        allowed.contains { entry in
            guard case .addresses(let block) = entry.destination, block.contains(address) else { return false }
            return entry.ports.isEmpty || entry.ports.contains(port)
        }
    }
}
