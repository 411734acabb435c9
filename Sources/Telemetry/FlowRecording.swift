import CMeshABI
package import MeshModel

extension FlowTable {
    /// `addsUnknown` lets live events make flows: once after a start, for the connections that were there before.
    package mutating func record(_ event: KernelFlowEvent, addsUnknown: Bool = false) {
        if event.kind == .refused {
            return event.role == .plain ? recordRefusedPlaintext(event) : recordRefused(event)
        }
        let key = event.role == .served || event.role == .directServed ? event.peerCookie : event.cookie
        guard key != 0 else { return }
        let known = bySocket[key]
        if known == nil, told.contains(key) { return }
        // The socket that connected has told of itself before, and knows what it dialled.
        if known == nil, event.role == .directServed { return }
        guard let index = known ?? (event.kind == .live && !addsUnknown ? nil : make(event, key: key)) else { return }
        storage[index].take(process: event, pool: &pool)
        storage[index].sweep = sweep
        if event.kind != .opened { storage[index].count(event) }
        if event.role.isDecidedByKernel { openSeries(index, now: event.atNanoseconds) }
        countBytes(index, now: event.atNanoseconds)
        if event.role == .directServed { return decide(index, event) }
        if event.role == .datagramServed { decide(index, event) }
        if event.kind == .closed { socketClosed(index, event) }
    }

    /// A connection that no proxy carries is about to be ended, or was found to be denied. `cookie` is of the socket that
    /// connected.
    package mutating func recordDenial(cookie: UInt64, reason: Reason, decidedBy: RuleName) {
        guard let index = bySocket[cookie], storage[index].progress == .open else { return }
        if !storage[index].marks.contains(.denied), !decidedBy.isNone { policies.countDenial(decidedBy) }
        storage[index].marks.insert(.denied)
        storage[index].reason = UInt16(truncatingIfNeeded: reason.rawValue)
        storage[index].decidedBy = pool.name(decidedBy.description)
        storage.touch(index)
    }

    package mutating func record(_ opened: ProxyFlowOpened) { record(opened, isInherited: false) }

    mutating func record(_ opened: ProxyFlowOpened, isInherited: Bool) {
        let key = ProxyNumber(proxy: opened.proxy, number: opened.id)
        if let earlier = byProxyID[key], storage[earlier].progress == .open { return }
        if !opened.allowed, opened.direction == .inbound, bySocket[opened.cookie] == nil {
            return recordRefusedStream(opened)
        }
        guard let index = bySocket[opened.cookie] ?? bySocket[opened.dialCookie] ?? make(opened) else { return }
        if opened.dialCookie != 0, let other = bySocket[opened.dialCookie], other != index { merge(other, into: index) }
        // It may have had other numbers so far.
        forgetNumbers(of: index)
        storage[index].decide(opened, names: names, pool: &pool)
        if !isInherited { policies.count(opened) }
        byProxyID[key] = index
        for cookie in [storage[index].cookie, storage[index].dialCookie] where cookie != 0 { bySocket[cookie] = index }
        storage.touch(index)
        openSeries(index, isCounted: !isInherited, now: opened.openedNanoseconds)
        if !isInherited { countBytes(index, now: opened.openedNanoseconds) }
        if !opened.allowed {
            end(index, .refused, now: opened.openedNanoseconds)
        } else if storage[index].progress != .open {
            closeSeries(index, now: opened.openedNanoseconds)
        }
    }

    package mutating func record(_ closed: ProxyFlowClosed) {
        guard let index = byProxyID[ProxyNumber(proxy: closed.proxy, number: closed.id)] else { return }
        let flow = storage[index]
        if closed.connectMicroseconds > 0 { connect.observe(flow.direction, microseconds: closed.connectMicroseconds) }
        if closed.firstByteMicroseconds > 0 {
            firstByte.observe(flow.direction, microseconds: closed.firstByteMicroseconds)
        }
        if closed.reason != .MESH_REASON_NONE {
            storage[index].reason = UInt16(truncatingIfNeeded: closed.reason.rawValue)
        }
        if closed.reason == .MESH_REASON_POLICY_DENIED {
            storage[index].marks.insert(.denied)
            storage[index].decidedBy = pool.name(closed.decidedBy.description)
            policies.countDenial(closed.decidedBy)
        }
        if !flow.marks.contains(.socketClosed) {
            // The kernel's last word comes with the socket's close; until then its live figures may lag.
            storage[index].bytesSent = max(flow.bytesSent, closed.bytesSent)
            storage[index].bytesReceived = max(flow.bytesReceived, closed.bytesReceived)
            countBytes(index, now: closed.closedNanoseconds)
        }
        end(index, .closed, now: closed.closedNanoseconds)
    }

    /// A tunnel peer that was turned away before there was a connection: a row of its own.
    package mutating func recordPeerRefusal(
        _ reason: Reason, peer: SocketAddress, principal: String, now: UInt64
    ) {
        let nowhere = SocketAddress(.unspecified, 0)
        var flow = Flow(id: nextID, openedNanoseconds: now, source: peer, destination: nowhere)
        flow.direction = .inbound
        flow.marks = [.denied]
        flow.reason = UInt16(truncatingIfNeeded: reason.rawValue)
        flow.sourcePrincipal = pool.name(principal)
        if !principal.isEmpty { flow.sourceFacts = names?.workload(principal: principal, address: peer.address) }
        insertPeerRefusal(flow, now: now)
    }

    /// A tunnel's round-trip time and retransmits as of now; its flows show them.
    package mutating func recordTunnel(
        _ id: UInt32, ofProxy proxy: Int32 = 0, rttMicroseconds: UInt32, retransmits: UInt32
    ) {
        tunnels[ProxyNumber(proxy: proxy, number: id)] = TunnelFigures(
            rttMicroseconds: rttMicroseconds, retransmits: retransmits)
    }

    /// Forgets the figures of the proxy's tunnels that are not among `ids`.
    package mutating func keepTunnels(_ ids: Set<UInt32>, ofProxy proxy: Int32 = 0) {
        tunnels = tunnels.filter { $0.key.proxy != proxy || ids.contains($0.key.number) }
    }

    /// Begins a reading of all live sockets, whose events follow. `now` must be before the kernel is asked.
    package mutating func beginSweep(now: UInt64) {
        sweep &+= 1
        sweepBegan = now
    }

    /// Ends the reading: a flow that the kernel once showed and that was not among them has lost its close event.
    package mutating func endSweep(now: UInt64) {
        for index in Array(bySocket.values) {
            let flow = storage[index]
            guard flow.progress == .open, flow.marks.contains(.kernelCounts), !flow.marks.contains(.socketClosed),
                flow.sweep != sweep, flow.openedNanoseconds < sweepBegan
            else { continue }
            end(index, .closed, now: now)
        }
    }

    /// The proxy that told of these open flows is gone and took their connections along.
    package mutating func proxyEnded(_ proxy: Int32 = 0, now: UInt64) {
        for (key, index) in Array(byProxyID) where key.proxy == proxy {
            byProxyID[key] = nil
            guard storage[index].progress == .open else { continue }
            storage[index].reason = UInt16(truncatingIfNeeded: Reason.MESH_REASON_PROXY_STALE.rawValue)
            end(index, .closed, now: now)
        }
        keepTunnels([], ofProxy: proxy)
    }

    // MARK: private

    /// Its accepted socket is what policies were asked about.
    private mutating func decide(_ index: Int32, _ event: KernelFlowEvent) {
        guard !storage[index].marks.contains(.decided), !event.decidedBy.isNone else { return }
        storage[index].marks.insert(.decided)
        storage[index].decidedBy = pool.name(event.decidedBy.description)
        storage[index].dryRunDenial = pool.name(event.dryRunDenial.description)
        let isNew = event.kind == .opened || event.role == .datagramServed
        if isNew, !event.dryRunDenial.isNone { policies.countDryRunDenial(event.dryRunDenial) }
        storage.touch(index)
    }

    /// A stream that a peer asked for in vain. The series count it, with a row or without.
    private mutating func recordRefusedStream(_ opened: ProxyFlowOpened) {
        let now = opened.openedNanoseconds
        policies.count(opened)
        var flow = Flow(
            id: nextID, openedNanoseconds: now, source: opened.source, destination: opened.originalDestination)
        flow.decide(opened, names: names, pool: &pool)
        series.refuse(flow.labels(isSourceReporter: false, flags: .none), flags: flow.responseFlags, now: now)
        insertPeerRefusal(flow, now: now)
    }

    private mutating func insertPeerRefusal(_ flow: Flow, now: UInt64) {
        guard peerRefusals < Self.peerRefusalsMax else {
            lost += 1
            return
        }
        guard let index = insert(flow) else { return }
        storage[index].marks.insert(.peerRefusal)
        peerRefusals += 1
        end(index, .refused, now: now)
    }

    private mutating func recordRefused(_ event: KernelFlowEvent) {
        var flow = Flow(
            id: nextID, openedNanoseconds: event.atNanoseconds, source: event.source, destination: event.destination)
        flow.marks = event.isDatagram ? [.denied, .datagram] : [.denied]
        flow.reason = UInt16(truncatingIfNeeded: event.reason.rawValue)
        if !event.decidedBy.isNone {
            flow.decidedBy = pool.name(event.decidedBy.description)
            policies.countDenial(event.decidedBy)
        }
        flow.sourceFacts = names?.workload(event.workload)
        flow.sourcePrincipal = pool.name(flow.sourceFacts?.principal ?? "")
        switch names?.route(from: event.workload, to: event.destination) {
        case .service(let id, _): flow.service = names?.service(id)
        case .workload(let id, _):
            flow.destinationFacts = names?.workload(id)
            flow.destinationPrincipal = pool.name(flow.destinationFacts?.principal ?? "")
        case nil: break
        }
        guard let index = insert(flow) else { return }
        storage[index].take(process: event, pool: &pool)
        openSeries(index, now: event.atNanoseconds)
        end(index, .refused, now: event.atNanoseconds)
    }

    /// Strangers' connections to a workload, as those of tunnel peers.
    private mutating func recordRefusedPlaintext(_ event: KernelFlowEvent) {
        guard peerRefusals < Self.peerRefusalsMax else {
            lost += 1
            return
        }
        var flow = Flow(
            id: nextID, openedNanoseconds: event.atNanoseconds, source: event.source, destination: event.destination)
        flow.direction = .inbound
        flow.marks = [.denied, .peerRefusal, .plaintext]
        if event.isDatagram { flow.marks.insert(.datagram) }
        if !event.decidedBy.isNone {
            flow.decidedBy = pool.name(event.decidedBy.description)
            policies.countDenial(event.decidedBy)
        }
        flow.reason = UInt16(truncatingIfNeeded: event.reason.rawValue)
        flow.destinationFacts = names?.workload(event.workload)
        flow.destinationPrincipal = pool.name(flow.destinationFacts?.principal ?? "")
        guard let index = insert(flow) else { return }
        peerRefusals += 1
        openSeries(index, now: event.atNanoseconds)
        end(index, .refused, now: event.atNanoseconds)
    }

    private mutating func socketClosed(_ index: Int32, _ event: KernelFlowEvent) {
        // The server's socket may end before the client's, whose figures count.
        if event.role == .served, storage[index].marks.contains(.clientCounts) { return }
        storage[index].marks.insert(.socketClosed)
        let flow = storage[index]
        if flow.progress != .open || event.role.isDecidedByKernel {
            end(index, .closed, now: event.atNanoseconds)
        } else {
            closing.append(index, id: flow.id, at: event.atNanoseconds)
        }
    }

    /// A served socket's flow turns out to be the far end of a local one.
    private mutating func merge(_ served: Int32, into index: Int32) {
        storage[index].destinationPid = storage[served].destinationPid
        storage[index].destinationCommand = storage[served].destinationCommand
        forgetNumbers(of: served)
        storage.remove(served)
    }
}
