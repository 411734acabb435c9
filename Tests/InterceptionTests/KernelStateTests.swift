import CMeshABI
import Glibc
@testable import Interception
import LinuxIO
import MeshModel
import Testing

/// Node `a` (this one) with web on 10.0.0.1, node `b` with db on 10.0.0.2 and two that share 10.0.0.3, node `c`.
private enum World {
    static func resources() -> ResourceSet {
        ResourceSet(
            nodes: [node("a", "192.0.2.1"), node("b", "192.0.2.2"), node("c", "192.0.2.3")],
            workloads: [
                workload("web", .cgroup(pattern: "web"), addresses: ["10.0.0.1", "fd00::1"]),
                workload("db", .cgroup(pattern: "db"), node: "b", addresses: ["10.0.0.2"]),
                workload("left", .cgroup(pattern: "l"), node: "b", addresses: ["10.0.0.3"], ports: [80]),
                workload("right", .cgroup(pattern: "r"), node: "b", addresses: ["10.0.0.3"], ports: [81]),
                far,
            ],
            services: [
                service("db", "10.96.0.1", selector: "db"), service("none", "10.96.0.2", selector: "nobody"),
                service("both", "10.96.0.3", selector: "db", label: "tier"),
            ])
    }

    static var far: WorkloadResource {
        var far = workload("far", .cgroup(pattern: "f"), node: "c", addresses: ["10.0.0.4"])
        far.labels["tier"] = "db"
        return far
    }

    static func node(_ name: String, _ address: String) -> NodeResource {
        NodeResource(name: name, tunnelAddresses: [IPAddress(parsing: address)].compactMap { $0 })
    }

    static func service(
        _ name: String, _ address: String, selector: String, label: String = "app"
    ) -> ServiceResource {
        ServiceResource(
            name: name, namespace: "shop", virtualAddresses: [IPAddress(parsing: address)].compactMap { $0 },
            ports: [.init(80, targetPort: 8080)], selector: [label: selector])
    }

    static func snapshot(running: Bool = true, change: (inout ResourceSet) -> Void = { _ in }) throws -> Snapshot {
        var resources = resources()
        // `both` has db on b and far on c.
        if let index = resources.workloads.firstIndex(where: { $0.name == "db" }) {
            resources.workloads[index].labels["tier"] = "db"
        }
        change(&resources)
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "culvert.example")
        let instance = LocalInstance(
            resource: ResourceName(namespace: "shop", name: "web"), workload: WorkloadID(rawValue: 7),
            networkNamespace: NetworkNamespaceID(rawValue: 3), cgroupID: 99)
        return try builder.build(resources, instances: running ? [instance] : [])
    }
}

@Suite struct KernelStateTests {
    private func entry(
        _ plan: DestinationPlan, _ address: String, _ port: UInt16
    ) throws -> mesh_destination? {
        let address = try #require(IPAddress(parsing: address))
        return plan.content[
            Raw(mesh_destination_key(network: 0, port_be: port.bigEndian, pad: 0, address: address.meshAddress))
        ]?.value
    }

    private func nodeID(_ snapshot: Snapshot, _ name: String) throws -> NodeID {
        try #require(snapshot.allNodes.first { $0.name == name }?.id)
    }

    @Test func everyAddressOfTheMeshIsKnownAsTheSnapshotRoutesIt() throws {
        let snapshot = try World.snapshot()
        let plan = DestinationPlan(snapshot, unreachable: [:])
        let service = try #require(try entry(plan, "10.96.0.1", 80))
        #expect(service.kind == 2 && service.refuse_errno == 0)
        let local = try #require(try entry(plan, "10.0.0.1", 0))
        #expect(local.id == 7 && local.kind == 1 && local.local == 1 && local.netns == 3 && local.refuse_errno == 0)
        #expect(try entry(plan, "fd00::1", 0)?.id == 7)
        let remote = try #require(try entry(plan, "10.0.0.2", 0))
        #expect(remote.local == 0 && remote.kind == 1 && remote.refuse_errno == 0)
        // Shared addresses only by their declared ports.
        #expect(try entry(plan, "10.0.0.3", 80) != nil && entry(plan, "10.0.0.3", 81) != nil)
        #expect(try entry(plan, "10.0.0.3", 0) == nil)
        // Dial sockets of the workload's own namespace, and no others, may go there.
        for netns in [UInt32(3), 0, 4] {
            let key = mesh_destination_key(
                network: MESH_DIAL_SCOPE | netns, port_be: 0, pad: 0, address: IPAddress(ipv4: 0x0a00_0001).meshAddress)
            #expect(plan.content[Raw(key)]?.value.id == (netns == 3 ? 7 : nil))
        }
        for (key, value) in plan.content where key.value.network & MESH_DIAL_SCOPE == 0 {
            let address = SocketAddress(IPAddress(key.value.address), UInt16(bigEndian: key.value.port_be))
            switch snapshot.route(network: .default, destination: address) {
            case .service(let id, _): #expect(value.value.id == id.rawValue && value.value.kind == 2)
            case .workload(let id, _): #expect(value.value.id == id.rawValue && value.value.kind == 1)
            case nil: #expect(value.value.kind == 3)
            }
        }
    }

    @Test func whatPlainTCPWouldRefuseIsRefusedWithItsErrno() throws {
        let snapshot = try World.snapshot()
        let plan = DestinationPlan(snapshot, unreachable: [:])
        let otherPort = try #require(try entry(plan, "10.96.0.1", 0))
        #expect(otherPort.kind == 3 && otherPort.refuse_errno == UInt16(ECONNREFUSED))
        #expect(otherPort.refuse_reason == 18)
        let empty = try #require(try entry(plan, "10.96.0.2", 80))
        #expect(empty.refuse_errno == UInt16(ECONNREFUSED) && empty.refuse_reason == 10)
        let stopped = DestinationPlan(try World.snapshot(running: false), unreachable: [:])
        let web = try #require(try entry(stopped, "10.0.0.1", 0))
        #expect(web.refuse_errno == UInt16(ECONNREFUSED) && web.local == 0)
    }

    @Test func unreachableNodesAreRefusedAndServicesWithOtherEndpointsStay() throws {
        let snapshot = try World.snapshot()
        let b = try nodeID(snapshot, "b"), c = try nodeID(snapshot, "c")
        let one = DestinationPlan(snapshot, unreachable: [b: EHOSTUNREACH])
        #expect(try entry(one, "10.0.0.2", 0)?.refuse_errno == UInt16(EHOSTUNREACH))
        #expect(try entry(one, "10.0.0.2", 0)?.refuse_reason == 9)
        #expect(try entry(one, "10.96.0.1", 80)?.refuse_errno == UInt16(EHOSTUNREACH))
        #expect(try entry(one, "10.96.0.3", 80)?.refuse_errno == 0)
        let both = DestinationPlan(snapshot, unreachable: [b: EHOSTUNREACH, c: ETIMEDOUT])
        #expect(try entry(both, "10.96.0.3", 80)?.refuse_errno != 0)
        #expect(try entry(both, "10.0.0.1", 0)?.refuse_errno == 0)
    }

    @Test func aNodeWithoutTunnelAddressIsUnreachable() throws {
        let snapshot = try World.snapshot { resources in
            resources.nodes.removeAll { $0.name == "b" }
        }
        let plan = DestinationPlan(snapshot, unreachable: [:])
        #expect(try entry(plan, "10.0.0.2", 0)?.refuse_errno == UInt16(EHOSTUNREACH))
    }

    @Test func onlyDifferencesAreWrittenAndNewBeforeOld() throws {
        let kernel = FakeKernel()
        let state = KernelState(kernel.tables, failureOpen: false)
        let cgroup = KernelState.Cgroup(id: 99, workload: WorkloadID(rawValue: 7), isReady: true)
        let listeners = KernelState.Listeners(
            cookie: 5, addresses: MeshSockets.captureAddresses4.map { SocketAddress($0, 15001) })
        let snapshot = try World.snapshot()
        try state.apply(snapshot, cgroups: [cgroup], listeners: [listeners], unreachable: [:])
        #expect(kernel.cgroups[99]?.state == 2 && kernel.cgroups[99]?.workload == 7)
        #expect(kernel.workloads[7]?.principal != 0)
        #expect(kernel.nodes.content.count == 2)
        #expect(kernel.listeners[mesh_listeners_key(netns_cookie: 5, family: 2, pad: 0)]?.count == 4)
        let written = kernel.destinations.journal.count
        try state.apply(snapshot, cgroups: [cgroup], listeners: [listeners], unreachable: [:])
        #expect(kernel.destinations.journal.count == written && kernel.cgroups.journal == ["put"])

        // A moved service: the new address is there before the old one goes.
        let moved = try World.snapshot { $0.services[0].virtualAddresses = [IPAddress(ipv4: 0x0a60_0009)] }
        kernel.destinations.journal = []
        try state.apply(moved, cgroups: [cgroup], listeners: [listeners], unreachable: [:])
        #expect(kernel.destinations.journal == ["put", "put", "remove", "remove"])
        try state.apply(moved, cgroups: [], listeners: [], unreachable: [:])
        #expect(kernel.cgroups.content.isEmpty && kernel.listeners.content.isEmpty)
    }

    @Test func countersOfTheProgramsAreKept() throws {
        let kernel = FakeKernel()
        let state = KernelState(kernel.tables, failureOpen: false)
        try state.apply(try World.snapshot(), cgroups: [], listeners: [], unreachable: [:])
        var entry = try #require(kernel.workloads[7])
        entry.handovers = 12
        try kernel.tables.workloads.put(7, entry)
        let writes = kernel.workloads.journal.count
        // A new daemon on the same maps: nothing to write, and nothing lost by what it writes.
        let next = KernelState(kernel.tables, failureOpen: true)
        try next.apply(try World.snapshot(), cgroups: [], listeners: [], unreachable: [:])
        #expect(kernel.workloads.journal.count == writes + 1)
        #expect(kernel.workloads[7]?.handovers == 12 && kernel.workloads[7]?.failure_open == 1)
    }

    @Test func marksOfNewCgroupsAreNotRemovedByChance() throws {
        let kernel = FakeKernel()
        let state = KernelState(kernel.tables, failureOpen: false)
        // classify_cgroup marks 5 after the scan, an earlier meshd left 6.
        try kernel.tables.cgroups.put(5, mesh_cgroup(workload: 0, state: 1, pad: (0, 0, 0)))
        try kernel.tables.cgroups.put(6, mesh_cgroup(workload: 3, state: 2, pad: (0, 0, 0)))
        try state.apply(try World.snapshot(), cgroups: [], listeners: [], unreachable: [:])
        #expect(kernel.cgroups[5]?.state == 1 && kernel.cgroups[6] == nil)
        #expect(try state.markedCgroups() == [5])
        try state.unmark([5])
        #expect(kernel.cgroups.content.isEmpty)
    }

    @Test func patternsAreWrittenAsTheKernelSideReadsThem() throws {
        let kernel = FakeKernel()
        let state = KernelState(kernel.tables, failureOpen: false)
        try state.setPatterns(["/lab/a/w*", "/x"])
        #expect(kernel.patterns.content.count == Int(MESH_PATTERNS_MAX))
        let first = try #require(kernel.patterns[0])
        let text = withUnsafeBytes(of: first.text) { String(decoding: $0.prefix(Int(first.length)), as: UTF8.self) }
        #expect(text == "/lab/a/w*" && kernel.patterns[2]?.length == 0)
        kernel.patterns.journal = []
        try state.setPatterns(["/lab/a/w*"])
        #expect(kernel.patterns.journal == ["put"] && kernel.patterns[1]?.length == 0)
    }

    private func verdict(_ sources: PlaintextPlan.Sources, _ block: String, _ port: UInt16) throws -> UInt32? {
        let block = try #require(AddressBlock(parsing: block))
        let key = mesh_source_key(
            prefix_length: UInt32(MESH_SOURCE_FIXED_BITS) + UInt32(block.prefixBits), workload: 7,
            port_be: port.bigEndian, version: block.address.isIPv4 ? 4 : 6, address: block.address.meshAddress)
        return sources[Raw(key)]?.value
    }

    @Test func plainTextIsWrittenDownAsPoliciesJudgeNobody() throws {
        let probes = try #require(AddressBlock(parsing: "192.0.2.0/24"))
        let denied = try #require(AddressBlock(parsing: "192.0.2.128/25"))
        let strict = PlaintextPlan(try World.snapshot())
        #expect(strict.datagramSources.isEmpty && strict.exemptions.isEmpty)
        let snapshot = try World.snapshot {
            $0.peerAuthentications = [
                PeerAuthenticationResource(
                    name: "web", namespace: "shop", portModes: [53: .permissive],
                    exemptions: [.init(source: probes, port: 9000)])
            ]
            var source = AuthorizationPolicyResource.Source()
            source.addresses = PolicyMatch([denied])
            $0.authorizationPolicies = [
                AuthorizationPolicyResource(
                    name: "not-these", namespace: "shop", action: .deny, rules: [.init(from: [source])])
            ]
        }
        let plan = PlaintextPlan(snapshot)
        let (passes, refused, isDenied) = (
            mesh_source_verdict.MESH_SOURCE_PASSES.rawValue, mesh_source_verdict.MESH_SOURCE_STRICT.rawValue,
            mesh_source_verdict.MESH_SOURCE_DENIED.rawValue
        )
        #expect(try verdict(plan.datagramSources, "0.0.0.0/0", 53) == passes)
        #expect(try verdict(plan.datagramSources, "::/0", 53) == passes)
        #expect(try verdict(plan.datagramSources, "192.0.2.128/25", 53) == isDenied)
        #expect(try verdict(plan.datagramSources, "0.0.0.0/0", 0) == refused)
        #expect(try verdict(plan.exemptions, "192.0.2.0/24", 9000) == passes)
        #expect(try verdict(plan.exemptions, "192.0.2.128/25", 9000) == isDenied)
        #expect(plan.exemptions.count == 2)
    }

    @Test func policiesThatTellTooManySourcesApartLetNobodyInAndAreNamed() throws {
        let blocks = (0..<2_000).map { AddressBlock(IPAddress(ipv4: 0x0b00_0000 + $0 * 2)) }
        let snapshot = try World.snapshot {
            $0.peerAuthentications = [
                PeerAuthenticationResource(
                    name: "web", namespace: "shop", portModes: [53: .permissive, 54: .permissive])
            ]
            var source = AuthorizationPolicyResource.Source()
            source.addresses = PolicyMatch(blocks)
            $0.authorizationPolicies = [
                AuthorizationPolicyResource(name: "these", namespace: "shop", rules: [.init(from: [source])])
            ]
        }
        let plan = PlaintextPlan(snapshot)
        #expect(plan.leftOut == [WorkloadID(rawValue: 7)] && plan.datagramSources.isEmpty)
    }
}
