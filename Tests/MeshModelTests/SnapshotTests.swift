import MeshModel
import Testing

@Suite struct SnapshotTests {
    private func workload(
        _ name: String, node: String = "a", address: UInt32 = 1, labels: [String: String] = [:]
    ) -> WorkloadResource {
        WorkloadResource(
            name: name, namespace: "shop", serviceAccount: name, node: node,
            selector: WorkloadSelector(.cgroup(pattern: name)), addresses: [IPAddress(ipv4: address)], labels: labels)
    }

    private func instance(_ name: String, _ id: UInt32) -> LocalInstance {
        LocalInstance(
            resource: ResourceName(namespace: "shop", name: name), workload: WorkloadID(rawValue: id),
            networkNamespace: .node, cgroupID: UInt64(id))
    }

    @Test func sameInputGivesTheSameBytesAndVersionWhateverTheOrder() throws {
        let resources = ResourceSet(workloads: [workload("w1"), workload("w2", address: 2)])
        var reversed = resources
        reversed.workloads.reverse()
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "t")
        let first = try builder.build(resources, instances: [instance("w1", 1), instance("w2", 2)])
        let second = try builder.build(reversed, instances: [instance("w2", 2), instance("w1", 1)])
        #expect(first.version == 1 && second.version == 1)
        #expect(first.withBytes { Array($0) } == second.withBytes { Array($0) })
    }

    @Test func policyGenerationFollowsPrincipalsAndLabelsButNotAddressesAndInstances() throws {
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "t")
        var seen: [(version: UInt64, generation: UInt32)] = []
        func build(_ workloads: [WorkloadResource], _ instances: [LocalInstance] = []) throws {
            let snapshot = try builder.build(ResourceSet(workloads: workloads), instances: instances)
            seen.append((snapshot.version, snapshot.policyGeneration))
        }
        try build([workload("w")])
        try build([workload("w")], [instance("w", 5)])
        try build([workload("w", address: 9)], [instance("w", 5)])
        try build([workload("w", address: 9, labels: ["a": "b"])], [instance("w", 5)])
        try build([workload("w", address: 9, labels: ["a": "b"]), workload("v", address: 3)])
        try build([workload("w", address: 9, labels: ["a": "b"])])
        #expect(seen.map(\.version) == [1, 2, 3, 4, 5, 6])
        #expect(seen.map(\.generation) == [1, 1, 1, 2, 3, 4])
    }

    @Test func idsStayWhileNamesDoAndAreNeverGivenTwice() throws {
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "t")
        func id(_ name: String, _ snapshot: Snapshot) -> WorkloadID? {
            snapshot.allWorkloads.first { $0.name == name }?.id
        }
        let first = try builder.build(ResourceSet(workloads: [workload("w1"), workload("w2", address: 2)]))
        let second = try builder.build(ResourceSet(workloads: [workload("w2", address: 2)]))
        let third = try builder.build(ResourceSet(workloads: [workload("w0", address: 7), workload("w2", address: 2)]))
        #expect(id("w2", first) == id("w2", third))
        #expect(id("w0", third) != id("w1", first))
        // A new meshd goes on from the last snapshot.
        var next = SnapshotBuilder(localNode: "a", trustDomain: "t", ids: SnapshotIDs(continuing: third))
        let fourth = try next.build(ResourceSet(workloads: [workload("w2", address: 2), workload("w3", address: 4)]))
        #expect(id("w2", fourth) == id("w2", first))
        #expect(fourth.version > third.version)
        #expect(fourth.policyGeneration == third.policyGeneration + 1)
        let used = [first, second, third].flatMap { $0.allWorkloads.map(\.id) }
        #expect(!used.contains(try #require(id("w3", fourth))))
        #expect(fourth.localNode == first.localNode)
    }

    @Test func localResourceWithoutInstanceIsKnownButServesNothing() throws {
        let service = ServiceResource(
            name: "s", namespace: "shop", virtualAddresses: [IPAddress(ipv4: 100)],
            ports: [.init(80, targetPort: 8080)],
            selector: ["app": "x"])
        let resources = ResourceSet(
            workloads: [
                workload("here", labels: ["app": "x"]), workload("there", node: "b", address: 2, labels: ["app": "x"]),
            ],
            services: [service])
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "t")
        let idle = try builder.build(resources)
        let id = try #require(idle.allServices.first?.id)
        #expect(idle.service(id)?.endpoints(port: 80).map { idle.workload($0.workload)?.name } == ["there"])
        #expect(!idle.isDestinationKnownLocally(SocketAddress(IPAddress(ipv4: 1), 8080)))
        #expect(idle.allWorkloads.first { $0.name == "here" }?.isRunning == false)
        let running = try builder.build(resources, instances: [instance("here", 3), instance("here", 2)])
        #expect(running.endpointCount(service: id, port: 80) == 2)
        let endpoint = running.endpoint(service: id, port: 80, at: 0)
        #expect(endpoint == Endpoint(workload: WorkloadID(rawValue: 2), targetPort: 8080))
        #expect(running.workload(WorkloadID(rawValue: 3))?.isRunning == true)
    }

    @Test func worldThatContradictsItselfStillBuilds() throws {
        let twin = workload("w")
        let resources = ResourceSet(
            nodes: [NodeResource(name: "a", tunnelAddresses: [.unspecified]), NodeResource(name: "a")],
            workloads: [twin, twin, workload("v")],
            services: [ServiceResource(name: "s", namespace: ""), ServiceResource(name: "s", namespace: "")])
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "t")
        let wrong = SnapshotIDs.resourceBit | 1
        let snapshot = try builder.build(
            resources, instances: [instance("w", 0), instance("w", wrong), instance("nobody", 1), instance("w", 1)])
        #expect(snapshot.allWorkloads.count == 2)
    }

    @Test func refusesNamesThatNoPrincipalCanHave() {
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "t")
        #expect(throws: SnapshotError.self) { try builder.build(ResourceSet(workloads: [workload("a b")])) }
    }

    @Test func tenThousandWorkloadsBuildAndLoadQuickly() throws {
        var resources = ResourceSet(nodes: (0..<100).map { NodeResource(name: "node-\($0)") })
        for number in 0..<10_000 {
            resources.workloads.append(
                WorkloadResource(
                    name: "workload-\(number)", namespace: "namespace-\(number % 50)",
                    serviceAccount: "account-\(number % 1_000)", node: "node-\(number % 100)",
                    selector: WorkloadSelector(.cgroup(pattern: "w\(number)")),
                    addresses: [IPAddress(ipv4: 0x0a00_0000 + UInt32(number))], labels: ["app": "app-\(number % 1_000)"]
                ))
        }
        for number in 0..<1_000 {
            resources.services.append(
                ServiceResource(
                    name: "service-\(number)", namespace: "namespace-\(number % 50)",
                    virtualAddresses: [IPAddress(ipv4: 0x0b00_0000 + UInt32(number))],
                    ports: [.init(80, targetPort: 8080)], selector: ["app": "app-\(number)"]))
        }
        var builder = SnapshotBuilder(localNode: "node-1", trustDomain: "mesh.test")
        let clock = ContinuousClock()
        var snapshot: Snapshot?
        let building = try clock.measure { snapshot = try builder.build(resources) }
        let made = try #require(snapshot)
        let bytes = made.withBytes { Array($0) }
        let loading = try clock.measure { snapshot = try Snapshot(bytes: bytes) }
        print("snapshot: \(bytes.count / 10_000) bytes a workload, built in \(building), loaded in \(loading)")
        #expect(bytes.count / 10_000 < 512)
        // Generous: this is a debug build on a shared machine.
        #expect(building < .seconds(20) && loading < .seconds(5))
        let id = try #require(made.allServices.first?.id)
        #expect(made.endpointCount(service: id, port: 80) == 10)
    }
}
