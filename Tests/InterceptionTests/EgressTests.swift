import CMeshABI
@testable import Interception
import MeshModel
import ProxyControl
import Testing

/// What the kernel side is told of egress policies.
@Suite struct EgressTests {
    private func snapshot(
        _ mode: EgressPolicyResource.Mode?, _ allowed: [EgressPolicyResource.Entry] = [], raw: Bool = false
    ) throws -> Snapshot {
        var resources = ResourceSet(workloads: [workload("web", .cgroup(pattern: "web"), addresses: ["10.0.0.1"])])
        if let mode {
            resources.egressPolicies = [
                EgressPolicyResource(
                    name: "x", namespace: "shop", mode: mode, allowed: allowed, allowsRawSockets: raw)
            ]
        }
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "culvert.example")
        let instance = LocalInstance(
            resource: ResourceName(namespace: "shop", name: "web"), workload: WorkloadID(rawValue: 7),
            networkNamespace: .node, cgroupID: 99)
        return try builder.build(resources, instances: [instance])
    }

    private func block(_ text: String) throws -> AddressBlock { try #require(AddressBlock(parsing: text)) }

    /// A kernel to which the snapshot was applied with the workload's cgroup ready.
    private func kernel(_ snapshot: Snapshot, fencesAll: Bool = false, into kernel: FakeKernel = FakeKernel()) throws
        -> FakeKernel
    {
        try KernelState(kernel.tables, failureOpen: false, fencesAll: fencesAll).apply(
            snapshot,
            cgroups: [.init(id: 99, workload: WorkloadID(rawValue: 7), isReady: true, directory: "/x/web")],
            listeners: [], unreachable: [:])
        return kernel
    }

    @Test func withoutPolicyNothingIsRestrictedNorFenced() throws {
        let kernel = try kernel(snapshot(nil))
        #expect(kernel.workloads[7]?.egress_mode == 0 && kernel.workloads[7]?.fence == 0)
        #expect(kernel.fenced.isEmpty && kernel.egress.content.isEmpty)
    }

    @Test func listedEgressHasAnEntryForEachBlockAndPort() throws {
        let kernel = try kernel(
            snapshot(
                .listed,
                [
                    .init(.addresses(try block("192.0.2.0/24")), ports: [443, 80]),
                    .init(.addresses(try block("::/0"))),
                    .init(.name("example.org"), ports: [443]),
                ]))
        let keys = kernel.egress.content.keys.map(\.value).sorted {
            UInt16(bigEndian: $0.port_be) < UInt16(bigEndian: $1.port_be)
        }
        let ports = keys.map { UInt16(bigEndian: $0.port_be) }
        #expect(ports == [0, 80, 443])
        #expect(keys.map(\.prefix_length) == [64, 184, 184] as [UInt32])
        #expect(keys.map(\.version) == [6, 4, 4] as [UInt16])
        #expect(keys.allSatisfy { $0.workload == 7 })
        #expect(kernel.workloads[7]?.egress_mode == 2 && kernel.workloads[7]?.fence == UInt8(MESH_FENCE_STRICT))
        #expect(kernel.fenced == [99: "/x/web"])
    }

    @Test func deniedEgressListsNothingAndMayLeaveRawSocketsAlone() throws {
        let kernel = try kernel(snapshot(.deny, raw: true))
        #expect(kernel.egress.content.isEmpty && kernel.workloads[7]?.egress_mode == 1)
        #expect(kernel.workloads[7]?.fence == UInt8(MESH_FENCE_STRICT | MESH_FENCE_RAW_ALLOWED))
    }

    @Test func fenceOfAllTakesWorkloadsWhoseEgressIsAllowedToo() throws {
        let kernel = try kernel(snapshot(.allow), fencesAll: true)
        #expect(kernel.workloads[7]?.egress_mode == 0 && kernel.workloads[7]?.fence == UInt8(MESH_FENCE_STRICT))
        #expect(kernel.fenced == [99: "/x/web"])
    }

    @Test func withdrawnPolicyTakesItsEntriesItsFenceAndWhatWasLearnedAlong() throws {
        let kernel = try kernel(snapshot(.listed, [.init(.addresses(try block("192.0.2.0/24")))]))
        var learned = mesh_egress()
        learned.origin = UInt8(mesh_egress_origin.MESH_EGRESS_RESOLVED.rawValue)
        let key = mesh_egress_key(prefix_length: 192, workload: 7, port_be: 0, version: 4, address: mesh_address())
        kernel.egress.content[Raw(key)] = Raw(learned)
        _ = try self.kernel(snapshot(nil), into: kernel)
        #expect(kernel.egress.content.isEmpty)
        #expect(kernel.fenced.isEmpty && kernel.workloads[7]?.fence == 0)
    }

    // MARK: names

    private static let second: UInt64 = 1_000_000_000

    private func resolution(
        _ name: String, _ addresses: [String], timeToLive: UInt32 = 60, workload: UInt32 = 7
    ) -> NameResolution {
        NameResolution(
            token: 1, workload: WorkloadID(rawValue: workload), name: name,
            addresses: addresses.compactMap { IPAddress(parsing: $0) }, timeToLiveSeconds: timeToLive)
    }

    private func addresses(_ kernel: FakeKernel, port: UInt16 = 443) -> Set<String> {
        Set(
            kernel.egress.content.filter { $0.value.value.origin == 2 && $0.key.value.port_be == port.bigEndian }
                .map { "\(IPAddress($0.key.value.address))" })
    }

    @Test func whatAListedNameStandsForIsAllowedForAsLongAsItWasAnsweredLately() throws {
        let snapshot = try snapshot(
            .listed, [.init(.name("api.example.org"), ports: [443, 80]), .init(.name("*.cdn.example"))])
        let kernel = FakeKernel()
        let state = KernelState(kernel.tables, failureOpen: false)
        func learn(_ resolution: NameResolution, at seconds: UInt64) throws -> Bool {
            try state.learn(resolution, snapshot, now: seconds * Self.second)
        }
        #expect(try learn(resolution("api.example.org", ["192.0.2.1", "2001:db8::1"]), at: 0))
        #expect(try learn(resolution("a.b.cdn.example", ["192.0.2.2"], timeToLive: 7_200), at: 0))
        #expect(addresses(kernel) == ["192.0.2.1", "2001:db8::1"])
        #expect(
            addresses(kernel, port: 80) == ["192.0.2.1", "2001:db8::1"] && addresses(kernel, port: 0) == ["192.0.2.2"])
        for name in ["cdn.example", "xapi.example.org", "org", "api.example.org.evil.example"] {
            #expect(try !learn(resolution(name, ["192.0.2.9"]), at: 0), "\(name)")
        }
        #expect(try !learn(resolution("api.example.org", ["192.0.2.9"], workload: 8), at: 0), "nobody's")
        #expect(state.learnedAddresses.count == 5)
        // Asked again before its end, it stays.
        #expect(try learn(resolution("api.example.org", ["192.0.2.1"]), at: 500))
        try state.expireLearned(now: 700 * Self.second)
        #expect(addresses(kernel) == ["192.0.2.1"])
        try state.expireLearned(now: 1_100 * Self.second)
        #expect(addresses(kernel).isEmpty && addresses(kernel, port: 0) == ["192.0.2.2"], "as its record says")
        try state.expireLearned(now: 7_200 * Self.second)
        #expect(kernel.egress.content.isEmpty)
    }

    @Test func whatWasLearnedOutlivesTheDaemonAndEndsWithItsNameInThePolicy() throws {
        let both = try snapshot(
            .listed, [.init(.name("a.example"), ports: [443]), .init(.name("b.example"), ports: [443])])
        let kernel = try kernel(both)
        try KernelState(kernel.tables, failureOpen: false).learn(resolution("a.example", ["192.0.2.1"]), both, now: 0)
        try KernelState(kernel.tables, failureOpen: false).learn(resolution("b.example", ["192.0.2.2"]), both, now: 0)
        _ = try self.kernel(both, into: kernel)
        #expect(addresses(kernel) == ["192.0.2.1", "192.0.2.2"], "the next meshd takes them over")
        _ = try self.kernel(snapshot(.listed, [.init(.name("b.example"), ports: [443])]), into: kernel)
        #expect(addresses(kernel) == ["192.0.2.2"])
        _ = try self.kernel(snapshot(.listed, [.init(.name("b.example"), ports: [80])]), into: kernel)
        #expect(addresses(kernel).isEmpty)
    }

    // MARK: connections that are there

    private func goesOn(
        _ state: KernelState, _ destination: String, name: String? = nil, at seconds: UInt64 = 0, workload: UInt32 = 7
    ) throws -> Bool {
        state.allowsEgress(
            WorkloadID(rawValue: workload), try #require(SocketAddress(parsing: destination)),
            byName: name.map { EgressPlan.number(ofName: $0) } ?? 0, now: seconds * Self.second)
    }

    private func state(_ snapshot: Snapshot, _ kernel: FakeKernel = FakeKernel()) throws -> KernelState {
        let state = KernelState(kernel.tables, failureOpen: false)
        try state.apply(snapshot, cgroups: [], listeners: [], unreachable: [:])
        return state
    }

    @Test func aConnectionGoesOnWhileItsPolicyWouldLetItOut() throws {
        let blocks: [EgressPolicyResource.Entry] = [
            .init(.addresses(try block("192.0.2.0/24")), ports: [443]), .init(.addresses(try block("2001:db8::/32"))),
        ]
        let listed = try state(snapshot(.listed, blocks))
        #expect(try goesOn(listed, "192.0.2.1:443") && goesOn(listed, "[2001:db8::1]:9"))
        #expect(try !goesOn(listed, "192.0.2.1:80") && !goesOn(listed, "[2001:db9::1]:9"))
        #expect(try goesOn(listed, "198.51.100.1:80", workload: 8), "another's policy is not its own")
        #expect(listed.egressDenial(of: WorkloadID(rawValue: 7)) == RuleName(policy: "shop/x", rule: "no-match"))
        let denied = try state(snapshot(.deny))
        #expect(try !goesOn(denied, "192.0.2.1:443") && !goesOn(denied, "192.0.2.1:443", name: "a.example"))
        #expect(denied.egressDenial(of: WorkloadID(rawValue: 7)) == RuleName(policy: "shop/x", rule: "mode-deny"))
        for open in [try state(snapshot(.allow)), try state(snapshot(nil))] {
            #expect(try goesOn(open, "192.0.2.1:80"))
            #expect(open.egressDenial(of: WorkloadID(rawValue: 7)) == nil)
        }
    }

    @Test func aConnectionThatANameLetOutEndsWithTheNameAndNotWithTheLease() throws {
        let named = try snapshot(.listed, [.init(.name("a.example"), ports: [443])])
        let kernel = FakeKernel()
        let state = try state(named, kernel)
        try state.learn(resolution("a.example", ["192.0.2.1"]), named, now: 0)
        #expect(try goesOn(state, "192.0.2.1:443"), "it could be made now, whatever let it out")
        try state.expireLearned(now: 601 * Self.second)
        #expect(try !goesOn(state, "192.0.2.1:443", at: 601))
        #expect(try goesOn(state, "192.0.2.1:443", name: "a.example", at: 601), "the lease is no policy")
        #expect(try !goesOn(state, "192.0.2.1:80", name: "a.example", at: 601))
        let (seven, address) = (WorkloadID(rawValue: 7), try #require(SocketAddress(parsing: "192.0.2.1:443")))
        #expect(
            state.allowsEgress(seven, address, byName: nil, now: 601 * Self.second), "an earlier version let it out")
        let elsewhere = try #require(SocketAddress(parsing: "192.0.2.1:80"))
        #expect(!state.allowsEgress(seven, elsewhere, byName: nil, now: 601 * Self.second))
        for entries: [EgressPolicyResource.Entry] in [
            [.init(.name("b.example"), ports: [443])], [.init(.name("a.example"), ports: [80])],
        ] {
            let changed = try self.state(snapshot(.listed, entries), kernel)
            #expect(try !goesOn(changed, "192.0.2.1:443", name: "a.example", at: 601))
        }
        let anyPort = try self.state(snapshot(.listed, [.init(.name("a.example"))]), kernel)
        #expect(try goesOn(anyPort, "192.0.2.1:443", name: "a.example", at: 601))
    }

    @Test func anAddressOfTwoListedNamesStaysUntilBothHaveLeft() throws {
        let (exact, below) = (
            EgressPolicyResource.Entry(.name("api.example"), ports: [443]),
            EgressPolicyResource.Entry(.name("*.example"), ports: [443])
        )
        let kernel = FakeKernel()
        let state = try state(snapshot(.listed, [exact, below]), kernel)
        try state.learn(resolution("api.example", ["192.0.2.1"]), snapshot(.listed, [exact, below]), now: 0)
        func apply(_ entries: [EgressPolicyResource.Entry]) throws {
            try state.apply(snapshot(.listed, entries), cgroups: [], listeners: [], unreachable: [:])
        }
        try apply([below])
        #expect(
            addresses(kernel) == ["192.0.2.1"]
                && kernel.egress.content.values.map(\.value.name) == [
                    EgressPlan.number(ofName: "*.example")
                ])
        #expect(try goesOn(state, "192.0.2.1:443", name: "api.example"), "it could be made now")
        try apply([.init(.name("other.example"), ports: [443])])
        #expect(addresses(kernel).isEmpty)
    }

    /// A longer prefix that ends would take away what a shorter one gives.
    @Test func whatABlockListsIsNotLearned() throws {
        let named = try snapshot(.listed, [.init(.name("a.example"), ports: [443])])
        let kernel = try kernel(named)
        try KernelState(kernel.tables, failureOpen: false).learn(resolution("a.example", ["192.0.2.1"]), named, now: 0)
        #expect(addresses(kernel) == ["192.0.2.1"])
        let entries: [EgressPolicyResource.Entry] = [
            .init(.name("a.example"), ports: [443]), .init(.addresses(try block("192.0.2.0/24"))),
        ]
        let blocked = try snapshot(.listed, entries)
        _ = try self.kernel(blocked, into: kernel)
        #expect(addresses(kernel).isEmpty)
        try KernelState(kernel.tables, failureOpen: false).learn(
            resolution("a.example", ["192.0.2.1", "198.51.100.1"]), blocked, now: 0)
        #expect(addresses(kernel) == ["198.51.100.1"])
    }

    @Test func aNameWithEverNewAddressesDisplacesItsOwnOldest() throws {
        let snapshot = try snapshot(.listed, [.init(.name("a.example"), ports: [443])])
        let kernel = try kernel(snapshot)
        let state = KernelState(kernel.tables, failureOpen: false)
        for number in 0..<(LearnedEgress.perWorkloadMax + 3) {
            let address = "10.9.\(number >> 8).\(number & 255)"
            try state.learn(resolution("a.example", [address]), snapshot, now: UInt64(number) * Self.second)
        }
        #expect(state.learnedAddresses.count == LearnedEgress.perWorkloadMax)
        #expect(state.learnedAddresses.displaced == 3)
        #expect(!addresses(kernel).contains("10.9.0.2") && addresses(kernel).contains("10.9.0.3"))
    }
}
