@testable import MeshModel
import Testing

@Suite struct SnapshotBytesTests {
    private static func sample() throws -> [UInt8] {
        var random = SplitMix(seed: 3)
        var world = RandomResources(using: &random)
        while world.resources.workloads.count < 10 || world.resources.services.isEmpty {
            world = RandomResources(using: &random)
        }
        SamplePolicies.add(to: &world.resources)
        var builder = SnapshotBuilder(localNode: "n0", trustDomain: "mesh.test")
        return try builder.build(world.resources, instances: world.instances).withBytes { Array($0) }
    }

    /// Calls everything that reads the bytes; must not trap, whatever they say.
    private static func exercise(_ snapshot: Snapshot) {
        for view in snapshot.allWorkloads.prefix(50) {
            _ = (view.key, view.labels, view.ports, view.serviceAccount, snapshot.workload(view.id)?.key)
            _ = (snapshot.principal(view.principal), snapshot.isPlaced(view.principal, on: view.node))
            for isIPv6 in [false, true] {
                guard let address = view.address(isIPv6: isIPv6) else { continue }
                exercisePolicies(snapshot, view, SocketAddress(address, 80))
                let destination = SocketAddress(address, 80)
                _ = snapshot.route(network: view.network, destination: destination)
                _ = snapshot.localEndpoint(principal: view.principal, destination: destination)
                _ = snapshot.isDestinationKnownLocally(destination)
                _ = snapshot.owns(view.principal, address: address, on: view.node)
            }
        }
        for view in snapshot.allServices.prefix(50) {
            _ = (view.key, view.virtualAddresses)
            for port in view.ports.prefix(50) {
                for endpoint in view.endpoints(port: port.port).prefix(50) { _ = snapshot.workload(endpoint.workload) }
            }
        }
        for view in snapshot.allNodes.prefix(50) {
            for address in view.tunnelAddresses.prefix(50) { _ = snapshot.node(withTunnelAddress: address) }
        }
        _ = (snapshot.allPrincipals.count, snapshot.allNetworks.count, snapshot.trustDomain, snapshot.localNode)
        _ = snapshot.principalID(of: "spiffe://mesh.test/ns/shop/sa/sa1")
        var builder = SnapshotBuilder(
            localNode: "n0", trustDomain: "mesh.test", ids: SnapshotIDs(continuing: snapshot))
        _ = try? builder.build(ResourceSet(of: snapshot))
    }

    private static func exercisePolicies(_ snapshot: Snapshot, _ view: WorkloadView, _ destination: SocketAddress) {
        let subject = snapshot.resolve(
            PolicySubject(principal: view.principal, source: destination.address, destination: destination))
        for policy in (snapshot.policies(of: view.id) ?? PolicySelection(snapshot: snapshot, range: RecordRange()))
            .prefix(50) where snapshot.hasPolicy(policy)
        {
            _ = (snapshot.name(of: policy), snapshot.action(of: policy), snapshot.isDryRun(policy))
            _ = subject.matchingRule(of: policy)
        }
        _ = snapshot.inboundMode(of: view.id, port: 80)
        _ = (snapshot.inboundExemptions(of: view.id), snapshot.egress(of: view.id), snapshot.inboundModes(of: view.id))
    }

    @Test func recordsHaveTheSizesThatTheBytesHave() {
        #expect(MemoryLayout<SnapshotHeader>.size == 96 && MemoryLayout<SnapshotHeader>.stride == 96)
        #expect(MemoryLayout<SnapshotSectionEntry>.stride == 16)
        #expect(MemoryLayout<WorkloadRecord>.size == 120 && MemoryLayout<WorkloadRecord>.stride == 120)
        #expect(MemoryLayout<NodeRecord>.stride == 56 && MemoryLayout<ServiceRecord>.stride == 48)
        #expect(MemoryLayout<RouteRecord>.size == 32 && MemoryLayout<LocalEndpointRecord>.size == 32)
        #expect(MemoryLayout<PolicyTestRecord>.stride == 16 && MemoryLayout<PolicyTextRecord>.stride == 24)
        #expect(MemoryLayout<WorkloadPolicyRecord>.size == 32 && MemoryLayout<AddressBlockRecord>.size == 24)
        #expect(MemoryLayout<OwnerRecord>.size == 24 && MemoryLayout<ServicePortRecord>.size == 16)
    }

    @Test func everyTruncationIsRefused() throws {
        let bytes = try Self.sample()
        for length in 0..<bytes.count {
            #expect(throws: SnapshotError.self) { try Snapshot(bytes: Array(bytes[..<length])) }
        }
    }

    @Test func everyFlippedBitIsNoticed() throws {
        let bytes = try Self.sample()
        var random = SplitMix(seed: 5)
        for _ in 0..<2_000 {
            var copy = bytes
            copy[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0...7, using: &random)
            #expect(throws: SnapshotError.self) { try Snapshot(bytes: copy) }
        }
    }

    @Test func hostileBytesWithARightChecksumNeverTrap() throws {
        let bytes = try Self.sample()
        var random = SplitMix(seed: 7)
        var accepted = 0
        for _ in 0..<2_000 {
            var copy = bytes
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                // Half of the mutations go to the header and the section table, where they hurt most.
                let bound = Bool.random(using: &random) ? 512 : copy.count
                let index = Int.random(in: 0..<min(bound, copy.count), using: &random)
                switch Int.random(in: 0...3, using: &random) {
                case 0: copy[index] = UInt8.random(in: 0...255, using: &random)
                case 1: copy[index] = 0xff
                case 2: for offset in index..<min(index + 8, copy.count) { copy[offset] = 0xff }
                default: copy = Array(copy[..<(copy.count - copy.count / 8 % 4 * 8)])
                }
            }
            Snapshot.reseal(&copy)
            do throws(SnapshotError) {
                Self.exercise(try Snapshot(bytes: copy))
                accepted += 1
            } catch {}
        }
        #expect(accepted > 0)
    }

    @Test func releasesAMappingOnceWhetherItLoadsOrNot() throws {
        let bytes = try Self.sample()
        let released = Counter()
        for isBroken in [false, true] {
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
            defer { memory.deallocate() }
            memory.copyBytes(from: bytes)
            if isBroken { memory[40] ^= 1 }
            let snapshot = try? Snapshot(mapping: UnsafeRawBufferPointer(memory)) { released.count += 1 }
            #expect((snapshot == nil) == isBroken)
            withExtendedLifetime(snapshot) {}
        }
        #expect(released.count == 2)
    }
}

private final class Counter: @unchecked Sendable {
    var count = 0
}
