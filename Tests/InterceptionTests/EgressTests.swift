import CMeshABI
@testable import Interception
import MeshModel
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

    @Test func withdrawnPolicyTakesItsEntriesAndFenceAlongButNotWhatWasLearned() throws {
        let kernel = try kernel(snapshot(.listed, [.init(.addresses(try block("192.0.2.0/24")))]))
        var learned = mesh_egress()
        learned.origin = UInt8(mesh_egress_origin.MESH_EGRESS_RESOLVED.rawValue)
        let key = mesh_egress_key(prefix_length: 192, workload: 7, port_be: 0, version: 4, address: mesh_address())
        kernel.egress.content[Raw(key)] = Raw(learned)
        _ = try self.kernel(snapshot(nil), into: kernel)
        #expect(kernel.egress.content.keys.map(\.value.prefix_length) == [192])
        #expect(kernel.fenced.isEmpty && kernel.workloads[7]?.fence == 0)
    }
}
