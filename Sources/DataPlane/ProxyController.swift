import CMeshABI
import Glibc
import LinuxIO
import MeshModel
import OpenSSLTLS
import ProxyControl
import Synchronization

/// The control thread's knowledge: what meshd gave, which loops run, what is to be told. It hands loops immutable
/// values and descriptors; on the byte path it has no part.
final class ProxyController {
    private let reactor: Reactor
    private let link: ControlLink
    private let kernel: KernelInterface
    /// Called once the loops run: nothing new is needed from the system after that.
    private let started: () -> Void
    private let ended: () -> Void

    private var shared: ProxyShared?
    private var loops: [EventLoop] = []
    private var settings: ProxySettings?
    private var snapshot: Snapshot?
    private var identities = IdentityBuilder()
    private var areIdentitiesNew = false
    private var listeners: [UInt32: ListenerDescription] = [:]
    private var principalNames: [PrincipalID: String] = [:]
    private var unreachable: Set<NodeID> = []
    private var tunnelReports: [TunnelStatus] = []
    private var reportsAwaited = 0
    private var drainedLoops: Set<Int> = []
    /// Records that wait for meshd to come back.
    private var keptRecords: [LoopReport] = []
    /// Empty; `forwardReports` uses it again and again.
    private var reportMemory: [LoopReport] = []
    private var reportWatch: FileDescriptor?

    init(
        reactor: Reactor, link: ControlLink, kernel: KernelInterface, started: @escaping () -> Void,
        ended: @escaping () -> Void
    ) {
        self.reactor = reactor
        self.link = link
        self.kernel = kernel
        self.started = started
        self.ended = ended
    }

    func start() {
        link.start(
            ControlLink.Callbacks(
                hello: { [weak self] in (self?.hello).map { .hello($0) } },
                connected: { [weak self] in self?.connected() },
                received: { [weak self] message, descriptors in self?.take(message, descriptors) }))
        _ = reactor.schedule(afterMilliseconds: 500, every: 500) { [weak self] in self?.tick() }
    }

    /// Ends the loops; for tests, where the process goes on.
    func stop() { shared?.postToAll(.stop) }

    // MARK: meshd

    private var hello: ProxyHello {
        var hello = ProxyHello(
            pid: getpid(), loops: UInt16(clamping: loops.count), snapshotVersion: snapshot?.version ?? 0,
            listeners: listeners.values.sorted { $0.id < $1.id }, principals: identities.principals,
            connections: shared?.counters().connections ?? 0)
        hello.isDraining = shared?.isDraining.load(ordering: .relaxed) ?? false
        return hello
    }

    private func connected() {
        guard let shared else { return }
        forwardReports()
        shared.postToAll(.announce)
        for need in shared.dialSockets.overdue(now: BootClock.nanoseconds(), isNewConnection: true) {
            link.send(.needDialSockets(pool: need.pool, count: need.count))
        }
        for node in unreachable {
            link.send(
                .nodeUnreachable(node, errno: EHOSTUNREACH, reason: .MESH_REASON_TUNNEL_CONNECT_FAILED))
        }
    }

    private func take(_ message: SupervisorMessage, _ descriptors: consuming DescriptorBatch) {
        switch message {
        case .certificate, .retireCertificate, .trust: break
        default: postIdentities()
        }
        switch message {
        case .welcome(let settings): welcome(settings)
        case .snapshot(_, let length): takeSnapshot(descriptors.takeFirst(), length: length)
        case .certificate(let certificate):
            changeIdentities { (builder) throws(TLSSetupError) in try builder.add(certificate) }
        case .retireCertificate(let principal): changeIdentities { $0.retire(principal) }
        case .trust(let domain, let bundle):
            changeIdentities { (builder) throws(TLSSetupError) in
                try builder.setTrust(domain: domain, bundle: bundle)
            }
        case .listener(let description): takeListener(description, descriptors.takeFirst())
        case .closeListener(let id):
            listeners[id] = nil
            shared?.postToAll(.closeListener(id: id))
        case .dialSockets(let pool): takeDialSockets(pool, descriptors)
        case .workloadGone(let workload): shared?.postToAll(.workloadGone(workload))
        case .networkNamespaceGone(let namespace):
            listeners = listeners.filter { $0.value.networkNamespace != namespace }
            shared?.dialSockets.close { $0.networkNamespace == namespace }
            shared?.postToAll(.networkNamespaceGone(namespace))
        case .giveListeners: shared?.postToAll(.giveListeners)
        case .nameAdmitted(let token): nameAdmitted(token)
        case .drain(let milliseconds, let listenersStay): drain(milliseconds, listenersStay: listenersStay)
        case .report:
            reportsAwaited = loops.count
            tunnelReports = []
            shared?.postToAll(.report)
        }
    }

    private func welcome(_ settings: ProxySettings) {
        self.settings = settings
        if let shared {
            shared.budget.setLimit(Int(clamping: settings.memoryBudget))
            shared.descriptors.setLimit(Int(settings.descriptorsMax))
            shared.postToAll(.settings(LoopSettings(settings)))
            return
        }
        let shared = ProxyShared(settings: settings, kernel: kernel)
        self.shared = shared
        loops = (0..<max(1, Int(settings.loops))).map {
            EventLoop(index: $0, shared: shared, settings: LoopSettings(settings))
        }
        for loop in loops {
            if let error = loop.start() { StandardError.write("proxy: no thread for a loop: \(error)") }
        }
        watchReports(shared)
        started()
    }

    private func watchReports(_ shared: ProxyShared) {
        // A duplicate, since the queue owns its own.
        let copy = fcntl(shared.reports.wake, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { return }
        let descriptor = FileDescriptor(owning: copy)
        _ = try? reactor.watch(descriptor, for: [.read, .edges]) { [weak self] _ in self?.forwardReports() }
        reportWatch = consume descriptor
    }

    private func takeSnapshot(_ descriptor: consuming FileDescriptor?, length: UInt64) {
        guard let descriptor = descriptor else { return }
        do {
            let memory = try SealedMemory(descriptor)
            let mapping = try memory.map()
            let snapshot = try Snapshot(mapping: mapping.bytes) { withExtendedLifetime(mapping) {} }
            self.snapshot = snapshot
            principalNames = [:]
            shared?.postToAll(.snapshot(snapshot))
            link.send(.snapshotInUse(version: snapshot.version))
        } catch {
            StandardError.write("proxy: snapshot of \(length) bytes refused: \(error)")
        }
    }

    private func changeIdentities(
        _ change: (inout IdentityBuilder) throws(TLSSetupError) -> Void
    ) {
        do throws(TLSSetupError) { try change(&identities) } catch {
            StandardError.write("proxy: certificate refused: \(error)")
        }
        guard !areIdentitiesNew else { return }
        areIdentitiesNew = true
        // Certificates come in bursts; what follows them must not overtake them.
        _ = reactor.schedule(afterMilliseconds: 5) { [weak self] in self?.postIdentities() }
    }

    private func postIdentities() {
        guard areIdentitiesNew else { return }
        areIdentitiesNew = false
        do throws(TLSSetupError) { shared?.postToAll(.identities(try identities.build())) } catch {
            StandardError.write("proxy: certificates refused: \(error)")
        }
    }

    private func takeListener(_ description: ListenerDescription, _ descriptor: consuming FileDescriptor?) {
        guard let shared, let descriptor = descriptor, !loops.isEmpty else { return }
        if shared.isDraining.load(ordering: .relaxed) { return }
        if listeners.updateValue(description, forKey: description.id) != nil {
            shared.postToAll(.closeListener(id: description.id))
        }
        shared.descriptors.add()
        loops[Int(description.loop) % loops.count].mailbox.post(
            .listener(description, descriptor: descriptor.release()))
    }

    private func takeDialSockets(_ pool: DialPool, _ descriptors: consuming DescriptorBatch) {
        guard let shared else { return }
        var sockets: [Int32] = []
        while let descriptor = descriptors.takeFirst() { sockets.append(descriptor.release()) }
        shared.dialSockets.add(sockets, to: pool)
        shared.postToAll(.dialSocketsArrived)
    }

    private func drain(_ milliseconds: UInt32, listenersStay: Bool) {
        guard let shared else { return leave() }
        shared.isDraining.store(true, ordering: .relaxed)
        if listenersStay { listeners = [:] }
        let deadline = milliseconds == 0 ? .max : BootClock.nanoseconds() + UInt64(milliseconds) * 1_000_000
        shared.postToAll(.drain(deadline: deadline, listenersStay: listenersStay))
    }

    /// Tells meshd the last, and ends; waits some seconds for one that is being replaced itself.
    private func leave(triesLeft: Int = ProxyController.leaveTries, hasSaidSo: Bool = false) {
        var hasSaidSo = hasSaidSo
        if link.isConnected, !hasSaidSo {
            forwardReports()
            if let shared { link.send(.counters(shared.counters())) }
            hasSaidSo = link.send(.drained)
        }
        guard triesLeft > 0, !hasSaidSo || link.isBehind else { return ended() }
        _ = reactor.schedule(afterMilliseconds: 100) { [weak self] in
            self?.leave(triesLeft: triesLeft - 1, hasSaidSo: hasSaidSo)
        }
    }

    private static let leaveTries = 100

    private func tick() {
        guard let shared, link.isConnected else { return }
        for need in shared.dialSockets.overdue(now: BootClock.nanoseconds()) {
            link.send(.needDialSockets(pool: need.pool, count: need.count))
        }
    }

    // MARK: loops

    private func forwardReports() {
        guard let shared else { return }
        var opened: [ConnectionOpened] = []
        var closed: [ConnectionClosed] = []
        var refused: [PeerRefusal] = []
        var reports: [LoopReport] = []
        swap(&reports, &reportMemory)
        defer {
            reports.removeAll(keepingCapacity: reports.capacity <= 4_096)
            swap(&reports, &reportMemory)
        }
        shared.reports.takeAll(into: &reports)
        if !keptRecords.isEmpty {
            reports = keptRecords + reports
            keptRecords = []
        }
        for report in reports {
            // They would be lost with a meshd that is just being replaced.
            if report.isRecord, !link.isConnected {
                keep(report, shared)
                continue
            }
            switch report {
            case .opened(let record): opened.append(named(record))
            case .closed(let record): closed.append(record)
            case .refused(let refusal): refused.append(refusal)
            default: forward(report, shared)
            }
        }
        guard link.isConnected else { return }
        // Whatever order they were in: a connection is opened before it is closed.
        if !opened.isEmpty, !link.send(.opened(opened)) { shared.reports.lose(opened.count) }
        if !closed.isEmpty, !link.send(.closed(closed)) { shared.reports.lose(closed.count) }
        if !refused.isEmpty, !link.send(.refused(refused)) { shared.reports.lose(refused.count) }
    }

    private func keep(_ record: LoopReport, _ shared: ProxyShared) {
        if keptRecords.count < ReportQueue.recordsMax { keptRecords.append(record) } else { shared.reports.lose(1) }
    }

    private func forward(_ report: LoopReport, _ shared: ProxyShared) {
        switch report {
        case .opened, .closed, .refused: break
        case .needDialSockets(let pool, let count): link.send(.needDialSockets(pool: pool, count: count))
        case .nodeUnreachable(let node, let code, let reason):
            guard unreachable.insert(node).inserted else { return }
            link.send(.nodeUnreachable(node, errno: code, reason: reason))
        case .nodeReachable(let node):
            guard unreachable.remove(node) != nil else { return }
            link.send(.nodeReachable(node))
            shared.postToAll(.nodeReachable(node))
        case .tunnels(let tunnels):
            tunnelReports += tunnels
            reportsAwaited -= 1
            guard reportsAwaited <= 0 else { return }
            link.send(.tunnels(tunnelReports))
            link.send(.counters(shared.counters()))
            tunnelReports = []
        case .listener(let description, let descriptor):
            link.send(.listener(description), DescriptorBatch(FileDescriptor(owning: descriptor)))
        case .nameResolved(let resolution):
            // Without a meshd the workload is told, and what it can't call is refused.
            if !link.send(.nameResolved(resolution)) { nameAdmitted(resolution.token) }
        case .drained(let loop):
            drainedLoops.insert(loop)
            guard drainedLoops.count == loops.count else { return }
            leave()
        }
    }

    private func nameAdmitted(_ token: UInt64) {
        let loop = NameState.loop(ofToken: token)
        if loop < loops.count { loops[loop].mailbox.post(.nameAdmitted(token: token)) }
    }

    private func named(_ record: OpenRecord) -> ConnectionOpened {
        ConnectionOpened(
            id: record.id, direction: record.direction, cookie: record.cookie, dialCookie: record.dialCookie,
            sourceWorkload: record.sourceWorkload, destinationWorkload: record.destinationWorkload,
            service: record.service, sourcePrincipal: name(of: record.sourcePrincipal),
            destinationPrincipal: name(of: record.destinationPrincipal), source: record.source,
            originalDestination: record.originalDestination, upstream: record.upstream, peerNode: record.peerNode,
            tunnel: record.tunnel, allowed: record.isAllowed, reason: record.reason,
            policyGeneration: record.policyGeneration, openedNanoseconds: record.openedNanoseconds,
            decidedBy: record.decidedBy, dryRunDenial: record.dryRunDenial)
    }

    private func name(of principal: PrincipalID) -> String {
        if principal == .none { return "" }
        if let known = principalNames[principal] { return known }
        let name = snapshot?.principal(principal) ?? ""
        principalNames[principal] = name
        return name
    }
}

/// The proxy has no log of its own: what is not a message to meshd goes to standard error, which its unit keeps.
enum StandardError {
    static func write(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        _ = Glibc.write(STDERR_FILENO, bytes, bytes.count)
    }
}
