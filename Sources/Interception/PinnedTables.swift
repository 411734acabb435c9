package import BPFRuntime
import LinuxIO

extension KernelTables {
    /// The pinned maps of a node's kernel side.
    package init(_ programs: KernelPrograms) {
        self.init(
            settings: { value throws(KernelTableError) in try programs.settings.put(0, value) },
            cgroups: KernelTable(programs.cgroups), workloads: KernelTable(programs.workloads),
            destinations: KernelTable(programs.destinations), listeners: KernelTable(programs.listeners),
            nodes: KernelTable(programs.nodes), egress: KernelTable(programs.egress),
            patterns: KernelTable(programs.patterns),
            noteListeners: { () throws(KernelTableError) in try programs.listenerScan.run() },
            fence: { cgroups throws(KernelTableError) in
                do throws(BPFError) { try programs.fence.set(cgroups) } catch {
                    throw KernelTableError(error.operation, code: error.code, object: error.object)
                }
            },
            findOlder: { holding throws(KernelTableError) in try programs.older.find(holding: holding) },
            inbound: InboundTables(programs),
            direct: DirectTables(
                verdicts: KernelTable(programs.verdicts), vouches: KernelTable(programs.vouches)))
    }
}

extension InboundTables {
    init(_ programs: KernelPrograms) {
        self.init(
            ports: KernelTable(programs.inboundPorts), exemptions: KernelTable(programs.exemptions),
            datagramSources: KernelTable(programs.datagramSources),
            setListener: { key, socket throws(KernelTableError) in
                try programs.inboundListeners.put(key, UInt64(socket.number))
            },
            forgetBeat: { cookie throws(KernelTableError) in try programs.beats.remove(cookie) },
            attach: { cookie, namespace throws(KernelTableError) in
                do throws(BPFError) {
                    try programs.inbound.attach(cookie: cookie, in: namespace)
                } catch {
                    throw KernelTableError("\(error.operation) \(error.object)", code: error.code)
                }
            },
            detach: { programs.inbound.detach(cookie: $0) }, attached: { programs.inbound.pinned() })
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
