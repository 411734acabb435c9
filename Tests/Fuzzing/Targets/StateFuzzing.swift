import CMeshABI
import FoundationEssentials
import MeshModel
import Telemetry

/// Input: changes to a snapshot's bytes (or, first byte 0, bytes in their place), which then get a right checksum. What
/// is taken may be read through and built upon, whatever its records say.
func fuzzSnapshots(_ input: UnsafeRawBufferPointer) {
    var parts = FuzzInput(input)
    var bytes: [UInt8]
    if parts.byte() == 0 {
        bytes = Array(parts.rest)
    } else {
        bytes = SnapshotSample.bytes
        while !parts.isEmpty {
            let place = Int(parts.word() >> 8) % max(bytes.count, 1)
            let patch = parts.bytes(Int(parts.byte() % 9))
            // Empty: the end of the file is missing.
            if patch.isEmpty { bytes.removeLast(bytes.count - place & ~7) }
            for (offset, byte) in patch.enumerated() where place + offset < bytes.count { bytes[place + offset] = byte }
        }
    }
    Snapshot.reseal(&bytes)
    guard let snapshot = try? Snapshot(bytes: bytes) else { return }
    readThrough(snapshot)
    var builder = SnapshotBuilder(
        localNode: "a", trustDomain: "fuzzed", ids: SnapshotIDs(continuing: snapshot))
    _ = try? builder.build(ResourceSet(of: snapshot))
}

private enum SnapshotSample {
    static let bytes: [UInt8] = {
        let workloads = (0..<3).map { number in
            WorkloadResource(
                name: "w\(number)", namespace: "shop", serviceAccount: "w\(number)", node: number == 2 ? "b" : "a",
                selector: WorkloadSelector(.cgroup(pattern: "w\(number)")),
                addresses: [IPAddress(ipv4: 0x0a00_0001 + UInt32(number))], ports: [80], network: "",
                labels: ["app": "web"])
        }
        let resources = ResourceSet(
            nodes: ["a", "b"].map {
                NodeResource(name: $0, tunnelAddresses: [IPAddress(high: 1, low: UInt64($0.utf8.first ?? 0))])
            },
            workloads: workloads,
            services: [
                ServiceResource(
                    name: "web", namespace: "shop", virtualAddresses: [IPAddress(ipv4: 0x0a60_0001)],
                    ports: [.init(80, targetPort: 80)], selector: ["app": "web"])
            ])
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "fuzzed")
        let instance = LocalInstance(
            resource: workloads[0].key, workload: WorkloadID(rawValue: 1), networkNamespace: .node, cgroupID: 7)
        guard let snapshot = try? builder.build(resources, instances: [instance]) else {
            preconditionFailure("the sample is broken")
        }
        return snapshot.withBytes { Array($0) }
    }()
}

private func readThrough(_ snapshot: Snapshot) {
    for view in snapshot.allWorkloads.prefix(20) {
        _ = (view.key, view.labels.count, view.ports.count, view.serviceAccount, snapshot.workload(view.id)?.key)
        _ = (view.selector, snapshot.principal(view.principal), snapshot.isPlaced(view.principal, on: view.node))
        for isIPv6 in [false, true] {
            guard let address = view.address(isIPv6: isIPv6) else { continue }
            let destination = SocketAddress(address, 80)
            _ = snapshot.route(network: view.network, destination: destination)
            _ = snapshot.localEndpoint(principal: view.principal, destination: destination)
            _ = (snapshot.isDestinationKnownLocally(destination), snapshot.service(withVirtualAddress: address))
            _ = snapshot.owns(view.principal, address: address, on: view.node)
        }
    }
    for view in snapshot.allServices.prefix(20) {
        _ = (view.key, view.virtualAddresses.count, view.selector)
        for port in view.ports.prefix(20) {
            for endpoint in view.endpoints(port: port.port).prefix(20) { _ = snapshot.workload(endpoint.workload)?.key }
        }
    }
    for view in snapshot.allNodes.prefix(20) {
        for address in view.tunnelAddresses.prefix(20) { _ = snapshot.node(withTunnelAddress: address) }
    }
    _ = (snapshot.allPrincipals.count, snapshot.allNetworks.count, snapshot.trustDomain, snapshot.localNode)
    _ = snapshot.principalID(of: "spiffe://fuzzed/ns/shop/sa/w1")
}

/// Input: what the kernel side and the proxy tell of connections, in any order and with any numbers. The table keeps its
/// bound, and every row and the metrics page can be read.
func fuzzEvents(_ input: UnsafeRawBufferPointer) {
    var parts = FuzzInput(input)
    var settings = FlowTable.Settings()
    (settings.flowsMax, settings.seriesMax) = (16, 8)
    var table = FlowTable(settings)
    var now: UInt64 = 1
    while !parts.isEmpty {
        let step = parts.byte()
        switch step & 7 {
        case 0...3:
            let taken = parts.bytes(MemoryLayout<mesh_event>.size)
            let bytes = taken + [UInt8](repeating: 0, count: MemoryLayout<mesh_event>.size - taken.count)
            var event = bytes.withUnsafeBytes { $0.loadUnaligned(as: mesh_event.self) }
            // Or hardly two of them would be about one connection.
            if step & 8 == 0 {
                (event.socket.cookie, event.socket.peer_cookie) = (
                    event.socket.cookie & 3, event.socket.peer_cookie & 3
                )
            }
            if let flow = KernelFlowEvent(event, isLive: step & 16 != 0) {
                table.record(flow, addsUnknown: step & 32 != 0)
            }
        case 4:
            let id = UInt64(parts.byte() & 3)
            var opened = ProxyFlowOpened(
                id: id, direction: FlowDirection(rawValue: parts.byte() % 3 + 1) ?? .local,
                cookie: UInt64(parts.byte() & 3), source: SocketAddress(IPAddress(ipv4: parts.word()), 1),
                originalDestination: SocketAddress(IPAddress(high: 0, low: UInt64(parts.word())), 2))
            (opened.allowed, opened.tunnel) = (step & 8 == 0, UInt32(step >> 5))
            (opened.openedNanoseconds, opened.dialCookie) = (UInt64(parts.word()) << 24, UInt64(parts.byte() & 3))
            table.record(opened)
        case 5:
            var closed = ProxyFlowClosed(id: UInt64(parts.byte() & 3))
            (closed.bytesSent, closed.bytesReceived) = (UInt64(parts.word()) << 32, UInt64(parts.word()))
            (closed.connectMicroseconds, closed.firstByteMicroseconds) = (parts.word(), parts.word())
            closed.closedNanoseconds = UInt64(parts.word()) << 24
            table.record(closed)
        default:
            now &+= UInt64(parts.word()) << (step & 8 == 0 ? 0 : 16)
            table.expire(now: now)
            if step & 16 != 0 { _ = table.takeSettled(now: now, limit: 4) }
        }
        precondition(table.count <= settings.flowsMax && table.seriesCount <= settings.seriesMax, "over its bound")
    }
    let page = table.page(changedAfter: 0, limit: settings.flowsMax, now: now)
    precondition(page.flows.count == table.count, "rows are missing")
    precondition((try? JSONDecoder().decode(FlowPage.self, from: Data(page.jsonBytes))) == page, "\(page.jsonText)")
    let metrics = MetricsPage.bytes(NodeMetrics(), table)
    precondition(metrics.last == 0x0a && !metrics.contains { $0 < 0x20 && $0 != 0x0a }, "a metrics page that is torn")
}
