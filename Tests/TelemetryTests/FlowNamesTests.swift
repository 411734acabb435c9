import MeshModel
import Telemetry
import Testing

@Suite struct FlowNamesTests {
    static func address(_ last: UInt32) -> IPAddress { IPAddress(ipv4: 0x0a4d_0000 + last) }

    static func workload(_ name: String, account: String, node: String, address: UInt32) -> WorkloadResource {
        WorkloadResource(
            name: name, namespace: "shop", serviceAccount: account, node: node,
            selector: WorkloadSelector(.cgroup(pattern: name)), addresses: [Self.address(address)], ports: [8080],
            labels: ["app": name, "version": "v2"])
    }

    /// Node a with `web` behind service `shop/web`; node b with two clients under one principal.
    static func snapshot(serviceName: String = "web") throws -> Snapshot {
        var resources = ResourceSet(workloads: [
            workload("web", account: "web", node: "a", address: 1),
            workload("curl", account: "client", node: "b", address: 2),
            workload("cron", account: "client", node: "b", address: 3),
        ])
        resources.nodes = [NodeResource(name: "a"), NodeResource(name: "b")]
        resources.services = [
            ServiceResource(
                name: serviceName, namespace: "shop", virtualAddresses: [address(9)],
                ports: [.init(80, targetPort: 8080)], selector: ["app": "web"])
        ]
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "t")
        return try builder.build(
            resources,
            instances: [
                LocalInstance(
                    resource: ResourceName(namespace: "shop", name: "web"), workload: WorkloadID(rawValue: 1),
                    networkNamespace: .node, cgroupID: 1)
            ])
    }

    static func inbound(_ id: UInt64 = 1) -> ProxyFlowOpened {
        var opened = ProxyFlowOpened(
            id: id, direction: .inbound, cookie: id, source: SocketAddress(address(3), 5),
            originalDestination: SocketAddress(address(1), 8080))
        opened.sourcePrincipal = "spiffe://t/ns/shop/sa/client"
        opened.destinationPrincipal = "spiffe://t/ns/shop/sa/web"
        opened.destinationWorkload = WorkloadID(rawValue: 1)
        opened.tunnel = 1
        return opened
    }

    @Test func peersWorkloadIsFoundByPrincipalAndAddress() throws {
        var table = FlowTable()
        table.names = FlowNames(try Self.snapshot())
        table.record(Self.inbound())
        let row = try #require(table.page(changedAfter: 0, limit: 9, now: 0).flows.first)
        #expect(row.node == "a" && row.sourceWorkload == "shop/cron" && row.destinationWorkload == "shop/web")
        #expect(row.service.isEmpty, "the tunnel does not say it")
    }

    @Test func seriesCarryIstiosLabelsAndTheServiceAtBothEnds() throws {
        var table = FlowTable()
        table.names = FlowNames(try Self.snapshot(), cluster: "east")
        table.record(Self.inbound())
        let text = String(decoding: MetricsPage.bytes(NodeMetrics(), table), as: UTF8.self)
        let line = try #require(
            text.split(separator: "\n").first { $0.hasPrefix("istio_tcp_connections_opened_total{") })
        for label in [
            "reporter=\"destination\"", "source_workload=\"cron\"", "source_workload_namespace=\"shop\"",
            "source_app=\"cron\"", "source_version=\"v2\"", "source_cluster=\"east\"",
            "source_canonical_service=\"cron\"", "source_canonical_revision=\"v2\"",
            "source_principal=\"spiffe://t/ns/shop/sa/client\"", "destination_workload=\"web\"",
            "destination_principal=\"spiffe://t/ns/shop/sa/web\"", "destination_service=\"web.shop\"",
            "destination_service_name=\"web\"", "destination_service_namespace=\"shop\"", "request_protocol=\"tcp\"",
            "response_flags=\"-\"", "connection_security_policy=\"mutual_tls\"",
        ] { #expect(line.contains(label), "\(label)") }
    }

    @Test func laterSnapshotDoesNotRenameWhatWas() throws {
        var table = FlowTable()
        table.names = FlowNames(try Self.snapshot())
        table.record(Self.inbound())
        table.names = FlowNames(try Self.snapshot(serviceName: "other"))
        table.record(Self.inbound(2))
        let text = String(decoding: MetricsPage.bytes(NodeMetrics(), table), as: UTF8.self)
        #expect(
            text.contains("destination_service_name=\"web\"") && text.contains("destination_service_name=\"other\""))
    }
}
