/// What a destination address means to a workload.
package enum Route: Hashable, Sendable {
    case service(ServiceID, port: UInt16)
    case workload(WorkloadID, port: UInt16)
}

/// A workload behind a service, and the port that it serves.
package struct Endpoint: Hashable, Sendable {
    package var workload: WorkloadID
    package var targetPort: UInt16

    package init(workload: WorkloadID, targetPort: UInt16) {
        self.workload = workload
        self.targetPort = targetPort
    }
}

extension Snapshot {
    /// What `destination` means to a workload of `network`: the address with this port first (a service's port, then
    /// the declared port of a workload that shares its address), then a workload that has the address alone.
    /// Virtual addresses are known in every network, a workload's address only in its own.
    package func route(network: NetworkID, destination: SocketAddress) -> Route? {
        let address = destination.address
        let port = destination.port
        if port != 0 {
            if let record = routeRecord(RouteRecord.everyNetwork, address, port) {
                return .service(ServiceID(rawValue: record.id), port: port)
            }
            if let record = routeRecord(network.rawValue, address, port) {
                return .workload(WorkloadID(rawValue: record.id), port: port)
            }
        }
        guard let record = routeRecord(network.rawValue, address, 0) else { return nil }
        return .workload(WorkloadID(rawValue: record.id), port: port)
    }

    /// The service that has this virtual address, whatever the port: a connect to a port that it does not serve is
    /// `no_service_port`, not a destination outside the mesh.
    package func service(withVirtualAddress address: IPAddress) -> ServiceID? {
        routeRecord(RouteRecord.everyNetwork, address, 0).map { ServiceID(rawValue: $0.id) }
    }

    package func workload(_ id: WorkloadID) -> WorkloadView? {
        workloadIndex(id).map { WorkloadView(snapshot: self, index: $0) }
    }

    package func service(_ id: ServiceID) -> ServiceView? {
        let index = sections.find(sections.servicesByID, hash: SnapshotHash.mix(UInt64(id.rawValue))) {
            sections.services[$0].id == id.rawValue
        }
        return index.map { ServiceView(snapshot: self, index: $0) }
    }

    package func node(_ id: NodeID) -> NodeView? {
        let index = sections.find(sections.nodesByID, hash: SnapshotHash.mix(UInt64(id.rawValue))) {
            sections.nodes[$0].id == id.rawValue
        }
        return index.map { NodeView(snapshot: self, index: $0) }
    }

    /// The node that a tunnel from or to this address belongs to.
    package func node(withTunnelAddress address: IPAddress) -> NodeID? {
        let index = sections.find(
            sections.nodesByAddress, hash: SnapshotHash.mix(address.high, address.low, 0)
        ) { sections.nodeAddresses[$0].address.address == address }
        return index.map { NodeID(rawValue: sections.nodeAddresses[$0].node) }
    }

    /// The URI of a principal.
    package func principal(_ id: PrincipalID) -> String? {
        principalIndex(id).map { sections.string(sections.principals[$0].uri) }
    }

    package func isKnown(_ id: PrincipalID) -> Bool { principalIndex(id) != nil }

    package func principalID(of uri: String) -> PrincipalID? {
        var uri = uri
        return uri.withUTF8 { wanted in
            let index = sections.find(sections.principalsByURI, hash: SnapshotHash.text(wanted)) {
                sections.bytes(of: sections.principals[$0].uri).elementsEqual(wanted)
            }
            return index.map { PrincipalID(rawValue: sections.principals[$0].id) }
        }
    }

    /// Whether a workload of `principal` is placed on `node`.
    package func isPlaced(_ principal: PrincipalID, on node: NodeID) -> Bool {
        let hash = PlacementRecord.hash(principal: principal.rawValue, node: node.rawValue)
        return sections.find(sections.placementsByKey, hash: hash) {
            let record = sections.placements[$0]
            return record.principal == principal.rawValue && record.node == node.rawValue
        } != nil
    }

    /// The running workload of this node that serves `destination` under `principal`: the port that it declares
    /// where it shares the address, else any port of its address.
    package func localEndpoint(principal: PrincipalID, destination: SocketAddress) -> WorkloadID? {
        guard principal != .none, let record = localRecord(principal.rawValue, destination) else { return nil }
        return WorkloadID(rawValue: record.workload)
    }

    /// Whether any running workload of this node serves `destination`: tells `authority_principal_mismatch` from
    /// `authority_unknown`.
    package func isDestinationKnownLocally(_ destination: SocketAddress) -> Bool {
        localRecord(PrincipalID.none.rawValue, destination) != nil
    }

    /// Whether `address` is that of a workload of `principal` on `node`, so that a connection of that principal may
    /// be presented as coming from it.
    package func owns(_ principal: PrincipalID, address: IPAddress, on node: NodeID) -> Bool {
        let hash = OwnerRecord.hash(principal: principal.rawValue, node: node.rawValue, address: address)
        return sections.find(sections.ownersByKey, hash: hash) {
            let record = sections.owners[$0]
            return record.principal == principal.rawValue && record.node == node.rawValue
                && record.address.address == address
        } != nil
    }

    func workloadIndex(_ id: WorkloadID) -> Int? {
        sections.find(sections.workloadsByID, hash: SnapshotHash.mix(UInt64(id.rawValue))) {
            sections.workloads[$0].id == id.rawValue
        }
    }

    func principalRecord(_ id: PrincipalID) -> PrincipalRecord? {
        principalIndex(id).map { sections.principals[$0] }
    }

    // MARK: private

    private func principalIndex(_ id: PrincipalID) -> Int? {
        sections.find(sections.principalsByID, hash: SnapshotHash.mix(UInt64(id.rawValue))) {
            sections.principals[$0].id == id.rawValue
        }
    }

    private func routeRecord(_ network: UInt32, _ address: IPAddress, _ port: UInt16) -> RouteRecord? {
        let hash = RouteRecord.hash(network: network, address: address, port: port)
        return sections.find(sections.routesByKey, hash: hash) {
            let record = sections.routes[$0]
            return record.network == network && record.port == port && record.address.address == address
        }.map { sections.routes[$0] }
    }

    private func localRecord(_ principal: UInt32, _ destination: SocketAddress) -> LocalEndpointRecord? {
        guard destination.port != 0 else { return nil }
        return localRecord(principal, destination.address, destination.port)
            ?? localRecord(principal, destination.address, 0)
    }

    private func localRecord(_ principal: UInt32, _ address: IPAddress, _ port: UInt16) -> LocalEndpointRecord? {
        let hash = LocalEndpointRecord.hash(principal: principal, address: address, port: port)
        return sections.find(sections.localEndpointsByKey, hash: hash) {
            let record = sections.localEndpoints[$0]
            return record.principal == principal && record.port == port && record.address.address == address
        }.map { sections.localEndpoints[$0] }
    }
}
