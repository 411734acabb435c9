package import CMeshABI
package import LinuxIO
package import MeshModel
package import ProxyControl

/// Keeps the BPF maps equal to the snapshot, the workloads' cgroups and the listeners. Only differences are written,
/// and new before old, so that what must exist never is away for a moment.
package final class KernelState {
    /// A workload's cgroup as the hooks should see it.
    package struct Cgroup: Equatable {
        package var id: UInt64
        package var workload: WorkloadID
        /// False until everything that its connections need is there: they are refused so long.
        package var isReady: Bool
        /// For the egress fence.
        package var directory: String

        package init(id: UInt64, workload: WorkloadID, isReady: Bool, directory: String = "") {
            self.id = id
            self.workload = workload
            self.isReady = isReady
            self.directory = directory
        }
    }

    /// Redirect targets in one network namespace.
    package struct Listeners: Equatable {
        package var cookie: UInt64
        package var addresses: [SocketAddress]

        package init(cookie: UInt64, addresses: [SocketAddress]) {
            self.cookie = cookie
            self.addresses = addresses
        }
    }

    private let tables: KernelTables
    private var cgroups: TableSync<UInt64, mesh_cgroup>
    private var workloads: TableSync<UInt32, mesh_workload>
    private var destinations: TableSync<mesh_destination_key, mesh_destination>
    private var listeners: TableSync<mesh_listeners_key, mesh_listeners>
    private var nodes: TableSync<mesh_address, UInt32>
    private var egress: TableSync<mesh_egress_key, mesh_egress>
    private var learned: LearnedEgress
    private var patterns: TableSync<UInt32, mesh_pattern>
    private var inboundPorts: TableSync<mesh_inbound_port, UInt32>
    private var exemptions: TableSync<mesh_source_key, UInt32>
    private var datagramSources: TableSync<mesh_source_key, UInt32>
    private let failureOpen: Bool
    private let fencesAll: Bool
    private var fenced: Set<WorkloadID> = []
    /// The policies of many are asked for it: once for each snapshot.
    private var plaintext: (version: UInt64, plan: PlaintextPlan)?
    private var egressPlan: EgressPlan?

    /// `fencesAll`: what workloads send without a verdict is dropped even where their egress is allowed.
    package init(_ tables: KernelTables, failureOpen: Bool, fencesAll: Bool = false) {
        self.tables = tables
        self.failureOpen = failureOpen
        self.fencesAll = fencesAll
        // Without a workload it is classify_cgroup's mark: not ours to remove.
        cgroups = TableSync(tables.cgroups, isOurs: { $0.workload != 0 })
        // The programs count handovers in the same value.
        workloads = TableSync(tables.workloads, keeping: { $0.handovers = $1.handovers })
        destinations = TableSync(tables.destinations)
        listeners = TableSync(tables.listeners)
        nodes = TableSync(tables.nodes)
        let declared = UInt8(truncatingIfNeeded: mesh_egress_origin.MESH_EGRESS_DECLARED.rawValue)
        egress = TableSync(tables.egress, isOurs: { $0.origin == declared })
        learned = LearnedEgress(tables.egress)
        patterns = TableSync(tables.patterns)
        inboundPorts = TableSync(tables.inbound.ports)
        exemptions = TableSync(tables.inbound.exemptions)
        datagramSources = TableSync(tables.inbound.datagramSources)
    }

    /// Workloads whose policies name more sources and ports than the kernel's tables have room for.
    var withoutPlaintext: [WorkloadID] { plaintext?.plan.leftOut ?? [] }

    package func isFenced(_ workload: WorkloadID) -> Bool { fenced.contains(workload) }

    package func findOlder(holding: [UInt64: UInt32]) throws(IOError) -> [mesh_older] {
        try tables.findOlder(holding)
    }

    package func setSettings(_ settings: mesh_settings) throws(IOError) { try tables.settings(settings) }

    /// The patterns by which classify_cgroup knows new cgroups: at most MESH_PATTERNS_MAX, each below
    /// MESH_PATTERN_SIZE bytes.
    package func setPatterns(_ texts: [String]) throws(IOError) {
        var wanted: TableSync<UInt32, mesh_pattern>.Content = [:]
        for index in 0..<UInt32(MESH_PATTERNS_MAX) {
            let text = Int(index) < texts.count ? texts[Int(index)] : ""
            wanted[Raw(index)] = Raw(KernelState.pattern(text))
        }
        try patterns.put(wanted)
    }

    /// Marks cgroups that have just been found, before anything else is known: from now on their connections are
    /// refused until `apply` has them ready. Those already known are left alone.
    package func markNotReady(_ ids: [UInt64]) throws(IOError) {
        for id in ids where try tables.cgroups.get(id) == nil {
            try tables.cgroups.put(
                id, KernelState.cgroup(.init(id: id, workload: .none, isReady: false)).value)
            cgroups.forget(id)
        }
    }

    /// The workload that the cgroup is ready as, by this meshd or an earlier one.
    package func readyWorkload(cgroup id: UInt64) throws(IOError) -> WorkloadID? {
        guard let cgroup = try tables.cgroups.get(id), cgroup.workload != 0,
            UInt32(cgroup.state) == mesh_cgroup_state.MESH_CGROUP_READY.rawValue
        else { return nil }
        return WorkloadID(rawValue: cgroup.workload)
    }

    /// The cgroups that are marked and wait for us to say what they are.
    package func markedCgroups() throws(IOError) -> Set<UInt64> {
        var marked: Set<UInt64> = []
        for id in try tables.cgroups.keys() {
            if let cgroup = try tables.cgroups.get(id), cgroup.workload == 0 { marked.insert(id) }
        }
        return marked
    }

    /// Takes the mark off cgroups that no resource means (any more): they are not meshed. Only those that were marked
    /// before the scan that did not find them, or a cgroup made meanwhile would go unmeshed.
    package func unmark(_ ids: Set<UInt64>) throws(IOError) {
        for id in ids {
            if let cgroup = try tables.cgroups.get(id), cgroup.workload == 0 { try tables.cgroups.remove(id) }
        }
    }

    /// Makes the maps equal to this. `cookies` are those of the namespaces; `unreachable`: nodes that tunnels can't reach,
    /// with the errno to refuse with.
    package func apply(
        _ snapshot: Snapshot, cgroups wantedCgroups: [Cgroup], listeners wantedListeners: [Listeners],
        cookies: [NetworkNamespaceID: UInt64] = [:], unreachable: [NodeID: Int32]
    ) throws(IOError) {
        let egressPlan = EgressPlan(snapshot, fencesAll: fencesAll)
        self.egressPlan = egressPlan
        let wantedWorkloads = workloadContent(snapshot, egressPlan, cookies)
        let plaintext = plaintextPlan(snapshot)
        let wantedDestinations = DestinationPlan(snapshot, unreachable: unreachable).content
        let wantedNodes = KernelState.nodeContent(snapshot)
        let listenerContent = KernelState.listenerContent(wantedListeners)
        var cgroupContent: TableSync<UInt64, mesh_cgroup>.Content = [:]
        for cgroup in wantedCgroups {
            var cgroup = cgroup
            // Ready without a workload entry would be refused as state_missing; say what it is.
            cgroup.isReady = cgroup.isReady && wantedWorkloads[Raw(cgroup.workload.rawValue)] != nil
            cgroupContent[Raw(cgroup.id)] = KernelState.cgroup(cgroup)
        }
        // What is listed before the mode that asks for it, and the fence before anything is let through.
        try egress.put(egressPlan.content)
        try fence(wantedCgroups, egressPlan)
        try nodes.put(wantedNodes)
        try inboundPorts.put(plaintext.ports)
        try putSources(plaintext)
        try workloads.put(wantedWorkloads)
        try destinations.put(wantedDestinations)
        try listeners.put(listenerContent)
        try cgroups.put(cgroupContent)

        try cgroups.removeOthers(cgroupContent)
        try destinations.removeOthers(wantedDestinations)
        try listeners.removeOthers(listenerContent)
        try workloads.removeOthers(wantedWorkloads)
        try exemptions.removeOthers(plaintext.exemptions, first: PlaintextPlan.passes)
        try datagramSources.removeOthers(plaintext.datagramSources, first: PlaintextPlan.passes)
        try inboundPorts.removeOthers(plaintext.ports)
        try nodes.removeOthers(wantedNodes)
        try egress.removeOthers(egressPlan.content)
        try learned.keep(egressPlan)
    }

    /// Addresses that workloads may call by a name's leave, and how many were pushed out of the list since the start.
    package var learnedAddresses: (count: Int, displaced: UInt64) { (learned.count, learned.displaced) }

    /// A workload is about to be told what a name stands for: it may call that if its EgressPolicy lists the name. `now`
    /// in nanoseconds since boot.
    @discardableResult
    package func learn(_ resolution: NameResolution, _ snapshot: Snapshot, now: UInt64) throws(IOError) -> Bool {
        guard let workload = snapshot.workload(resolution.workload), workload.isLocal, workload.isRunning,
            let view = snapshot.egress(of: resolution.workload)
        else { return false }
        return try learned.take(resolution, view, now: now)
    }

    /// Whether a workload's connection to outside the mesh may go on: it could be made now, or a name let it out that is
    /// still listed, though nobody has asked for it lately. `now` in nanoseconds since boot.
    package func allowsEgress(
        _ workload: WorkloadID, _ destination: SocketAddress, byName name: UInt32?, now: UInt64
    ) -> Bool {
        guard let egressPlan else { return true }
        return egressPlan.allows(workload, destination, byName: name)
            || egressPlan.mode(of: workload) == .MESH_EGRESS_LISTED && learned.allows(workload, destination, now: now)
    }

    /// What denies a workload the destinations that it may not call; nil where it may call all.
    package func egressDenial(of workload: WorkloadID) -> RuleName? { egressPlan?.denial(of: workload) }

    package func expireLearned(now: UInt64) throws(IOError) { try learned.expire(now: now) }

    /// Notes the listeners of the calling thread's network namespace that were there before their cgroup's workload.
    package func noteListeners() throws(IOError) { try tables.noteListeners() }

    // MARK: private

    private func plaintextPlan(_ snapshot: Snapshot) -> PlaintextPlan {
        if let plaintext, plaintext.version == snapshot.version { return plaintext.plan }
        let plan = PlaintextPlan(snapshot, after: plaintext?.plan)
        plaintext = (snapshot.version, plan)
        return plan
    }

    /// Longer prefixes stand before shorter ones: what refuses comes first and goes last, so that on the way from one state
    /// to the next nothing passes that both refuse.
    private func putSources(_ plan: PlaintextPlan) throws(IOError) {
        for isPassing in [false, true] {
            try exemptions.put(plan.exemptions.filter { PlaintextPlan.passes($0.value.value) == isPassing })
            try datagramSources.put(plan.datagramSources.filter { PlaintextPlan.passes($0.value.value) == isPassing })
        }
    }

    private func fence(_ cgroups: [Cgroup], _ plan: EgressPlan) throws(IOError) {
        var wanted: [UInt64: String] = [:]
        for cgroup in cgroups where plan.isFenced(cgroup.workload) { wanted[cgroup.id] = cgroup.directory }
        try tables.fence(wanted)
        fenced = Set(cgroups.lazy.map(\.workload).filter { plan.isFenced($0) })
    }

    private func workloadContent(
        _ snapshot: Snapshot, _ egress: EgressPlan, _ cookies: [NetworkNamespaceID: UInt64]
    ) -> TableSync<UInt32, mesh_workload>.Content {
        var content: TableSync<UInt32, mesh_workload>.Content = [:]
        let running = snapshot.allWorkloads.filter { $0.isLocal && $0.isRunning }
        let inhabitants = Dictionary(grouping: running, by: \.networkNamespace).mapValues(\.count)
        for workload in running {
            let namespace = workload.networkNamespace
            var entry = mesh_workload()
            entry.has_own_netns = namespace != .node && inhabitants[namespace] == 1 ? 1 : 0
            entry.netns_cookie = cookies[namespace] ?? 0
            entry.inbound_mode = UInt8(
                truncatingIfNeeded: PlaintextPlan.number(snapshot.inboundModes(of: workload.id).mode))
            entry.network = workload.network.rawValue
            entry.principal = workload.principal.rawValue
            if let address = workload.address(isIPv6: false) { entry.address4 = address.meshAddress }
            if let address = workload.address(isIPv6: true) { entry.address6 = address.meshAddress }
            entry.failure_open = failureOpen ? 1 : 0
            entry.egress_mode = UInt8(truncatingIfNeeded: egress.mode(of: workload.id).rawValue)
            entry.fence = egress.fence(of: workload.id)
            content[Raw(workload.id.rawValue)] = Raw(entry)
        }
        return content
    }

    private static func nodeContent(_ snapshot: Snapshot) -> TableSync<mesh_address, UInt32>.Content {
        var content: TableSync<mesh_address, UInt32>.Content = [:]
        for node in snapshot.allNodes where !node.isLocal {
            for address in node.tunnelAddresses { content[Raw(address.meshAddress)] = Raw(node.id.rawValue) }
        }
        return content
    }

    private static func listenerContent(
        _ listeners: [Listeners]
    ) -> TableSync<mesh_listeners_key, mesh_listeners>.Content {
        var content: TableSync<mesh_listeners_key, mesh_listeners>.Content = [:]
        for namespace in listeners {
            for isIPv6 in [false, true] {
                let targets = namespace.addresses.filter { $0.address.isIPv4 != isIPv6 }
                if targets.isEmpty { continue }
                let key = mesh_listeners_key(
                    netns_cookie: namespace.cookie, family: isIPv6 ? 10 : 2, pad: 0)
                content[Raw(key)] = Raw(listenerValue(targets))
            }
        }
        return content
    }

    private static func listenerValue(_ targets: [SocketAddress]) -> mesh_listeners {
        var value = mesh_listeners()
        let kept = targets.prefix(Int(MESH_LISTENERS_MAX))
        value.count = UInt32(kept.count)
        withUnsafeMutableBytes(of: &value.target) { bytes in
            let endpoints = bytes.bindMemory(to: mesh_endpoint.self)
            for (index, target) in kept.enumerated() { endpoints[index] = target.meshEndpoint }
        }
        return value
    }

    private static func cgroup(_ cgroup: Cgroup) -> Raw<mesh_cgroup> {
        let state: mesh_cgroup_state = cgroup.isReady ? .MESH_CGROUP_READY : .MESH_CGROUP_NOT_READY
        return Raw(
            mesh_cgroup(
                workload: cgroup.workload.rawValue, state: UInt8(truncatingIfNeeded: state.rawValue), pad: (0, 0, 0)))
    }

    private static func pattern(_ text: String) -> mesh_pattern {
        var pattern = mesh_pattern()
        let utf8 = Array(text.utf8.prefix(Int(MESH_PATTERN_SIZE) - 1))
        pattern.length = UInt16(utf8.count)
        withUnsafeMutableBytes(of: &pattern.text) { $0.copyBytes(from: utf8) }
        return pattern
    }
}
