import CMeshABI
import MeshModel

/// An open flow as one meshd leaves it to the next: what the proxy told of it, and its bytes so far.
package struct FlowInheritance: Equatable, Sendable {
    package var opened: ProxyFlowOpened
    package var bytesSent: UInt64
    package var bytesReceived: UInt64

    package init(opened: ProxyFlowOpened, bytesSent: UInt64, bytesReceived: UInt64) {
        self.opened = opened
        self.bytesSent = bytesSent
        self.bytesReceived = bytesReceived
    }
}

extension FlowTable {
    /// The open flows that proxies have told of: the kernel shows the others to the next meshd by itself.
    package func inheritance() -> [FlowInheritance] {
        byProxyID.values.compactMap { index in
            let flow = storage[index]
            guard flow.progress == .open else { return nil }
            return FlowInheritance(
                opened: flow.decision(peerNode: names?.node(named: flow.peerNode.text) ?? .none),
                bytesSent: flow.bytesSent, bytesReceived: flow.bytesReceived)
        }
    }

    /// Sockets of connections that have ended by the proxies' word, and by the kernel's not yet: its events come to the next
    /// meshd, which would tell of them a second time.
    package func toldSockets() -> [UInt64] {
        byProxyID.values.flatMap { index -> [UInt64] in
            let flow = storage[index]
            guard flow.progress != .open, !flow.marks.contains(.socketClosed) else { return [] }
            return [flow.cookie, flow.dialCookie].filter { $0 != 0 }
        }
    }

    /// What the earlier one's `toldSockets` said, before any event is recorded.
    package mutating func inherit(told sockets: [UInt64]) { told = Set(sockets) }

    /// Takes over what an earlier meshd left. Its series have counted the beginning and the bytes so far.
    package mutating func inherit(_ flow: FlowInheritance) {
        let key = ProxyNumber(proxy: flow.opened.proxy, number: flow.opened.id)
        guard byProxyID[key] == nil else { return }
        record(flow.opened, isInherited: true)
        guard let index = byProxyID[key] else { return }
        storage[index].bytesSent = max(storage[index].bytesSent, flow.bytesSent)
        storage[index].bytesReceived = max(storage[index].bytesReceived, flow.bytesReceived)
        storage[index].countedSent = flow.bytesSent
        storage[index].countedReceived = flow.bytesReceived
        storage[index].marks.insert(.baselined)
    }
}

extension Flow {
    /// What `decide` was told.
    fileprivate func decision(peerNode: NodeID) -> ProxyFlowOpened {
        var opened = ProxyFlowOpened(
            id: proxyID, direction: direction, cookie: direction == .inbound ? dialCookie : cookie, source: source,
            originalDestination: destination)
        opened.proxy = proxy
        opened.dialCookie = direction == .local ? dialCookie : 0
        opened.sourceWorkload = sourceFacts?.id ?? .none
        opened.destinationWorkload = destinationFacts?.id ?? .none
        opened.service = marks.contains(.serviceInferred) ? .none : service?.id ?? .none
        opened.sourcePrincipal = sourcePrincipal.text
        opened.destinationPrincipal = destinationPrincipal.text
        opened.peerNode = peerNode
        opened.tunnel = tunnel
        opened.reason = Reason(number: reason) ?? .MESH_REASON_NONE
        opened.openedNanoseconds = openedNanoseconds
        opened.decidedBy = RuleName(rule: decidedBy.text)
        opened.dryRunDenial = RuleName(rule: dryRunDenial.text)
        return opened
    }
}
