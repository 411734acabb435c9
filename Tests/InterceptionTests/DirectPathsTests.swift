import CMeshABI
import Glibc
import LinuxIO
import MeshModel
import Testing

@testable import Interception

/// What meshd makes of connections within the node, with maps in memory and the probes' outcome in the test's hands.
@Suite struct DirectPathsTests {
    /// Client 1 at 127.0.0.1; servers 2 and 3, of one service account, at 127.0.0.2 and .3, behind service `near`.
    private final class World {
        let kernel = FakeKernel()
        var resources: ResourceSet
        var instances: [LocalInstance]
        var snapshot: Snapshot?
        var waiting: [() -> Void] = []
        var now: UInt64 = 1
        private var builder = SnapshotBuilder(localNode: "a", trustDomain: "culvert.example")
        private(set) lazy var paths = DirectPaths(
            kernel.tables.direct, tunnelPort: 15_008,
            surroundings: .init(
                inside: { _, body throws(KernelTableError) in try body() }, cookie: { _ in 77 },
                after: { [unowned self] _, body in waiting.append(body) }, now: { [unowned self] in now }),
            pathsMax: pathsMax)
        private let pathsMax: Int

        static let near = SocketAddress(IPAddress(ipv4: 0x0a60_0001), 80)

        init(pathsMax: Int = 3) throws {
            self.pathsMax = pathsMax
            resources = ResourceSet(
                nodes: [NodeResource(name: "a", tunnelAddresses: []), NodeResource(name: "b", tunnelAddresses: [])],
                workloads: [
                    workload("client", .cgroup(pattern: "c"), addresses: ["127.0.0.1", "fd00::1"]),
                    workload("two", .cgroup(pattern: "t"), addresses: ["127.0.0.2"]),
                    workload("three", .cgroup(pattern: "h"), addresses: ["127.0.0.3"]),
                    workload("far", .cgroup(pattern: "f"), node: "b", addresses: ["127.0.0.4"]),
                ],
                services: [
                    ServiceResource(
                        name: "near", namespace: "shop", virtualAddresses: [Self.near.address],
                        ports: [.init(80, targetPort: 7_000)], selector: ["place": "near"])
                ])
            instances = [("client", 1), ("two", 2), ("three", 3)].map { name, id in
                LocalInstance(
                    resource: ResourceName(namespace: "shop", name: name), workload: WorkloadID(rawValue: id),
                    networkNamespace: .node, cgroupID: UInt64(id))
            }
            for name in ["two", "three"] { edit(name) { $0.labels["place"] = "near" } }
            edit("three") { $0.serviceAccount = "two" }
            try apply()
        }

        func edit(_ name: String, _ body: (inout WorkloadResource) -> Void) {
            for index in resources.workloads.indices where resources.workloads[index].name == name {
                body(&resources.workloads[index])
            }
        }

        func apply() throws {
            let next = try builder.build(resources, instances: instances)
            snapshot = next
            try paths.apply(next)
        }

        func deny(_ name: String, app: String, from block: String? = nil) throws {
            var source = AuthorizationPolicyResource.Source()
            if let block { source.addresses = PolicyMatch([try #require(AddressBlock(parsing: block))]) }
            resources.authorizationPolicies.append(
                AuthorizationPolicyResource(
                    name: name, namespace: "shop", selector: ["app": app], action: .deny,
                    rules: [.init(from: block == nil ? [] : [source])]))
        }

        /// One connection that took the proxy's way; its probes arrive, unless their targets are listed.
        func call(_ destination: SocketAddress, from client: UInt32 = 1, lost: Set<UInt32> = []) throws {
            let path = DirectPlan.Path(
                workload: WorkloadID(rawValue: client), namespaceCookie: 5, destination: destination)
            try paths.learn(path)
            for key in kernel.vouches.content.keys {
                guard var vouch = kernel.vouches[key.value], !lost.contains(vouch.workload) else { continue }
                vouch.has_arrived = 1
                kernel.vouches.content[key] = Raw(vouch)
            }
            while !waiting.isEmpty {
                let due = waiting
                waiting = []
                for body in due { body() }
            }
        }

        func fail(_ destination: SocketAddress) throws {
            try paths.fail(.init(workload: WorkloadID(rawValue: 1), namespaceCookie: 5, destination: destination))
        }

        /// The targets of the verdict in force.
        func verdict(_ destination: SocketAddress, from client: UInt32 = 1) -> Set<UInt32> {
            let key = mesh_verdict_key(
                netns_cookie: 5, address: destination.address.meshAddress, workload: client,
                policy_generation: snapshot?.policyGeneration ?? 0, port_be: destination.port.bigEndian, pad: (0, 0, 0))
            guard let verdict = kernel.verdicts[key] else { return [] }
            let targets = [verdict.target.0, verdict.target.1, verdict.target.2].prefix(Int(verdict.count))
            return Set(targets.map(\.workload))
        }

        static func server(_ last: UInt8, port: UInt16 = 7_000) -> SocketAddress {
            SocketAddress(IPAddress(ipv4: 0x7f00_0000 | UInt32(last)), port)
        }
    }

    @Test func aConnectionThatIsJudgedAndArrivesGivesAVerdictAndLeavesNoProbe() throws {
        let world = try World()
        try world.call(World.near)
        try world.call(World.server(2))
        #expect(world.verdict(World.near) == [2, 3])
        #expect(world.verdict(World.server(2)) == [2])
        #expect(world.kernel.vouches.content.isEmpty)
        #expect(world.paths.written == 2 && world.paths.missed == 2)
    }

    @Test func withoutArrivalThereIsNoneUntilItIsTriedAgain() throws {
        let world = try World()
        try world.call(World.near, lost: [3])
        #expect(world.verdict(World.near).isEmpty)
        try world.call(World.near)
        #expect(world.verdict(World.near).isEmpty, "it was tried again at once")
        world.now += DirectPaths.closedNanoseconds + 1
        try world.call(World.near)
        #expect(world.verdict(World.near) == [2, 3])
        try world.fail(World.near)
        #expect(world.verdict(World.near).isEmpty)
        #expect(world.kernel.vouches.content.isEmpty)
    }

    @Test func whatIsElsewhereOrUnknownOrOfAnotherFamilyHasNone() throws {
        let world = try World()
        let own = SocketAddress(IPAddress(high: 0xfd00 << 48, low: 2), 7_000)
        for destination in [World.server(4), World.server(9), World.server(1), own, World.server(2, port: 15_008)] {
            try world.call(destination)
        }
        world.edit("far") { $0.labels["place"] = "near" }
        try world.apply()
        try world.call(World.near)
        #expect(world.kernel.verdicts.content.isEmpty && world.kernel.vouches.content.isEmpty)
        // The one elsewhere goes away, and what is left is here.
        world.edit("far") { $0.labels["place"] = "far" }
        try world.apply()
        try world.call(World.near)
        #expect(world.verdict(World.near) == [2, 3])
    }

    /// Two servers of one account, one denied by its label; two clients, one denied by its address.
    @Test(arguments: [[2, 3], [3, 2]] as [[UInt8]])
    func instancesOfOneAccountAreJudgedEachForItself(_ order: [UInt8]) throws {
        let world = try World()
        try world.deny("by-label", app: "three")
        try world.deny("by-address", app: "client", from: "127.0.0.3")
        try world.apply()
        for last in order {
            try world.call(World.server(last))
            try world.call(World.server(1), from: UInt32(last))
        }
        #expect(world.verdict(World.server(2)) == [2] && world.verdict(World.server(3)).isEmpty)
        #expect(world.verdict(World.server(1), from: 2) == [1] && world.verdict(World.server(1), from: 3).isEmpty)
        // And a service with one that is denied is the proxy's to refuse.
        try world.call(World.near)
        #expect(world.verdict(World.near).isEmpty)
    }

    @Test func policiesThatChangeMakeEveryVerdictAnew() throws {
        let world = try World()
        try world.call(World.server(2))
        try world.call(World.server(3))
        let before = world.snapshot?.policyGeneration
        try world.deny("by-label", app: "three")
        try world.apply()
        #expect(world.snapshot?.policyGeneration != before)
        #expect(world.verdict(World.server(2)) == [2] && world.verdict(World.server(3)).isEmpty)
        #expect(world.kernel.verdicts.content.count == 1, "verdicts of former policies remain")
        world.resources.authorizationPolicies = []
        try world.apply()
        try world.call(World.server(3))
        #expect(world.verdict(World.server(3)) == [3])
    }

    @Test func workloadsThatEndTakeTheirVerdictsAlong() throws {
        let world = try World()
        try world.call(World.near)
        try world.call(World.server(2))
        world.instances[1].workload = WorkloadID(rawValue: 22)
        try world.apply()
        #expect(world.verdict(World.near).isEmpty && world.verdict(World.server(2)).isEmpty)
        world.instances.removeAll { $0.workload == WorkloadID(rawValue: 1) }
        try world.apply()
        #expect(world.kernel.verdicts.content.isEmpty && world.paths.written == 0)
    }

    @Test func whatAnEarlierMeshdLeftIsForgotten() throws {
        let world = try World()
        try world.call(World.server(2))
        let next = try World()
        next.kernel.verdicts.content = world.kernel.verdicts.content
        var probe = mesh_vouch()
        probe.kind = UInt8(mesh_vouch_kind.MESH_VOUCH_PROBE.rawValue)
        next.kernel.vouches.content[Raw(mesh_tuple())] = Raw(probe)
        let paths = DirectPaths(
            next.kernel.tables.direct, tunnelPort: 15_008,
            surroundings: .init(
                inside: { _, body throws(KernelTableError) in try body() }, cookie: { _ in nil }, after: { _, _ in },
                now: { 0 }))
        try paths.apply(try #require(next.snapshot))
        #expect(next.kernel.verdicts.content.isEmpty && next.kernel.vouches.content.isEmpty)
    }

    @Test func probesBeyondTheBoundAreMadeLater() throws {
        let world = try World(pathsMax: 1_000)
        let ports = UInt16(7_001)...UInt16(7_000 + DirectPaths.probesMax + 9)
        func learnAll() throws {
            for port in ports {
                try world.paths.learn(
                    .init(
                        workload: WorkloadID(rawValue: 1), namespaceCookie: 5, destination: World.server(2, port: port))
                )
            }
        }
        try learnAll()
        #expect(world.kernel.vouches.content.count == DirectPaths.probesMax)
        try world.call(World.server(3))
        world.now += DirectPaths.closedNanoseconds + 1
        try learnAll()
        try world.call(World.server(3))
        #expect(world.paths.written == ports.count + 1 && world.kernel.vouches.content.isEmpty)
    }

    @Test func whatIsTooManyMakesRoomAndIsCounted() throws {
        let world = try World()
        for port in UInt16(7_001)...7_005 { try world.call(World.server(2, port: port)) }
        #expect(world.kernel.verdicts.content.count == 3 && world.paths.written == 3)
        #expect(world.paths.evicted == 2)
    }
}
