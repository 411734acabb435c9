import MeshModel
import Testing

/// The snapshot's tables against the rules written down naively: look at every resource, in order of name.
@Suite struct SnapshotModelTests {
    struct Model {
        var world: RandomResources
        var workloads: [WorkloadResource] { world.resources.workloads.sorted { $0.key < $1.key } }
        var services: [ServiceResource] { world.resources.services.sorted { $0.key < $1.key } }

        func instances(_ workload: WorkloadResource) -> [LocalInstance] {
            guard workload.node == RandomResources.localNode else { return [] }
            return world.instances.filter { $0.resource == workload.key }
                .sorted { $0.workload.rawValue < $1.workload.rawValue }
        }

        func sharesAddress(_ workload: WorkloadResource) -> Bool {
            workloads.contains {
                $0.key != workload.key && $0.network == workload.network
                    && !Set($0.addresses).isDisjoint(with: workload.addresses)
            }
        }

        func reaches(_ workload: WorkloadResource, _ destination: SocketAddress, port: Bool) -> Bool {
            guard workload.addresses.contains(destination.address) else { return false }
            return sharesAddress(workload) ? port && workload.ports.contains(destination.port) : !port
        }

        enum Answer: Hashable {
            case service(ResourceName)
            case workload(ResourceName)
        }

        func route(_ network: String, _ destination: SocketAddress) -> Answer? {
            for service in services where service.virtualAddresses.contains(destination.address) {
                if service.ports.contains(where: { $0.port == destination.port }) { return .service(service.key) }
            }
            for port in [true, false] {
                for workload in workloads where workload.network == network {
                    if reaches(workload, destination, port: port) { return .workload(workload.key) }
                }
            }
            return nil
        }

        func local(_ account: String?, _ namespace: String, _ destination: SocketAddress) -> LocalInstance? {
            for port in [true, false] {
                for workload in workloads where reaches(workload, destination, port: port) {
                    if let account, workload.serviceAccount != account || workload.namespace != namespace { continue }
                    if let first = instances(workload).first { return first }
                }
            }
            return nil
        }

        func endpoints(_ service: ServiceResource, _ port: ServiceResource.Port) -> [ResourceName] {
            workloads.filter {
                service.selects($0) && !$0.addresses.isEmpty
                    && ($0.node != RandomResources.localNode || !instances($0).isEmpty)
                    && ($0.ports.isEmpty || $0.ports.contains(port.targetPort))
            }.map(\.key)
        }
    }

    @Test(arguments: 0..<60) func agreesWithTheNaiveModel(seed: UInt64) throws {
        var random = SplitMix(seed: seed)
        var builder = SnapshotBuilder(localNode: RandomResources.localNode, trustDomain: RandomResources.trustDomain)
        for _ in 0..<3 {
            let world = RandomResources(using: &random)
            let snapshot = try builder.build(world.resources, instances: world.instances)
            let model = Model(world: world)
            checkRoutes(snapshot, model)
            try checkPrincipals(snapshot, model)
            try checkServices(snapshot, model)
            try checkWorkloads(snapshot, model)
            // What a meshd that starts with broken files knows from disk.
            var next = SnapshotBuilder(
                localNode: RandomResources.localNode, trustDomain: RandomResources.trustDomain,
                ids: SnapshotIDs(continuing: snapshot))
            let again = try next.build(ResourceSet(of: snapshot), instances: world.instances)
            #expect(again.policyGeneration == snapshot.policyGeneration)
            checkRoutes(again, model)
            try checkPrincipals(again, model)
            try checkServices(again, model)
            try checkWorkloads(again, model)
            #expect(ResourceSet(of: again) == ResourceSet(of: snapshot))
        }
    }

    private func checkRoutes(_ snapshot: Snapshot, _ model: Model) {
        let networks = [("", NetworkID.default)] + snapshot.allNetworks.map { ($0.name, $0.id) }
        for number in Array(0...9) + Array(99...107) {
            for port: UInt16 in [80, 81, 82, 443, 9] {
                let destination = SocketAddress(RandomResources.address(number), port)
                for (name, id) in networks {
                    let answer: Model.Answer? =
                        switch snapshot.route(network: id, destination: destination) {
                        case .service(let id, let routed)?:
                            routed == port ? (snapshot.service(id)?.key).map { .service($0) } : nil
                        case .workload(let id, let routed)?:
                            routed == port ? (snapshot.workload(id)?.key).map { .workload($0) } : nil
                        case nil: nil
                        }
                    #expect(answer == model.route(name, destination), "\(destination) in '\(name)'")
                }
                #expect(
                    snapshot.isDestinationKnownLocally(destination) == (model.local(nil, "", destination) != nil))
            }
            let address = RandomResources.address(number)
            #expect(
                snapshot.service(withVirtualAddress: address).flatMap { snapshot.service($0)?.key }
                    == model.services.first { $0.virtualAddresses.contains(address) }?.key)
        }
        #expect(snapshot.route(network: .default, destination: SocketAddress(.unspecified, 0)) == nil)
    }

    private func checkPrincipals(_ snapshot: Snapshot, _ model: Model) throws {
        for namespace in RandomResources.namespaces {
            for account in ["sa0", "sa1", "sa2", "sa3"] {
                let uri = "spiffe://\(RandomResources.trustDomain)/ns/\(namespace)/sa/\(account)"
                let mine = model.workloads.filter { $0.serviceAccount == account && $0.namespace == namespace }
                let id = snapshot.principalID(of: uri)
                #expect((id != nil) == !mine.isEmpty)
                guard let id else { continue }
                #expect(snapshot.principal(id) == uri)
                for node in snapshot.allNodes {
                    let placed = mine.filter { $0.node == node.name }
                    #expect(snapshot.isPlaced(id, on: node.id) == !placed.isEmpty)
                    for number in 0...9 {
                        let address = RandomResources.address(number)
                        #expect(
                            snapshot.owns(id, address: address, on: node.id)
                                == placed.contains { $0.addresses.contains(address) })
                    }
                }
                for number in 0...9 {
                    for port: UInt16 in [80, 81, 82, 9] {
                        let destination = SocketAddress(RandomResources.address(number), port)
                        #expect(
                            snapshot.localEndpoint(principal: id, destination: destination)
                                == model.local(account, namespace, destination)?.workload)
                    }
                }
            }
        }
    }

    private func checkServices(_ snapshot: Snapshot, _ model: Model) throws {
        #expect(snapshot.allServices.map(\.key) == model.services.map(\.key))
        for (service, view) in zip(model.services, snapshot.allServices) {
            #expect(view.virtualAddresses == service.virtualAddresses)
            #expect(view.ports == service.ports)
            for port in service.ports {
                let endpoints = view.endpoints(port: port.port)
                #expect(endpoints.allSatisfy { $0.targetPort == port.targetPort })
                #expect(
                    endpoints.compactMap { snapshot.workload($0.workload)?.key } == model.endpoints(service, port))
                #expect(snapshot.endpointCount(service: view.id, port: port.port) == endpoints.count)
            }
            #expect(view.endpoints(port: 1).isEmpty)
        }
    }

    private func checkWorkloads(_ snapshot: Snapshot, _ model: Model) throws {
        var count = 0
        for workload in model.workloads {
            let instances = model.instances(workload)
            count += max(instances.count, 1)
            for instance in instances {
                let view = try #require(snapshot.workload(instance.workload))
                #expect(view.key == workload.key && view.isRunning && view.isLocal)
                #expect(view.networkNamespace == instance.networkNamespace && view.cgroupID == instance.cgroupID)
            }
        }
        #expect(snapshot.allWorkloads.count == count)
        for view in snapshot.allWorkloads {
            let workload = try #require(model.workloads.first { $0.key == view.key })
            #expect(snapshot.workload(view.id)?.key == view.key)
            #expect(view.labels == workload.labels && view.ports == workload.ports.sorted())
            #expect(view.serviceAccount == workload.serviceAccount)
            #expect(view.address(isIPv6: false) ?? view.address(isIPv6: true) == workload.addresses.first)
            #expect(snapshot.node(view.node)?.name == workload.node)
            #expect(view.sharesAddress == model.sharesAddress(workload))
        }
        for node in snapshot.allNodes {
            for address in node.tunnelAddresses { #expect(snapshot.node(withTunnelAddress: address) == node.id) }
        }
        #expect(snapshot.node(withTunnelAddress: RandomResources.address(1)) == nil)
        #expect(snapshot.node(snapshot.localNode)?.name == RandomResources.localNode)
    }
}
