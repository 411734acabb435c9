/// One workload of a snapshot; names are made on demand.
package struct WorkloadView: Sendable {
    let snapshot: Snapshot
    let index: Int

    private var record: WorkloadRecord { snapshot.sections.workloads[index] }

    /// Of a running instance on this node, or of the resource for all others.
    package var id: WorkloadID { WorkloadID(rawValue: record.id) }
    package var principal: PrincipalID { PrincipalID(rawValue: record.principal) }
    package var node: NodeID { NodeID(rawValue: record.node) }
    package var network: NetworkID { NetworkID(rawValue: record.network) }
    /// Of a running workload of this node; else the node's own.
    package var networkNamespace: NetworkNamespaceID { NetworkNamespaceID(rawValue: record.networkNamespace) }
    /// Of a running workload of this node; else 0.
    package var cgroupID: UInt64 { record.cgroupID }
    /// Whether it belongs to the node that the snapshot was built for.
    package var isLocal: Bool { record.flags & WorkloadRecord.isLocal != 0 }
    /// Whether a cgroup of this node is behind it. A local workload that does not run serves nothing.
    package var isRunning: Bool { record.flags & WorkloadRecord.isRunning != 0 }
    /// Whether another workload of the network has one of its addresses too: then only declared ports lead to it.
    package var sharesAddress: Bool { record.flags & WorkloadRecord.sharesAddress != 0 }

    package func address(isIPv6: Bool) -> IPAddress? {
        (isIPv6 ? record.address6 : record.address4).optional
    }

    /// Of the resource.
    package var name: String { snapshot.sections.string(record.name) }
    package var namespace: String { snapshot.sections.string(record.namespace) }
    package var serviceAccount: String { snapshot.sections.string(record.serviceAccount) }
    package var key: ResourceName { ResourceName(namespace: namespace, name: name) }

    package var labels: [String: String] { snapshot.sections.labels(in: record.labels) }

    /// Of a workload of this node; nil for others, whose selectors mean nothing here.
    package var selector: WorkloadSelector? {
        guard isLocal else { return nil }
        let text = snapshot.sections.string(record.selector)
        let hasNetworkNamespace = record.flags & WorkloadRecord.selectsNetworkNamespace != 0
        return WorkloadSelector(
            record.flags & WorkloadRecord.selectsUnit != 0 ? .systemdUnit(text) : .cgroup(pattern: text),
            networkNamespace: hasNetworkNamespace
                ? snapshot.sections.string(record.selectorNetworkNamespace) : nil)
    }

    /// The ports that the resource declares.
    package var ports: [UInt16] {
        let range = record.ports
        return (0..<Int(range.count)).map { snapshot.sections.ports[Int(range.first) + $0] }
    }
}

/// One service of a snapshot.
package struct ServiceView: Sendable {
    let snapshot: Snapshot
    let index: Int

    private var record: ServiceRecord { snapshot.sections.services[index] }

    package var id: ServiceID { ServiceID(rawValue: record.id) }
    package var name: String { snapshot.sections.string(record.name) }
    package var namespace: String { snapshot.sections.string(record.namespace) }
    package var key: ResourceName { ResourceName(namespace: namespace, name: name) }

    package var virtualAddresses: [IPAddress] {
        let range = record.addresses
        return (0..<Int(range.count)).map { snapshot.sections.virtualAddresses[Int(range.first) + $0].address }
    }

    package var ports: [ServiceResource.Port] {
        let range = record.ports
        return (0..<Int(range.count)).map {
            let port = snapshot.sections.servicePorts[Int(range.first) + $0]
            return ServiceResource.Port(port.port, targetPort: port.targetPort)
        }
    }

    /// Labels that its endpoints carry.
    package var selector: [String: String] { snapshot.sections.labels(in: record.selector) }

    /// Who serves `port`; empty where the service has no such port.
    package func endpoints(port: UInt16) -> EndpointList {
        let range = record.ports
        for index in Int(range.first)..<Int(range.first) + Int(range.count) {
            let candidate = snapshot.sections.servicePorts[index]
            if candidate.port == port {
                return EndpointList(snapshot: snapshot, range: candidate.endpoints, targetPort: candidate.targetPort)
            }
        }
        return EndpointList(snapshot: snapshot, range: RecordRange(), targetPort: 0)
    }
}

/// The endpoints of one port of a service, without a copy.
package struct EndpointList: RandomAccessCollection, Sendable {
    let snapshot: Snapshot
    let range: RecordRange
    let targetPort: UInt16

    package var startIndex: Int { 0 }
    package var endIndex: Int { Int(range.count) }

    package subscript(position: Int) -> Endpoint {
        precondition(position >= 0 && position < Int(range.count), "no such endpoint")
        let workload = snapshot.sections.endpoints[Int(range.first) + position]
        return Endpoint(workload: WorkloadID(rawValue: workload), targetPort: targetPort)
    }
}

/// One node of a snapshot.
package struct NodeView: Sendable {
    let snapshot: Snapshot
    let index: Int

    private var record: NodeRecord { snapshot.sections.nodes[index] }

    package var id: NodeID { NodeID(rawValue: record.id) }
    package var name: String { snapshot.sections.string(record.name) }
    package var isLocal: Bool { id == snapshot.localNode }

    /// The first tunnel address of a family: the one that is dialled.
    package func tunnelAddress(isIPv6: Bool) -> IPAddress? {
        (isIPv6 ? record.address6 : record.address4).optional
    }

    /// All that tunnels of this node may come from.
    package var tunnelAddresses: [IPAddress] {
        let range = record.addresses
        return (0..<Int(range.count)).map { snapshot.sections.nodeAddresses[Int(range.first) + $0].address.address }
    }
}

extension Snapshot {
    package var trustDomain: String { sections.string(header.trustDomain) }
    /// Policies in it reach the whole mesh.
    package var rootNamespace: String { sections.string(header.rootNamespace) }

    /// Running workloads of this node one by one, all others one for each resource.
    package var allWorkloads: some RandomAccessCollection<WorkloadView> {
        (0..<sections.workloads.count).lazy.map { WorkloadView(snapshot: self, index: $0) }
    }

    package var allServices: some RandomAccessCollection<ServiceView> {
        (0..<sections.services.count).lazy.map { ServiceView(snapshot: self, index: $0) }
    }

    package var allNodes: some RandomAccessCollection<NodeView> {
        (0..<sections.nodes.count).lazy.map { NodeView(snapshot: self, index: $0) }
    }

    package var allPrincipals: [(id: PrincipalID, uri: String)] {
        (0..<sections.principals.count).map {
            let record = sections.principals[$0]
            return (PrincipalID(rawValue: record.id), sections.string(record.uri))
        }
    }

    /// The networks that have a name; the default network has none.
    package var allNetworks: [(id: NetworkID, name: String)] {
        (0..<sections.networks.count).map {
            let record = sections.networks[$0]
            return (NetworkID(rawValue: record.id), sections.string(record.name))
        }
    }

    /// The number of endpoints of a service's port; 0 for a service or port that is not known.
    package func endpointCount(service id: ServiceID, port: UInt16) -> Int {
        service(id)?.endpoints(port: port).count ?? 0
    }

    /// `index` must be below `endpointCount` of this snapshot.
    package func endpoint(service id: ServiceID, port: UInt16, at index: Int) -> Endpoint {
        guard let endpoints = service(id)?.endpoints(port: port) else { preconditionFailure("no such service") }
        return endpoints[index]
    }
}
