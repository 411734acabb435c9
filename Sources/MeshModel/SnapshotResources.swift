extension ResourceSet {
    /// The resources that `snapshot` was built from, as far as its node needs them: the selectors of other nodes'
    /// workloads are not kept.
    package init(of snapshot: Snapshot) {
        self.init()
        nodes = snapshot.allNodes.map { NodeResource(name: $0.name, tunnelAddresses: $0.tunnelAddresses) }
        let networks = Dictionary(
            snapshot.allNetworks.map { ($0.id, $0.name) }, uniquingKeysWith: { first, _ in first })
        var seen: Set<ResourceName> = []
        for view in snapshot.allWorkloads where seen.insert(view.key).inserted {
            workloads.append(
                WorkloadResource(
                    name: view.name, namespace: view.namespace, serviceAccount: view.serviceAccount,
                    node: snapshot.node(view.node)?.name ?? "",
                    selector: view.selector ?? WorkloadSelector(.cgroup(pattern: "")),
                    addresses: [view.address(isIPv6: false), view.address(isIPv6: true)].compactMap { $0 },
                    ports: view.ports, network: networks[view.network] ?? "", labels: view.labels))
        }
        services = snapshot.allServices.map {
            ServiceResource(
                name: $0.name, namespace: $0.namespace, virtualAddresses: $0.virtualAddresses, ports: $0.ports,
                selector: $0.selector)
        }
        authorizationPolicies = snapshot.authorizationPolicies
        peerAuthentications = snapshot.peerAuthentications
        egressPolicies = snapshot.egressPolicies
    }
}
