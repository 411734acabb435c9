import CMeshABI
import MeshModel

extension FlowTable {
    mutating func make(_ event: KernelFlowEvent, key: UInt64) -> Int32? {
        var flow = Flow(
            id: nextID, openedNanoseconds: event.openedNanoseconds, source: event.source,
            destination: event.destination)
        switch event.role {
        case .served:
            flow.direction = .inbound
            flow.dialCookie = key
            flow.destinationFacts = names?.workload(event.workload)
            flow.destinationPrincipal = pool.name(flow.destinationFacts?.principal ?? "")
        case .plain, .datagramServed:
            flow.direction = .inbound
            flow.dialCookie = key
            flow.destinationFacts = names?.workload(event.workload)
            flow.destinationPrincipal = pool.name(flow.destinationFacts?.principal ?? "")
            flow.marks.insert(.plaintext)
            if event.isDatagram { flow.marks.insert(.datagram) }
        case .captured, .passthrough, .refused, .datagram, .direct, .directServed:
            flow.cookie = key
            flow.sourceFacts = names?.workload(event.workload)
            flow.sourcePrincipal = pool.name(flow.sourceFacts?.principal ?? "")
            if event.role == .passthrough || event.role == .datagram { flow.marks.insert(.passthrough) }
            if event.role == .datagram {
                flow.marks.insert(.datagram)
                namePeer(of: &flow, event)
            }
            if event.role == .direct {
                flow.marks.insert(.direct)
                namePeer(ofDirect: &flow, event)
            }
            // Of a connection that is older than its workload, which it is shown with.
            flow.reason = UInt16(truncatingIfNeeded: event.reason.rawValue)
        }
        guard let index = insert(flow) else { return nil }
        bySocket[key] = index
        return index
    }

    /// A datagram's peer may be a workload: it is plain text to it all the same.
    private mutating func namePeer(of flow: inout Flow, _ event: KernelFlowEvent) {
        guard case .workload(let id, _) = names?.route(from: event.workload, to: event.destination) else { return }
        flow.destinationFacts = names?.workload(id)
    }

    private mutating func namePeer(ofDirect flow: inout Flow, _ event: KernelFlowEvent) {
        flow.direction = .local
        flow.peerNode = pool.name(names?.node ?? "")
        flow.destinationFacts = names?.workload(event.peerWorkload)
        flow.destinationPrincipal = pool.name(flow.destinationFacts?.principal ?? "")
        if case .service(let id, _) = names?.route(from: event.workload, to: event.destination) {
            flow.service = names?.service(id)
        }
    }

    mutating func make(_ opened: ProxyFlowOpened) -> Int32? {
        insert(
            Flow(
                id: nextID, openedNanoseconds: opened.openedNanoseconds, source: opened.source,
                destination: opened.originalDestination))
    }

    /// When the table is full, the flow that ended first makes room; when all are open, the new one is lost.
    mutating func insert(_ flow: Flow) -> Int32? {
        if storage.count >= settings.flowsMax { removeOldestEnded() }
        guard storage.count < settings.flowsMax else {
            lost += 1
            return nil
        }
        nextID += 1
        return storage.insert(flow)
    }

    mutating func end(_ index: Int32, _ progress: Flow.Progress, now: UInt64) {
        guard storage[index].progress == .open else { return storage.touch(index) }
        let flow = storage[index]
        storage[index].progress = progress
        storage[index].endedNanoseconds = max(now, flow.openedNanoseconds)
        if flow.tunnel != 0, let figures = tunnels[flow.tunnelKey] {
            storage[index].rttMicroseconds = figures.rttMicroseconds
            storage[index].retransmits = figures.retransmits
        }
        closeSeries(index, now: now)
        ended.append(index, id: flow.id, at: storage[index].endedNanoseconds)
        unrecorded.append(index, id: flow.id, at: storage[index].endedNanoseconds)
        storage.touch(index)
    }

    mutating func openSeries(_ index: Int32, isCounted: Bool = true, now: UInt64) {
        let flow = storage[index]
        guard flow.sourceSeries == IstioSeries.none, flow.destinationSeries == IstioSeries.none else { return }
        // Opened before this meshd ran: an earlier one has counted it.
        let isKnown = flow.openedNanoseconds < began
        if flow.direction != .inbound {
            storage[index].sourceSeries = series.open(
                flow.labels(isSourceReporter: true, flags: .none), isCounted: isCounted && !isKnown, now: now)
        }
        if flow.direction != .outbound {
            storage[index].destinationSeries = series.open(
                flow.labels(isSourceReporter: false, flags: .none), isCounted: isCounted && !isKnown, now: now)
        }
    }

    mutating func closeSeries(_ index: Int32, now: UInt64) {
        let flow = storage[index]
        let isOpen = flow.sourceSeries != IstioSeries.none || flow.destinationSeries != IstioSeries.none
        guard isOpen, !flow.marks.contains(.seriesClosed) else { return }
        storage[index].marks.insert(.seriesClosed)
        let flags = flow.responseFlags
        series.close(flow.sourceSeries, flags: flags, now: now)
        series.close(flow.destinationSeries, flags: flags, now: now)
    }

    /// Adds to the series what they have not counted yet. They only grow: a final figure below a live one adds nothing.
    mutating func countBytes(_ index: Int32, now: UInt64) {
        let flow = storage[index]
        guard flow.sourceSeries != IstioSeries.none || flow.destinationSeries != IstioSeries.none else { return }
        if flow.openedNanoseconds < began, !flow.marks.contains(.baselined) { return baseline(index) }
        let sent = flow.bytesSent > flow.countedSent ? flow.bytesSent - flow.countedSent : 0
        let received = flow.bytesReceived > flow.countedReceived ? flow.bytesReceived - flow.countedReceived : 0
        guard sent > 0 || received > 0 else { return }
        series.add(flow.sourceSeries, sent: sent, received: received, now: now)
        series.add(flow.destinationSeries, sent: sent, received: received, now: now)
        storage[index].countedSent += sent
        storage[index].countedReceived += received
    }

    /// What a connection had carried before this meshd ran is counted already: series go on from the first figures.
    private mutating func baseline(_ index: Int32) {
        let flow = storage[index]
        guard flow.marks.contains(.kernelCounts) else { return }
        (storage[index].countedSent, storage[index].countedReceived) = (flow.bytesSent, flow.bytesReceived)
        storage[index].marks.insert(.baselined)
    }

    mutating func removeOldestEnded() {
        while let entry = ended.removeOldest() {
            if remove(entry) { return }
        }
    }

    /// Nothing leads to the flow by a socket's or a proxy's number any more.
    mutating func forgetNumbers(of index: Int32) {
        let flow = storage[index]
        for key in [flow.cookie, flow.dialCookie] where bySocket[key] == index { bySocket[key] = nil }
        if byProxyID[flow.proxyKey] == index { byProxyID[flow.proxyKey] = nil }
    }

    /// False when the flow was gone already.
    mutating func remove(_ entry: WaitingFlows.Entry) -> Bool {
        let flow = storage[entry.index]
        guard flow.id == entry.id else { return false }
        forgetNumbers(of: entry.index)
        if flow.marks.contains(.peerRefusal) { peerRefusals -= 1 }
        storage.remove(entry.index)
        return true
    }
}
