package import BPFRuntime

extension KernelTables {
    /// The pinned maps of a node's kernel side.
    package init(_ programs: KernelPrograms) {
        self.init(
            settings: { value throws(KernelTableError) in try programs.settings.put(0, value) },
            cgroups: KernelTable(programs.cgroups), workloads: KernelTable(programs.workloads),
            destinations: KernelTable(programs.destinations), listeners: KernelTable(programs.listeners),
            nodes: KernelTable(programs.nodes), patterns: KernelTable(programs.patterns),
            noteListeners: { () throws(KernelTableError) in try programs.listenerScan.run() })
    }
}

extension KernelTable {
    init(_ map: BPFMap<Key, Value>) {
        self.init(
            put: { key, value throws(KernelTableError) in try map.put(key, value) },
            remove: { key throws(KernelTableError) in try map.remove(key) },
            get: { key throws(KernelTableError) in try map.get(key) },
            keys: { () throws(KernelTableError) in try map.keys() })
    }
}
