import AdminAPI
import FoundationEssentials
import Telemetry
import Testing

/// What meshd writes by hand, meshctl decodes: member for member.
@Suite struct RowCodingTests {
    func decoded<Row: JSONWritable & Decodable>(_ row: Row) throws -> Row {
        try JSONDecoder().decode(Row.self, from: Data(row.jsonBytes))
    }

    @Test func flowSurvives() throws {
        var flow = FlowRow()
        (flow.id, flow.node, flow.direction, flow.peerNode) = (1, "n\u{1}\"\\é", "local", "b")
        (flow.sourcePrincipal, flow.destinationPrincipal) = ("p", "q")
        (flow.sourceWorkload, flow.destinationWorkload, flow.service) = ("s", "d", "v")
        (flow.source, flow.originalDestination) = ("a", "o")
        (flow.bytesSent, flow.bytesReceived, flow.approximate) = (.max, 3, true)
        (flow.rttMicroseconds, flow.rttShared, flow.retransmits, flow.tunnel) = (4, true, 5, 6)
        (flow.ageMilliseconds, flow.endedMilliseconds) = (7, 8)
        (flow.state, flow.verdict, flow.reason) = (.refused, .denied, "no_route")
        (flow.pid, flow.command, flow.destinationPid, flow.destinationCommand) = (9, "c", 10, "e")
        #expect(try decoded(flow) == flow)
        let page = FlowPage(next: 1, more: true, lost: 2, flows: [flow, FlowRow()])
        #expect(try decoded(page) == page)
    }

    @Test func statusSurvives() throws {
        var status = NodeStatus()
        (status.node, status.trustDomain, status.version, status.pid) = ("a", "t", "1", 2)
        (status.ready, status.readyReason, status.uptimeSeconds) = (true, "r", 3)
        (status.snapshotVersion, status.resourceFiles, status.resourceErrors) = (4, 5, ["e"])
        (status.kernelProgramsAttached, status.proxyPid, status.proxyRestarts) = (true, 6, 7)
        (status.proxySnapshotVersion, status.proxyOverloaded, status.workloads) = (8, true, 9)
        (status.services, status.nodes, status.tunnels, status.connections) = (10, 11, 12, 13)
        (status.lostEvents, status.problems) = (14, ["p", "q"])
        #expect(try decoded(status) == status)
    }

    @Test func rowsSurvive() throws {
        #expect(
            try decoded(CheckFact("n", .failed, detail: "d", fix: "f"))
                == CheckFact("n", .failed, detail: "d", fix: "f"))
        var workload = WorkloadRow()
        (workload.id, workload.workload, workload.node, workload.principal) = (1, "w", "n", "p")
        (workload.addresses, workload.ports, workload.network) = (["a", "b"], [1, 65_535], "x")
        (workload.running, workload.local) = (true, true)
        #expect(try decoded(workload) == workload)
        var service = ServiceRow()
        (service.service, service.addresses) = ("s", ["a"])
        service.ports = [.init(port: 1, target: 2, endpoints: 3)]
        #expect(try decoded(RowList([service])) == RowList([service]))
        var node = NodeRow()
        (node.node, node.addresses, node.local, node.workloads) = ("n", ["a"], true, 1)
        (node.tunnels, node.unreachable) = (2, "u")
        #expect(try decoded(node) == node)
        var tunnel = TunnelRow()
        (tunnel.id, tunnel.direction, tunnel.peerNode, tunnel.peer) = (1, "d", "n", "p")
        (tunnel.localPrincipal, tunnel.peerPrincipal, tunnel.streams) = ("l", "q", 2)
        (tunnel.streamsTotal, tunnel.rttMicroseconds, tunnel.retransmits) = (3, 4, 5)
        (tunnel.bytesSent, tunnel.bytesReceived, tunnel.ageMilliseconds) = (6, 7, 8)
        #expect(try decoded(tunnel) == tunnel)
        var certificate = CertificateRow()
        (certificate.principal, certificate.path, certificate.serial) = ("p", "f", "s")
        (certificate.issuer, certificate.notBefore, certificate.notAfter) = ("i", -1, 2)
        (certificate.state, certificate.problem) = (.expiring, "x")
        #expect(try decoded(certificate) == certificate)
    }
}
