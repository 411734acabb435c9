// How a plan becomes the records and tables of a snapshot.

extension SnapshotPlan {
    func encode(into encoder: inout SnapshotEncoder) {
        encodeNames(into: &encoder)
        encodeNodes(into: &encoder)
        var labels: [LabelRecord] = []
        encodeWorkloads(into: &encoder, &labels)
        encodeServices(into: &encoder, &labels)
        policies.encode(into: &encoder, &labels)
        policies.encodeWorkloads(workloads.map(\.resource), into: &encoder)
        encoder.append(labels, to: .labels)
        encodeRoutes(into: &encoder)
        encodeLocalEndpoints(into: &encoder)
        encodeOwners(into: &encoder)
    }

    // MARK: private

    private func encodeNames(into encoder: inout SnapshotEncoder) {
        encoder.append(
            networks.map { NetworkRecord(id: $0.id, name: encoder.reference(to: $0.name)) }, to: .networks)
        encoder.append(
            principals.map {
                PrincipalRecord(
                    id: $0.id, uri: encoder.reference(to: $0.name.uri),
                    name: encoder.reference(to: $0.name.nameInPolicies),
                    namespace: encoder.reference(to: $0.name.namespace),
                    serviceAccount: encoder.reference(to: $0.name.serviceAccount))
            }, to: .principals)
        encoder.appendTable(.principalsByID, hashes: principals.map { SnapshotHash.mix(UInt64($0.id)) })
        encoder.appendTable(.principalsByURI, hashes: principals.map { SnapshotHash.text($0.name.uri.utf8) })
    }

    private func encodeNodes(into encoder: inout SnapshotEncoder) {
        var seen: Set<IPAddress> = []
        var addresses: [NodeAddressRecord] = []
        var records: [NodeRecord] = []
        for node in nodes {
            let own = node.resource.tunnelAddresses.filter { seen.insert($0).inserted }
            records.append(
                NodeRecord(
                    id: node.id, name: encoder.reference(to: node.resource.name),
                    addresses: RecordRange(first: UInt32(addresses.count), count: UInt32(own.count)),
                    address4: AddressRecord(own.first(where: \.isIPv4)),
                    address6: AddressRecord(own.first { !$0.isIPv4 })))
            addresses += own.map { NodeAddressRecord(address: AddressRecord($0), node: node.id) }
        }
        encoder.append(records, to: .nodes)
        encoder.append(addresses, to: .nodeAddresses)
        encoder.appendTable(.nodesByID, hashes: nodes.map { SnapshotHash.mix(UInt64($0.id)) })
        encoder.appendTable(
            .nodesByAddress, hashes: addresses.map { SnapshotHash.mix($0.address.high, $0.address.low, 0) })
    }

    private func encodeWorkloads(into encoder: inout SnapshotEncoder, _ labels: inout [LabelRecord]) {
        var records: [WorkloadRecord] = []
        var ports: [UInt16] = []
        var labelRange = RecordRange()
        var portRange = RecordRange()
        for (index, workload) in workloads.enumerated() {
            let resource = workload.resource
            if isFirstOfResource(index) {
                labelRange = encoder.labels(resource.labels, &labels)
                let served = Set(resource.ports).sorted()
                portRange = RecordRange(first: UInt32(ports.count), count: UInt32(served.count))
                ports += served
            }
            let selector = workload.localSelector
            records.append(
                WorkloadRecord(
                    id: workload.id, principal: workload.principal, node: workload.node, network: workload.network,
                    networkNamespace: workload.instance?.networkNamespace.rawValue ?? 0,
                    flags: (workload.isLocal ? WorkloadRecord.isLocal : 0)
                        | (workload.instance != nil ? WorkloadRecord.isRunning : 0)
                        | (workload.sharesAddress ? WorkloadRecord.sharesAddress : 0)
                        | selector.flags,
                    cgroupID: workload.instance?.cgroupID ?? 0,
                    address4: AddressRecord(resource.addresses.first(where: \.isIPv4)),
                    address6: AddressRecord(resource.addresses.first { !$0.isIPv4 }),
                    name: encoder.reference(to: resource.name),
                    namespace: encoder.reference(to: resource.namespace),
                    serviceAccount: encoder.reference(to: resource.serviceAccount), labels: labelRange,
                    ports: portRange, selector: encoder.reference(to: selector.text),
                    selectorNetworkNamespace: encoder.reference(to: selector.networkNamespace)))
        }
        encoder.append(records, to: .workloads)
        encoder.append(ports, to: .ports)
        encoder.appendTable(.workloadsByID, hashes: workloads.map { SnapshotHash.mix(UInt64($0.id)) })
    }

    private func encodeServices(into encoder: inout SnapshotEncoder, _ labels: inout [LabelRecord]) {
        // One workload of each resource, those that serve and have an address.
        let candidates = workloads.indices.filter {
            isFirstOfResource($0) && workloads[$0].serves && !workloads[$0].resource.addresses.isEmpty
        }
        let byLabel = WorkloadsByLabel(candidates.map { workloads[$0].resource })
        var records: [ServiceRecord] = []
        var addresses: [AddressRecord] = []
        var ports: [ServicePortRecord] = []
        var endpoints: [UInt32] = []
        for service in services {
            let resource = service.resource
            let chosen = byLabel.selected(by: resource).map { candidates[$0] }
            let firstPort = ports.count
            var seen: Set<UInt16> = []
            for port in resource.ports where seen.insert(port.port).inserted {
                let first = UInt32(endpoints.count)
                endpoints += chosen.lazy.map { workloads[$0] }
                    .filter { $0.resource.ports.isEmpty || $0.resource.ports.contains(port.targetPort) }.map(\.id)
                ports.append(
                    ServicePortRecord(
                        port: port.port, targetPort: port.targetPort,
                        endpoints: RecordRange(first: first, count: UInt32(endpoints.count) - first)))
            }
            records.append(
                ServiceRecord(
                    id: service.id, name: encoder.reference(to: resource.name),
                    namespace: encoder.reference(to: resource.namespace),
                    addresses: RecordRange(
                        first: UInt32(addresses.count), count: UInt32(resource.virtualAddresses.count)),
                    ports: RecordRange(first: UInt32(firstPort), count: UInt32(ports.count - firstPort)),
                    selector: encoder.labels(resource.selector, &labels)))
            addresses += resource.virtualAddresses.map { AddressRecord($0) }
        }
        encoder.append(records, to: .services)
        encoder.append(addresses, to: .virtualAddresses)
        encoder.append(ports, to: .servicePorts)
        encoder.append(endpoints, to: .endpoints)
        encoder.appendTable(.servicesByID, hashes: services.map { SnapshotHash.mix(UInt64($0.id)) })
        encoder.appendTable(
            .servicesByName,
            hashes: services.map {
                SnapshotHash.name($0.resource.name.utf8, $0.resource.namespace.utf8)
            })
    }

    private func encodeRoutes(into encoder: inout SnapshotEncoder) {
        var routes = UniqueRecords<RouteRecord, RouteKey>()
        func add(_ network: UInt32, _ address: IPAddress, _ port: UInt16, _ kind: UInt16, _ id: UInt32) {
            routes.add(
                RouteRecord(network: network, port: port, kind: kind, id: id, address: AddressRecord(address)),
                key: RouteKey(network: network, address: address, port: port),
                hash: RouteRecord.hash(network: network, address: address, port: port))
        }
        for service in services {
            for address in service.resource.virtualAddresses {
                add(RouteRecord.everyNetwork, address, 0, RouteRecord.service, service.id)
                for port in service.resource.ports {
                    add(RouteRecord.everyNetwork, address, port.port, RouteRecord.service, service.id)
                }
            }
        }
        for (index, workload) in workloads.enumerated() where isFirstOfResource(index) {
            for address in workload.resource.addresses {
                for port in workload.keyPorts {
                    add(workload.network, address, port, RouteRecord.workload, workload.id)
                }
            }
        }
        encoder.append(routes.records, to: .routes)
        encoder.appendTable(.routesByKey, hashes: routes.hashes)
    }

    private func encodeLocalEndpoints(into encoder: inout SnapshotEncoder) {
        var endpoints = UniqueRecords<LocalEndpointRecord, LocalKey>()
        for (index, workload) in workloads.enumerated()
        where workload.instance != nil && isFirstOfResource(index) {
            for address in workload.resource.addresses {
                for port in workload.keyPorts {
                    for principal in [workload.principal, 0] {
                        endpoints.add(
                            LocalEndpointRecord(
                                principal: principal, workload: workload.id, port: port,
                                address: AddressRecord(address)),
                            key: LocalKey(principal: principal, address: address, port: port),
                            hash: LocalEndpointRecord.hash(principal: principal, address: address, port: port))
                    }
                }
            }
        }
        encoder.append(endpoints.records, to: .localEndpoints)
        encoder.appendTable(.localEndpointsByKey, hashes: endpoints.hashes)
    }

    private func encodeOwners(into encoder: inout SnapshotEncoder) {
        var owners = UniqueRecords<OwnerRecord, OwnerKey>()
        var placements = UniqueRecords<PlacementRecord, OwnerKey>()
        for (index, workload) in workloads.enumerated() where isFirstOfResource(index) {
            let principal = workload.principal
            let node = workload.node
            placements.add(
                PlacementRecord(principal: principal, node: node),
                key: OwnerKey(principal: principal, node: node, address: .unspecified),
                hash: PlacementRecord.hash(principal: principal, node: node))
            for address in workload.resource.addresses {
                owners.add(
                    OwnerRecord(principal: principal, node: node, address: AddressRecord(address)),
                    key: OwnerKey(principal: principal, node: node, address: address),
                    hash: OwnerRecord.hash(principal: principal, node: node, address: address))
            }
        }
        encoder.append(owners.records, to: .owners)
        encoder.appendTable(.ownersByKey, hashes: owners.hashes)
        encoder.append(placements.records, to: .placements)
        encoder.appendTable(.placementsByKey, hashes: placements.hashes)
    }
}

extension SnapshotPlan.Workload {
    /// The selector, for workloads of this node.
    fileprivate var localSelector: (text: String, networkNamespace: String, flags: UInt32) {
        guard isLocal else { return ("", "", 0) }
        let network = resource.selector.networkNamespace
        let flags = network == nil ? 0 : WorkloadRecord.selectsNetworkNamespace
        switch resource.selector.processes {
        case .cgroup(let pattern): return (pattern, network ?? "", flags)
        case .systemdUnit(let unit): return (unit, network ?? "", flags | WorkloadRecord.selectsUnit)
        }
    }

    /// The ports under which its addresses are known; 0 is any.
    fileprivate var keyPorts: [UInt16] { sharesAddress ? resource.ports : [0] }
}

private struct RouteKey: Hashable {
    var network: UInt32
    var address: IPAddress
    var port: UInt16
}

private struct LocalKey: Hashable {
    var principal: UInt32
    var address: IPAddress
    var port: UInt16
}

private struct OwnerKey: Hashable {
    var principal: UInt32
    var node: UInt32
    var address: IPAddress
}

/// Records with distinct keys; the first of a key wins.
private struct UniqueRecords<Record: BitwiseCopyable, Key: Hashable> {
    var records: [Record] = []
    var hashes: [UInt64] = []
    private var keys: Set<Key> = []

    mutating func add(_ record: Record, key: Key, hash: UInt64) {
        guard keys.insert(key).inserted else { return }
        records.append(record)
        hashes.append(hash)
    }
}
