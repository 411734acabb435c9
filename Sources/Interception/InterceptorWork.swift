package import CMeshABI
import Glibc
package import LinuxIO
package import MeshModel
import ProxyControl

// What the interceptor does when something changes: resources, snapshots, cgroups, namespaces, the proxy.
extension Interceptor {
    /// The resources of this node, at start and whenever they change.
    package func setWorkloads(_ workloads: [WorkloadResource]) throws(IOError) {
        self.workloads = workloads
        let planned = inventory.kernelPatterns(
            workloads, sizeMax: Int(MESH_PATTERN_SIZE), countMax: Int(MESH_PATTERNS_MAX))
        try kernel.setPatterns(planned.patterns)
        // Marked before the scan and not found by it: of a pattern that is no more.
        let marked = try kernel.markedCgroups()
        patternProblems = planned.problems
        let found = try scan()
        try kernel.unmark(marked.subtracting(found))
    }

    /// Puts a snapshot into force, in the kernel and in the proxy. Also to be called with the last one again when
    /// nothing changed: it then costs little.
    package func apply(_ snapshot: Snapshot) throws(IOError) {
        let hasNewPolicies = self.snapshot?.policyGeneration != snapshot.policyGeneration
        // First of all: from here on nothing goes by what the former policies said.
        if hasNewPolicies { try setVerdictGeneration(0) }
        self.snapshot = snapshot
        unreachable = unreachable.filter { snapshot.node($0.key) != nil }
        sendSnapshots()
        sockets.update(wantedSockets(snapshot))
        let running = snapshot.allWorkloads.filter { $0.isLocal && $0.isRunning }.map(\.id)
        readiness.note(running, version: snapshot.version)
        try direct.apply(snapshot)
        try refreshKernel()
        try setVerdictGeneration(snapshot.policyGeneration)
        if hasNewPolicies { judgeLiveConnectionsAgain() }
        reportProblems()
    }

    /// Kernel events: those of other kinds are ignored.
    package func handle(_ event: mesh_event) {
        switch UInt32(event.kind) {
        case mesh_event_kind.MESH_EVENT_CGROUP_MADE.rawValue: rescanSoon()
        case mesh_event_kind.MESH_EVENT_CGROUP_REMOVED.rawValue:
            // One that was never ours has only its mark; the scan takes care of the others.
            attempt { () throws(IOError) in try kernel.unmark([event.value]) }
            rescanSoon()
        case mesh_event_kind.MESH_EVENT_NEEDS_LISTENER.rawValue: needsListener(event.socket)
        case mesh_event_kind.MESH_EVENT_LISTENING.rawValue: noteListening(event)
        default: noteConnection(event)
        }
    }

    // MARK: cgroups and namespaces

    private func rescanSoon() {
        guard !isRescanDue else { return }
        isRescanDue = true
        _ = reactor.schedule(afterMilliseconds: 0) { [weak self] in
            self?.isRescanDue = false
            self?.rescan()
        }
    }

    func rescan() {
        guard !isStopped else { return }
        attempt { () throws(IOError) in _ = try scan() }
    }

    /// Every 5 s. classify_cgroup's events come at once; this catches what a full ring lost.
    func rescanThoroughly() {
        guard !isStopped else { return }
        attempt { () throws(IOError) in
            let marked = try kernel.markedCgroups()
            let found = try scan()
            // A mark is set a moment before the directory can be seen: only what stays unseen is gone.
            let strays = marked.subtracting(found)
            try kernel.unmark(strays.intersection(strayMarks))
            strayMarks = strays
        }
        attempt { () throws(IOError) in try kernel.expireLearned(now: BootClock.nanoseconds()) }
        sockets.retryFailed()
        if !inbound.problems.isEmpty { attempt { () throws(IOError) in try refreshKernel() } }
        lookForOlderConnections(isThorough: true)
        lookForConflictsAgain()
    }

    /// Looks at the cgroups and takes over what changed; the ids of those found.
    private func scan() throws(IOError) -> Set<UInt64> {
        let result = inventory.scan(workloads)
        let ids = Set(result.found.map(\.id))
        let fresh = ids.filter { instances.instance(cgroup: $0) == nil }
        for id in fresh { if let known = try kernel.readyWorkload(cgroup: id) { readiness.noteReady(known) } }
        try kernel.markNotReady(Array(fresh))
        scanProblems = (result.problems + patternProblems).map(\.description)
        take(try instances.update(result.found))
        return ids
    }

    func instancesMayHaveChanged() {
        attempt { () throws(IOError) in take(try instances.refresh()) }
    }

    /// Every 300 ms: namespaces that only the mesh's sockets keep, and declared ones that were missing.
    func sweep() {
        guard !isStopped else { return }
        let now = Set(namespaces.deserted())
        for id in now.intersection(deserted) {
            let cookie = namespaces.cookie(of: id)
            sockets.namespaceGone(id)
            inbound.namespaceGone(cookie: cookie)
            namespaces.remove(id)
            attempt { () throws(IOError) in take(try instances.retire(id, cookie: cookie)) }
        }
        deserted = now
        if instances.all.contains(where: \.isUnsettled) { instancesMayHaveChanged() }
    }

    private func take(_ changes: LocalInstances.Changes) {
        reportProblems()
        for workload in changes.gone {
            // What it sent before its end may still be on its way; a second is what the sockets may outlive it.
            _ = reactor.schedule(afterMilliseconds: 500) { [weak self] in self?.broadcast(.workloadGone(workload)) }
        }
        if changes.isChanged { callbacks.instancesChanged(instances.localInstances) }
    }

    /// A workload connects from a namespace without listeners: it moved there.
    private func needsListener(_ socket: mesh_socket) {
        let workload = WorkloadID(rawValue: socket.workload)
        guard let instance = instances.instance(workload) else { return }
        attempt { () throws(IOError) in
            let known = namespaces.id(ofCookie: socket.netns_cookie)
            let found =
                if let known { known } else {
                    try namespaces.resolve(
                        pid: Int32(truncatingIfNeeded: socket.pid), cookie: socket.netns_cookie, cgroup: instance.path)
                }
            guard let found else { return }
            if instances.move(workload, to: found) {
                callbacks.instancesChanged(instances.localInstances)
            } else if let snapshot {
                try apply(snapshot)
            }
        }
    }

    // MARK: kernel and sockets

    private func wantedSockets(_ snapshot: Snapshot) -> MeshSockets.Wanted {
        var wanted = MeshSockets.Wanted()
        for id in namespaces.ids { wanted.namespaces[id] = [] }
        for workload in snapshot.allWorkloads where workload.isLocal && workload.isRunning {
            guard wanted.namespaces[workload.networkNamespace] != nil else { continue }
            for (isIPv6, family) in [(false, MeshSockets.Families.ipv4), (true, .ipv6)]
            where workload.address(isIPv6: isIPv6) != nil {
                wanted.namespaces[workload.networkNamespace]?.insert(family)
            }
        }
        wanted.plaintext = PlaintextPlan.namespaces(snapshot)
        for node in snapshot.allNodes {
            if node.isLocal {
                wanted.tunnelAddresses = Set(node.tunnelAddresses)
            } else {
                for address in node.tunnelAddresses {
                    wanted.tunnelFamilies.insert(address.isIPv4 ? .ipv4 : .ipv6)
                }
            }
        }
        return wanted
    }

    private func refreshKernel() throws(IOError) {
        guard let snapshot else { return }
        // Before a workload is ready, and before the first listener of its namespace can be called.
        inbound.update(Set(instances.all.filter(\.isResolved).map(\.networkNamespace)))
        let cgroups = instances.all.map { instance in
            KernelState.Cgroup(
                id: instance.cgroupID, workload: instance.workload,
                isReady: instance.isResolved && readiness.isReady(instance.workload)
                    && inbound.isAtWork(in: instance.networkNamespace),
                directory: hierarchy.directory(instance.path))
        }
        var cookies: [NetworkNamespaceID: UInt64] = [:]
        for id in namespaces.ids { cookies[id] = namespaces.cookie(of: id) }
        let listeners = namespaces.ids.compactMap { id in
            namespaces.cookie(of: id).map {
                KernelState.Listeners(cookie: $0, addresses: sockets.captureAddresses(id))
            }
        }
        try kernel.apply(
            snapshot, cgroups: cgroups, listeners: listeners, cookies: cookies, unreachable: unreachable)
        noteListeners()
        lookForOlderConnections()
    }

    /// What listened before its cgroup was a workload's in the kernel was not noted then. Also where a workload ended.
    func noteListeners() {
        guard instanceWatch != nil else { return }  // Not started: the programs are off.
        var now: [UInt64: NotedPlace] = [:]
        for instance in instances.all where instance.isResolved {
            now[instance.cgroupID] = NotedPlace(workload: instance.workload, namespace: instance.networkNamespace)
        }
        let changed = Set(now.values).symmetricDifference(listenersNoted.values)
        listenersNoted = now
        for id in Set(changed.map(\.namespace)) { noteListeners(in: id) }
    }

    func noteListeners(in id: NetworkNamespaceID) {
        do throws(IOError) {
            try namespaces.open(id).inside { () throws(IOError) in try kernel.noteListeners() }
        } catch {
            // Nobody can listen in a namespace that is gone.
            if error.code != ENOENT { callbacks.report(.init(.error, "\(error)")) }
        }
    }

    // MARK: the proxy

    func proxyConnected(_ hello: ProxyHello, _ process: ProxyProcess) {
        for message in callbacks.proxyConnected(hello, process) { process.send(message) }
        sendSnapshot(to: process)
        switch process.role {
        case .serving:
            readiness.versionInUse = hello.snapshotVersion
            // A fresh proxy does not know yet how many loops it will have: it is told.
            let loops = hello.listeners.isEmpty ? configuration.loops : max(hello.loops, 1)
            sockets.attach(process, loops: loops, existing: hello.listeners)
            if let snapshot { attempt { () throws(IOError) in try apply(snapshot) } }
        case .next:
            sockets.prepare(process)
            supervisor?.confirm(process)
        case .draining, .unknown: sockets.attachDraining(process)
        }
    }

    /// The next proxy serves now; whether it has every listener of the former one.
    func proxyReplaced(_ process: ProxyProcess) -> Bool {
        let hasAll = sockets.promote(process, loops: configuration.loops)
        forgetUnreachable()
        return hasAll
    }

    func proxyEnded(_ process: ProxyProcess) {
        sockets.detach(process)
        callbacks.proxyEnded(process)
        if process.role == .serving { forgetUnreachable() }
    }

    /// What one proxy could not reach the next one may reach; it has to find out itself.
    private func forgetUnreachable() {
        unreachable = [:]
        attempt { () throws(IOError) in try refreshKernel() }
    }

    func handle(_ message: ProxyMessage, from process: ProxyProcess) {
        switch message {
        case .hello, .listener: break
        case .needDialSockets(let pool, let count): sockets.need(pool, count: count, by: process)
        case .snapshotInUse(let version) where process.role == .serving:
            let wasWaiting = readiness.isAnyWaiting
            readiness.versionInUse = version
            if wasWaiting { attempt { () throws(IOError) in try refreshKernel() } }
        case .nodeUnreachable(let node, let code, _) where process.role == .serving: setUnreachable(node, code)
        case .nodeReachable(let node) where process.role == .serving: setUnreachable(node, nil)
        // Those that finish dial no node, and the next one is asked when it serves.
        case .snapshotInUse, .nodeUnreachable, .nodeReachable: break
        case .nameResolved(let resolution): learn(resolution, from: process)
        case .opened, .closed, .refused, .tunnels, .counters, .drained: callbacks.proxyMessage(message, process)
        }
    }

    /// The answer goes on whatever comes of it: without an entry the workload's connection is refused.
    private func learn(_ resolution: NameResolution, from process: ProxyProcess) {
        if let snapshot {
            attempt { () throws(IOError) in try kernel.learn(resolution, snapshot, now: BootClock.nanoseconds()) }
        }
        process.send(.nameAdmitted(token: resolution.token))
    }

    private func setUnreachable(_ id: NodeID, _ code: Int32?) {
        guard let node = snapshot?.node(id), !node.isLocal else { return }
        // The proxy is less trusted: only what a connect() to a dead host can give.
        let allowed: Set<Int32> = [ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH]
        let errno = code.map { allowed.contains($0) ? $0 : EHOSTUNREACH }
        guard unreachable[id] != errno else { return }
        unreachable[id] = errno
        let state = errno.map { "unreachable: \(String(cString: strerror($0)))" } ?? "reachable again"
        callbacks.report(.init(.warning, "node \(node.name) is \(state)"))
        attempt { () throws(IOError) in try refreshKernel() }
    }

    /// To those that finish what they have, too: policy holds for it as well.
    private func sendSnapshots() {
        for process in supervisor?.processes ?? [] { sendSnapshot(to: process) }
    }

    private func sendSnapshot(to process: ProxyProcess) {
        guard let snapshot, let channel = process.channel, channel.isOpen, process.sentSnapshot != snapshot.version
        else { return }
        attempt { () throws(IOError) in
            let memory = try sealed(snapshot)
            let message = SupervisorMessage.snapshot(version: snapshot.version, length: UInt64(memory.count))
            let descriptor = try memory.descriptor.duplicate()
            if channel.send(message, DescriptorBatch(descriptor)) { process.sentSnapshot = snapshot.version }
        }
    }

    private func sealed(_ snapshot: Snapshot) throws(IOError) -> SealedMemory {
        let name = "culvert-snapshot"
        let number: Result<Int32, IOError> = snapshot.withBytes { bytes in
            do throws(IOError) {
                return .success(try SealedMemory(name: name, bytes: bytes).release())
            } catch { return .failure(error) }
        }
        return try SealedMemory(FileDescriptor(owning: try number.get()))
    }

    // MARK: problems

    /// Each when it comes; those that have gone are forgotten and would be reported again.
    func reportProblems() {
        let now = Set(currentProblems)
        for text in now.subtracting(reportedProblems).sorted() { callbacks.report(.init(.warning, text)) }
        reportedProblems = now
    }

    func attempt(_ body: () throws(IOError) -> Void) {
        do throws(IOError) { try body() } catch { callbacks.report(.init(.error, "\(error)")) }
    }
}
