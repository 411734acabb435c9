import MeshModel

// The records inside the proxy's messages. Field order is the wire's: append only.

extension WireWriter {
    mutating func hello(_ value: ProxyHello) {
        number(value.version)
        number(value.pid)
        number(value.loops)
        number(value.snapshotVersion)
        list(value.listeners) { $0.listener($1) }
        list(value.principals) { $0.text($1) }
        number(value.connections)
        flag(value.isDraining)
    }

    mutating func opened(_ value: ConnectionOpened) {
        number(value.id)
        number(value.direction.rawValue)
        number(value.cookie)
        number(value.dialCookie)
        number(value.sourceWorkload.rawValue)
        number(value.destinationWorkload.rawValue)
        number(value.service.rawValue)
        text(value.sourcePrincipal)
        text(value.destinationPrincipal)
        address(value.source)
        address(value.originalDestination)
        address(value.upstream)
        number(value.peerNode.rawValue)
        number(value.tunnel)
        flag(value.allowed)
        reason(value.reason)
        number(value.policyGeneration)
        number(value.openedNanoseconds)
        ruleName(value.decidedBy)
        ruleName(value.dryRunDenial)
    }

    mutating func resolution(_ value: NameResolution) {
        number(value.token)
        number(value.workload.rawValue)
        text(value.name)
        list(value.addresses) {
            $0.number($1.high)
            $0.number($1.low)
        }
        number(value.timeToLiveSeconds)
    }

    mutating func ruleName(_ value: RuleName) {
        text(value.policy)
        text(value.rule)
    }

    mutating func closed(_ value: ConnectionClosed) {
        number(value.id)
        number(value.bytesSent)
        number(value.bytesReceived)
        reason(value.reason)
        number(value.connectMicroseconds)
        number(value.firstByteMicroseconds)
        number(value.closedNanoseconds)
        ruleName(value.decidedBy)
    }

    mutating func refusal(_ value: PeerRefusal) {
        reason(value.reason)
        address(value.peer)
        text(value.principal)
        text(value.subject)
    }

    mutating func tunnel(_ value: TunnelStatus) {
        number(value.id)
        flag(value.isOutbound)
        number(value.peerNode.rawValue)
        address(value.peer)
        text(value.localPrincipal)
        text(value.peerPrincipal)
        number(value.streams)
        number(value.streamsTotal)
        number(value.rttMicroseconds)
        number(value.retransmits)
        number(value.bytesSent)
        number(value.bytesReceived)
        number(value.openedNanoseconds)
    }

    mutating func counters(_ value: ProxyCounters) {
        let reasons = value.reasons.sorted { $0.key < $1.key }
        list(reasons) { writer, entry in
            writer.number(entry.key)
            writer.number(entry.value)
        }
        number(value.connections)
        number(value.connectionsTotal)
        number(value.tunnels)
        number(value.tunnelsTotal)
        number(value.handshakesTotal)
        number(value.memoryHeld)
        number(value.memoryBudget)
        number(value.descriptors)
        number(value.descriptorsMax)
        number(value.bytesToTunnels)
        number(value.bytesFromTunnels)
        flag(value.isOverloaded)
        number(value.recordsLost)
        number(value.namesAnswered)
        number(value.namesForwarded)
        number(value.tunnelsUnderLossTotal)
    }
}

extension WireReader {
    mutating func resolution() throws(ControlError) -> NameResolution {
        let token = try number("token", as: UInt64.self)
        let workload = try workload("workload")
        let name = try text("name")
        let addresses = try list("addresses") { (reader) throws(ControlError) in
            let high = try reader.number("address", as: UInt64.self)
            return IPAddress(high: high, low: try reader.number("address"))
        }
        guard addresses.count <= NameResolution.addressesMax else { throw .invalid(field: "addresses") }
        return NameResolution(
            token: token, workload: workload, name: name, addresses: addresses,
            timeToLiveSeconds: try number("time to live"))
    }

    mutating func hello() throws(ControlError) -> ProxyHello {
        let version = try number("version", as: UInt16.self)
        let pid = try number("pid", as: Int32.self)
        let loops = try number("loops", as: UInt16.self)
        let snapshotVersion = try number("snapshot version", as: UInt64.self)
        let listeners = try list("listeners") { (reader) throws(ControlError) in try reader.listener() }
        let principals = try list("principals") { (reader) throws(ControlError) in try reader.text("principal") }
        var hello = ProxyHello(
            pid: pid, loops: loops, snapshotVersion: snapshotVersion, listeners: listeners, principals: principals,
            connections: try number("connections"))
        hello.version = version
        hello.isDraining = try appendedFlag("draining")
        return hello
    }

    mutating func opened() throws(ControlError) -> ConnectionOpened {
        let id = try number("id", as: UInt64.self)
        guard let direction = ConnectionDirection(rawValue: try number("direction")) else {
            throw .invalid(field: "direction")
        }
        return ConnectionOpened(
            id: id, direction: direction, cookie: try number("cookie"), dialCookie: try number("dial cookie"),
            sourceWorkload: try workload("source workload"),
            destinationWorkload: try workload("destination workload"),
            service: ServiceID(rawValue: try number("service")), sourcePrincipal: try text("source principal"),
            destinationPrincipal: try text("destination principal"), source: try address("source"),
            originalDestination: try address("original destination"), upstream: try address("upstream"),
            peerNode: try node("peer node"), tunnel: try number("tunnel"), allowed: try flag("allowed"),
            reason: try reason(), policyGeneration: try number("policy generation"),
            openedNanoseconds: try number("opened"), decidedBy: try ruleName(), dryRunDenial: try ruleName())
    }

    /// None in records of a version that knew no policies.
    mutating func ruleName() throws(ControlError) -> RuleName {
        guard !isAtEnd else { return .none }
        return RuleName(policy: try text("policy"), rule: try text("rule"))
    }

    mutating func closed() throws(ControlError) -> ConnectionClosed {
        ConnectionClosed(
            id: try number("id"), bytesSent: try number("bytes sent"), bytesReceived: try number("bytes received"),
            reason: try reason(), connectMicroseconds: try number("connect time"),
            firstByteMicroseconds: try number("first byte time"), closedNanoseconds: try number("closed"),
            decidedBy: try ruleName())
    }

    mutating func refusal() throws(ControlError) -> PeerRefusal {
        PeerRefusal(
            reason: try reason(), peer: try address("peer"), principal: try text("principal"),
            subject: try text("subject"))
    }

    mutating func tunnel() throws(ControlError) -> TunnelStatus {
        TunnelStatus(
            id: try number("id"), isOutbound: try flag("direction"), peerNode: try node("peer node"),
            peer: try address("peer"), localPrincipal: try text("local principal"),
            peerPrincipal: try text("peer principal"), streams: try number("streams"),
            streamsTotal: try number("streams total"), rttMicroseconds: try number("round-trip time"),
            retransmits: try number("retransmits"), bytesSent: try number("bytes sent"),
            bytesReceived: try number("bytes received"), openedNanoseconds: try number("opened"))
    }

    mutating func counters() throws(ControlError) -> ProxyCounters {
        var value = ProxyCounters()
        let reasons = try list("reasons") { (reader) throws(ControlError) -> (UInt16, UInt64) in
            let key = try reader.number("reason", as: UInt16.self)
            return (key, try reader.number("count", as: UInt64.self))
        }
        for (key, count) in reasons { value.reasons[key] = count }
        value.connections = try number("connections")
        value.connectionsTotal = try number("connections total")
        value.tunnels = try number("tunnels")
        value.tunnelsTotal = try number("tunnels total")
        value.handshakesTotal = try number("handshakes")
        value.memoryHeld = try number("memory held")
        value.memoryBudget = try number("memory budget")
        value.descriptors = try number("descriptors")
        value.descriptorsMax = try number("descriptors max")
        value.bytesToTunnels = try number("bytes to tunnels")
        value.bytesFromTunnels = try number("bytes from tunnels")
        value.isOverloaded = try flag("overloaded")
        value.recordsLost = try number("records lost")
        value.namesAnswered = try number("names answered")
        value.namesForwarded = try number("names forwarded")
        value.tunnelsUnderLossTotal = try appendedNumber("tunnels under loss") ?? 0
        return value
    }
}
