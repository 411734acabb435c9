package import MeshModel

/// What flows and series say about a workload. Made once for each workload of a snapshot and shared by its flows.
package final class WorkloadFacts: Sendable {
    let id: WorkloadID
    /// `namespace/name`.
    package let workload: String
    package let principal: String
    package let address4: IPAddress?
    package let address6: IPAddress?
    /// Istio's labels with the prefix `source_` and `destination_`, as text; all but the principal.
    let sourceLabels: String
    let destinationLabels: String
    let namespace: String

    init(_ view: WorkloadView, principal: String, cluster: String) {
        let name = view.name
        let canonical = CanonicalNames(name: name, labels: view.labels)
        id = view.id
        workload = view.key.description
        namespace = view.namespace
        self.principal = principal
        address4 = view.address(isIPv6: false)
        address6 = view.address(isIPv6: true)
        let values = IstioWorkloadLabels(
            workload: name, namespace: namespace, app: canonical.app, version: canonical.version,
            canonicalService: canonical.service, canonicalRevision: canonical.revision, cluster: cluster)
        sourceLabels = values.text(prefix: "source")
        destinationLabels = values.text(prefix: "destination")
    }

    func has(_ address: IPAddress) -> Bool { address4 == address || address6 == address }
}

/// A string that many flows share.
final class SharedName: Sendable {
    let text: String
    init(_ text: String) { self.text = text }
    static let none = SharedName("")
}

/// A service's names, and Istio's labels for it.
final class ServiceFacts: Sendable {
    let id: ServiceID
    let service: String
    let labels: String

    init(_ view: ServiceView) {
        id = view.id
        service = view.key.description
        labels = PrometheusText.labelText([
            ("destination_service", "\(view.name).\(view.namespace)"), ("destination_service_name", view.name),
            ("destination_service_namespace", view.namespace),
        ])
    }
}

/// Names for the ids of one snapshot, made when they are first asked for. Flows keep what they were given, so that a
/// later snapshot does not rename what was.
package final class FlowNames {
    private let snapshot: Snapshot
    private let cluster: String
    private var workloads: [WorkloadID: WorkloadFacts] = [:]
    private var services: [ServiceID: ServiceFacts] = [:]
    private var nodes: [NodeID: SharedName] = [:]
    private var byPrincipal: [PrincipalID: [WorkloadID]]?
    private var serviceByEndpoint: [WorkloadID: ServiceID]?
    package let node: String

    /// `cluster` stands in Istio's `source_cluster` and `destination_cluster`.
    package init(_ snapshot: Snapshot, cluster: String = CanonicalNames.cluster) {
        self.snapshot = snapshot
        self.cluster = cluster
        node = snapshot.node(snapshot.localNode)?.name ?? ""
    }

    package func workload(_ id: WorkloadID) -> WorkloadFacts? {
        guard id != .none else { return nil }
        if let known = workloads[id] { return known }
        guard let view = snapshot.workload(id) else { return nil }
        let facts = WorkloadFacts(view, principal: snapshot.principal(view.principal) ?? "", cluster: cluster)
        workloads[id] = facts
        return facts
    }

    /// The workload behind a peer of which only the principal and an address are known. Several workloads may run
    /// under one principal: the address decides; without one that fits, any of them stands for all, if `takesAny`.
    func workload(principal: String, address: IPAddress, takesAny: Bool = true) -> WorkloadFacts? {
        guard let id = snapshot.principalID(of: principal) else { return nil }
        let candidates = workloadsByPrincipal()[id] ?? []
        var any: WorkloadFacts?
        for candidate in candidates {
            guard let facts = workload(candidate) else { continue }
            if facts.has(address) { return facts }
            any = any ?? facts
        }
        return takesAny ? any : nil
    }

    func service(_ id: ServiceID) -> ServiceFacts? {
        guard id != .none else { return nil }
        if let known = services[id] { return known }
        guard let view = snapshot.service(id) else { return nil }
        let facts = ServiceFacts(view)
        services[id] = facts
        return facts
    }

    /// The first service that has the workload as an endpoint: a tunnel does not carry the service's name, and without
    /// one dashboards lose the service at its own end.
    func service(ofEndpoint id: WorkloadID) -> ServiceFacts? {
        guard let found = servicesByEndpoint()[id] else { return nil }
        return service(found)
    }

    /// What a workload meant by an address.
    func route(from workload: WorkloadID, to destination: SocketAddress) -> Route? {
        guard let source = snapshot.workload(workload) else { return nil }
        return snapshot.route(network: source.network, destination: destination)
    }

    func nodeName(_ id: NodeID) -> SharedName {
        guard id != .none else { return .none }
        if let known = nodes[id] { return known }
        guard let view = snapshot.node(id) else { return .none }
        let name = SharedName(view.name)
        nodes[id] = name
        return name
    }

    func node(named name: String) -> NodeID? {
        name.isEmpty ? nil : snapshot.allNodes.first { $0.name == name }?.id
    }

    // MARK: private

    private func servicesByEndpoint() -> [WorkloadID: ServiceID] {
        if let serviceByEndpoint { return serviceByEndpoint }
        var table: [WorkloadID: ServiceID] = [:]
        for service in snapshot.allServices {
            for port in service.ports {
                for endpoint in service.endpoints(port: port.port) where table[endpoint.workload] == nil {
                    table[endpoint.workload] = service.id
                }
            }
        }
        serviceByEndpoint = table
        return table
    }

    private func workloadsByPrincipal() -> [PrincipalID: [WorkloadID]] {
        if let byPrincipal { return byPrincipal }
        var table: [PrincipalID: [WorkloadID]] = [:]
        for view in snapshot.allWorkloads { table[view.principal, default: []].append(view.id) }
        byPrincipal = table
        return table
    }
}

/// Strings that come from outside the snapshot (principals of peers, commands), kept once each. When there are too
/// many different ones the pool starts anew; flows keep theirs.
struct NamePool {
    private static let namesMax = 8_192
    private var names: [String: SharedName] = [:]

    mutating func name(_ text: String) -> SharedName {
        if text.isEmpty { return .none }
        if let known = names[text] { return known }
        if names.count >= Self.namesMax { names = [:] }
        let name = SharedName(text)
        names[text] = name
        return name
    }
}
