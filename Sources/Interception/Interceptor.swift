import BPFRuntime
package import CMeshABI
import Glibc
package import LinuxIO
package import MeshModel
package import ProxyControl

/// The kernel side's and the proxy's keeper, as meshd's composition uses it: give it resources and snapshots, and it
/// keeps maps, sockets and proxy in step. Everything happens on the reactor's thread.
package final class Interceptor {
    package struct Configuration {
        /// Workloads lie below. Its directory, or its path from the hierarchy's root; empty for all of it.
        package var cgroupRoot: String
        /// Of this node, unique among those that share the BPF file system.
        package var node: String
        /// The mounted BPF file system.
        package var bpffs = "/sys/fs/bpf"
        /// Kept until reboot: numbers, control socket.
        package var runtimeDirectory: String
        /// Of meshd.
        package var executable: String
        /// nil: the same.
        package var proxyExecutable: String?
        package var environment: [String] = []
        package var proxyUID: UInt32
        package var proxyGID: UInt32
        /// False where a service manager starts the proxy.
        package var startsProxy = true
        /// How long a proxy that was replaced finishes what is open; 0: as long as that takes.
        package var drainMilliseconds: UInt32 = 0
        /// Of a proxy that is to be replaced though its binary is the same.
        package var replacedProxyPID: Int32?
        /// Where a proxy of the service manager's may run; else it is in <cgroupRoot>/culvert/proxy.
        package var proxyUnitPattern = "/system.slice/**/culvert-proxy@*.service"
        package var loops: UInt16 = 1
        /// What the proxy may hold at most.
        package var proxyDescriptorsMax: UInt32 = 65_536
        package var failureOpen = false
        /// What workloads send without a verdict is dropped even where their egress is allowed.
        package var fencesAllEgress = false
        package var ports = MeshSockets.Ports()
        /// Without a beat for so long, a listener is none (restart grace included).
        package var beatStaleMilliseconds: UInt64 = 5_000
        package var handoversPerWorkloadMax: UInt16 = 4_096
        /// Only in tests without the kernel programs: sockets are not marked.
        package var marksSockets = true

        package init(
            node: String, cgroupRoot: String, runtimeDirectory: String, executable: String, proxyUID: UInt32,
            proxyGID: UInt32
        ) {
            self.node = node
            self.cgroupRoot = cgroupRoot
            self.runtimeDirectory = runtimeDirectory
            self.executable = executable
            self.proxyUID = proxyUID
            self.proxyGID = proxyGID
        }

        /// Where maps and links are pinned; the layout's number is in it.
        package var pinDirectory: String { "\(bpffs)/culvert/\(node)/v\(KernelPrograms.layout)" }
    }

    struct NotedPlace: Hashable {
        var workload: WorkloadID
        var namespace: NetworkNamespaceID
    }

    package struct Callbacks {
        /// Build a snapshot with these and call `apply`.
        package var instancesChanged: ([LocalInstance]) -> Void
        /// What a proxy is told first: welcome, trust, certificates. The rest follows by itself.
        package var proxyConnected: (ProxyHello, ProxyProcess) -> [SupervisorMessage]
        package var proxyEnded: (ProxyProcess) -> Void
        /// Messages that are others' business: connections, refusals, tunnels, counters.
        package var proxyMessage: (ProxyMessage, ProxyProcess) -> Void
        package var report: InterceptionReporter
        /// A connection that no hook saw begin: kind open, or refused where it was ended.
        package var olderConnection: (mesh_event) -> Void
        /// Gives one event of kind open for each live connection of the node.
        package var readLive: ((mesh_event) -> Void) -> Void
        /// A connection that no proxy carries, by the cookie of the socket that connected, is about to be ended.
        package var connectionEnded: (UInt64, ConnectionRuling) -> Void

        package init(
            instancesChanged: @escaping ([LocalInstance]) -> Void,
            proxyConnected: @escaping (ProxyHello, ProxyProcess) -> [SupervisorMessage],
            proxyEnded: @escaping (ProxyProcess) -> Void,
            proxyMessage: @escaping (ProxyMessage, ProxyProcess) -> Void, report: @escaping InterceptionReporter,
            olderConnection: @escaping (mesh_event) -> Void = { _ in },
            readLive: @escaping ((mesh_event) -> Void) -> Void = { _ in },
            connectionEnded: @escaping (UInt64, ConnectionRuling) -> Void = { _, _ in }
        ) {
            self.instancesChanged = instancesChanged
            self.proxyConnected = proxyConnected
            self.proxyEnded = proxyEnded
            self.proxyMessage = proxyMessage
            self.report = report
            self.olderConnection = olderConnection
            self.readLive = readLive
            self.connectionEnded = connectionEnded
        }
    }

    let configuration: Configuration
    let callbacks: Callbacks
    let reactor: Reactor
    let hierarchy: CgroupHierarchy
    let cgroups: MeshCgroups
    let inventory: CgroupInventory
    package let namespaces: NamespaceTable
    let instances: LocalInstances
    let kernel: KernelState
    let maker: SocketMaker
    let sockets: MeshSockets
    let inbound: InboundCapture
    let direct: DirectPaths
    /// Of the verdicts that the programs go by; 0: of none.
    var verdictGeneration: UInt32 = 0
    var supervisor: ProxySupervisor?

    var workloads: [WorkloadResource] = []
    var snapshot: Snapshot?
    /// Nodes that the proxy can't reach now, with the errno that plain TCP would give.
    var unreachable: [NodeID: Int32] = [:]
    var readiness = Readiness()
    var patternProblems: [CgroupInventory.Problem] = []
    var scanProblems: [String] = []
    var reportedProblems: Set<String> = []
    var timers: [Reactor.TimerID] = []
    var instanceWatch: Reactor.WatchID?
    var isRescanDue = false
    /// Marks of classify_cgroup that the last thorough scan found no cgroup for.
    var strayMarks: Set<UInt64> = []
    /// By cgroup: where its older listeners have been noted, and for which workload.
    var listenersNoted: [UInt64: NotedPlace] = [:]
    var older = OlderConnections()
    /// Deserted at the last look; still so at the next, they are gone.
    var deserted: Set<NetworkNamespaceID> = []
    var conflicts = ListenerConflicts()
    var isStopped = false

    /// Nothing is started yet. The cgroups must exist (`MeshCgroups.prepare`).
    package init(
        _ configuration: Configuration, tables: KernelTables, reactor: Reactor, callbacks: Callbacks
    ) throws(IOError) {
        self.configuration = configuration
        self.callbacks = callbacks
        self.reactor = reactor
        hierarchy = try CgroupHierarchy.locate()
        cgroups = MeshCgroups(root: configuration.cgroupRoot, hierarchy)
        inventory = CgroupInventory(hierarchy: hierarchy, root: cgroups.root)
        try TextFile.createDirectory(configuration.runtimeDirectory)
        let identities = IdentityKeeper(
            try IdentityStore(path: configuration.runtimeDirectory + "/identities"))
        namespaces = try NamespaceTable(hierarchy: hierarchy) { identities.store.namespace(cookie: $0) }
        instances = try LocalInstances(hierarchy: hierarchy, identities: identities, namespaces: namespaces)
        kernel = KernelState(
            tables, failureOpen: configuration.failureOpen, fencesAll: configuration.fencesAllEgress)
        var makerConfiguration = SocketMaker.Configuration(
            executable: configuration.executable, cgroup: cgroups.sockets, hierarchy: hierarchy)
        makerConfiguration.environment = configuration.environment
        if !configuration.marksSockets { makerConfiguration.arguments.append("--without-kernel-programs") }
        maker = SocketMaker(makerConfiguration)
        sockets = MeshSockets(
            maker: maker, namespaces: namespaces, reactor: reactor, ports: configuration.ports,
            descriptorsMax: configuration.proxyDescriptorsMax,
            orphanMilliseconds: configuration.beatStaleMilliseconds, setInbound: tables.inbound.setListener)
        inbound = InboundCapture(tables.inbound, namespaces: namespaces)
        direct = DirectPaths(
            tables.direct, tunnelPort: configuration.ports.tunnel,
            surroundings: Interceptor.directSurroundings(namespaces, instances, reactor))
    }

    /// Turns the programs on, then adopts or starts the proxy. Call `setWorkloads` first: what it finds is refused, not
    /// missed, until `apply` has it ready.
    package func start() throws(IOError) {
        try kernel.setSettings(settings())
        instanceWatch = try instances.watch(on: reactor) { [weak self] in self?.instancesMayHaveChanged() }
        noteListeners()
        lookForOlderConnections()
        timers = [
            reactor.schedule(afterMilliseconds: 300, every: 300) { [weak self] in self?.sweep() },
            reactor.schedule(afterMilliseconds: 5_000, every: 5_000) { [weak self] in self?.rescanThoroughly() },
        ]
        let supervisor = ProxySupervisor(
            supervisorConfiguration(), reactor: reactor,
            callbacks: .init(
                connected: { [weak self] in self?.proxyConnected($0, $1) },
                message: { [weak self] in self?.handle($0, from: $1) },
                listenerGiven: { [weak self] in self?.sockets.take($0, $1) },
                replaced: { [weak self] in self?.proxyReplaced($1) ?? false },
                ended: { [weak self] in self?.proxyEnded($0) }, report: callbacks.report))
        self.supervisor = supervisor
        try supervisor.start()
    }

    package var proxyPID: Int32? { supervisor?.pid }
    package var isProxyConnected: Bool { supervisor?.channel?.isOpen ?? false }
    package var proxyStarts: Int { supervisor?.startCount ?? 0 }
    package var runningInstances: [LocalInstances.Instance] { instances.all }
    /// What an operator should set right, for `meshctl check`.
    package var currentProblems: [String] {
        (scanProblems + instances.all.compactMap(\.problem) + sockets.problems + olderProblems + inbound.problems
            + conflicts.problems + plaintextProblems)
            .sorted()
    }
    private var plaintextProblems: [String] {
        kernel.withoutPlaintext.compactMap { snapshot?.workload($0)?.key }.map {
            "policies of workload \($0) name more sources and ports than the kernel's table holds: datagrams from outside "
                + "and declared probes are refused there"
        }
    }
    /// 0 while there is no proxy, or it has none yet.
    package var proxySnapshotVersion: UInt64 { isProxyConnected ? readiness.versionInUse : 0 }
    package var unreachableNodes: [NodeID: Int32] { unreachable }
    /// See `KernelState.learnedAddresses`.
    package var learnedAddresses: (count: Int, displaced: UInt64) { kernel.learnedAddresses }
    package var directPathFigures: DirectPathFigures {
        DirectPathFigures(verdicts: UInt64(direct.written), missed: direct.missed, evicted: direct.evicted)
    }

    /// Those that finish what they have, for status.
    package var drainingProxies: [Int32] {
        (supervisor?.processes ?? []).filter { $0.role == .draining }.map(\.pid).sorted()
    }
    /// While it is, the proxy can't be replaced.
    package var isFullOfDrainingProxies: Bool {
        (supervisor?.processes.count ?? 0) >= ProxySupervisor.processesMax
    }
    /// Why the proxy is about to be replaced; nil: it is not.
    package var replacementReason: String? { supervisor?.replacementReason }

    /// Sends to every proxy that is there (certificates): a new one gets all by `proxyConnected`.
    package func broadcast(_ message: SupervisorMessage) { supervisor?.broadcast(message) }

    /// Asks every proxy for its figures. Call it once a second: who never answers is replaced.
    package func askProxies() { supervisor?.askAll() }

    /// Leaves programs, maps, cgroups and proxy at work for the next meshd.
    package func shutdown() {
        isStopped = true
        for timer in timers { reactor.cancel(timer) }
        timers = []
        if let instanceWatch { reactor.remove(instanceWatch) }
        instanceWatch = nil
        supervisor?.stop()
        maker.stop()
    }

    /// Ends the proxy and the maker and removes the mesh's cgroups and runtime files. The pins are BPFRuntime's.
    package func uninstall() {
        isStopped = true
        let supervisor =
            supervisor
            ?? ProxySupervisor(
                supervisorConfiguration(), reactor: reactor,
                callbacks: .init(
                    connected: { _, _ in }, message: { _, _ in }, ended: { _ in }, report: callbacks.report))
        supervisor.endProxy()
        shutdown()
        unlink(configuration.runtimeDirectory + "/identities")
        cgroups.remove(hierarchy)
    }

    // MARK: private

    private func supervisorConfiguration() -> ProxySupervisor.Configuration {
        var result = ProxySupervisor.Configuration(
            executable: configuration.proxyExecutable ?? configuration.executable,
            controlDirectory: configuration.runtimeDirectory + "/proxy",
            uid: configuration.proxyUID, gid: configuration.proxyGID,
            cgroup: configuration.startsProxy
                ? cgroups.proxy : configuration.proxyUnitPattern,
            hierarchy: hierarchy)
        result.environment = configuration.environment
        result.startsProxy = configuration.startsProxy
        result.drainMilliseconds = configuration.drainMilliseconds
        result.replacedPID = configuration.replacedProxyPID
        return result
    }

    private static func directSurroundings(
        _ namespaces: NamespaceTable, _ instances: LocalInstances, _ reactor: Reactor
    ) -> DirectPaths.Surroundings {
        DirectPaths.Surroundings(
            inside: { cookie, body throws(KernelTableError) in
                guard let id = namespaces.id(ofCookie: cookie) else {
                    throw KernelTableError("network namespace", code: ENOENT, object: "\(cookie)")
                }
                try namespaces.open(id).inside(body)
            },
            cookie: { workload in
                instances.instance(workload).flatMap { namespaces.cookie(of: $0.networkNamespace) }
            },
            after: { milliseconds, body in _ = reactor.schedule(afterMilliseconds: milliseconds, body: body) },
            now: BootClock.nanoseconds)
    }

    /// Tells the programs which verdicts hold. Before `start` they go by what an earlier meshd told them.
    func setVerdictGeneration(_ generation: UInt32) throws(IOError) {
        guard generation != verdictGeneration else { return }
        verdictGeneration = generation
        if instanceWatch != nil { try kernel.setSettings(settings()) }
    }

    private func settings() throws(IOError) -> mesh_settings {
        var settings = mesh_settings()
        settings.version = KernelPrograms.abiVersion
        settings.enabled = 1
        settings.policy_generation = verdictGeneration
        settings.handover_per_workload_max = configuration.handoversPerWorkloadMax
        settings.sockets_cgroup_id = try hierarchy.id(of: cgroups.sockets)
        settings.beat_stale_ns = configuration.beatStaleMilliseconds * 1_000_000
        settings.node_netns_cookie = try NetworkNamespace.cookieOfCallingThread()
        settings.outbound_port_be = configuration.ports.outbound.bigEndian
        settings.inbound_port_be = configuration.ports.inbound.bigEndian
        settings.tunnel_port_be = configuration.ports.tunnel.bigEndian
        settings.dns_port_be = configuration.ports.names.bigEndian
        let services = configuration.ports.ownServices.map(\.bigEndian) + [0, 0, 0, 0]
        settings.service_port_be = (services[0], services[1], services[2], services[3])
        settings.root_level = UInt32(cgroups.root.split(separator: "/").count)
        return settings
    }
}

/// What the direct path has done since meshd started.
package struct DirectPathFigures: Sendable {
    package var verdicts: UInt64
    package var missed: UInt64
    package var evicted: UInt64
}

/// The mesh's own cgroups under a node's root.
package struct MeshCgroups: Equatable, Sendable {
    /// The node's, from the hierarchy's root.
    package let root: String
    package let own: String
    /// The socket maker's, alone in it: where the socket option programs attach.
    package let sockets: String
    package let proxy: String
    package let meshd: String

    /// `root` as in the configuration.
    package init(root: String, _ hierarchy: CgroupHierarchy) {
        self.root = hierarchy.path(of: root)
        own = (self.root == "/" ? "" : self.root) + "/culvert"
        sockets = own + "/sockets"
        proxy = own + "/proxy"
        meshd = own + "/meshd"
    }

    /// Creates them. `movesCaller`: meshd goes into its own, except where a service manager keeps it in a unit.
    package func prepare(_ hierarchy: CgroupHierarchy, movesCaller: Bool) throws(IOError) {
        for path in [sockets, proxy, meshd] { try hierarchy.create(path) }
        if movesCaller { try hierarchy.move(to: meshd) }
    }

    /// Removes them, the caller moved to the root of the hierarchy if it is in one.
    package func remove(_ hierarchy: CgroupHierarchy) {
        if (try? CgroupHierarchy.path(ofProcess: getpid())) == meshd { try? hierarchy.move(to: "/") }
        for path in [sockets, proxy, meshd, own] { try? hierarchy.remove(path) }
    }
}

/// Which workloads may connect: only those that the proxy's snapshot knows, or it would have to refuse what it gets.
/// Once ready, a workload stays so while it lives: a proxy that starts anew is no reason for another refusal.
struct Readiness {
    /// The snapshot version that each waiting workload came with.
    private var waiting: [WorkloadID: UInt64] = [:]
    private var ready: Set<WorkloadID> = []
    /// What the proxy uses.
    var versionInUse: UInt64 = 0 {
        didSet { settle() }
    }

    mutating func note(_ workloads: [WorkloadID], version: UInt64) {
        let present = Set(workloads)
        ready.formIntersection(present)
        waiting = waiting.filter { present.contains($0.key) }
        for workload in workloads where !ready.contains(workload) && waiting[workload] == nil {
            waiting[workload] = version
        }
        settle()
    }

    /// It was ready under an earlier meshd: refusing it meanwhile would be a gap.
    mutating func noteReady(_ workload: WorkloadID) { ready.insert(workload) }

    func isReady(_ workload: WorkloadID) -> Bool { ready.contains(workload) }
    var isAnyWaiting: Bool { !waiting.isEmpty }

    private mutating func settle() {
        for (workload, version) in waiting where version <= versionInUse {
            ready.insert(workload)
            waiting[workload] = nil
        }
    }
}
