import MeshConfig
import MeshModel

/// What resources say about each other. What is wrong inside one resource, MeshConfig has found already.
struct ResourceChecks {
    private let declared: DeclaredResources
    private let localNode: String
    private let directory: SourcePosition
    private var diagnostics: Diagnostics
    private var workloadsByAddress: [IPAddress: [Declared<WorkloadResource>]] = [:]

    static func run(
        _ declared: DeclaredResources, localNode: String, names: MeshNames, directory: SourcePosition,
        diagnostics: inout Diagnostics
    ) {
        // Resources with problems of their own are left out of `declared`, so that a missing one may only be broken:
        // what is missing is judged once everything can be read.
        let isComplete = !diagnostics.hasErrors
        var checks = ResourceChecks(declared, localNode: localNode, directory: directory, diagnostics: diagnostics)
        checks.checkNames()
        checks.checkNodeAddresses()
        checks.checkWorkloadAddresses()
        checks.checkVirtualAddresses()
        checks.checkSelectors()
        checks.checkPorts()
        if isComplete { checks.checkReferences() }
        var policies = PolicyChecks(declared, names: names, diagnostics: checks.diagnostics)
        policies.checkOverlaps()
        if isComplete { policies.checkReach() }
        diagnostics = policies.diagnostics
    }

    // MARK: private

    private init(
        _ declared: DeclaredResources, localNode: String, directory: SourcePosition, diagnostics: Diagnostics
    ) {
        self.declared = declared
        self.localNode = localNode
        self.directory = directory
        self.diagnostics = diagnostics
        // Of several with one name the first: the others are reported for that.
        var seen: Set<ResourceName> = []
        for workload in declared.workloads where seen.insert(workload.resource.key).inserted {
            for address in workload.resource.addresses { workloadsByAddress[address, default: []].append(workload) }
        }
    }

    private mutating func checkNames() {
        checkNames(of: "Node", declared.nodes, \.name)
        checkNames(of: "Workload", declared.workloads, \.key.description)
        checkNames(of: "Service", declared.services, \.key.description)
        checkNames(of: "AuthorizationPolicy", declared.authorizationPolicies, \.key.description)
        checkNames(of: "PeerAuthentication", declared.peerAuthentications, \.key.description)
        checkNames(of: "EgressPolicy", declared.egressPolicies, \.key.description)
    }

    private mutating func checkNames<Resource>(
        of kind: String, _ resources: [Declared<Resource>], _ name: (Resource) -> String
    ) {
        var first: [String: SourcePosition] = [:]
        for declared in resources {
            let name = name(declared.resource)
            if let earlier = first[name] {
                diagnostics.error(
                    declared.position, "a second \(kind) `\(name)`, expected one; the first is at \(earlier)")
            } else {
                first[name] = declared.position
            }
        }
    }

    private mutating func checkNodeAddresses() {
        var first: [IPAddress: String] = [:]
        for node in declared.nodes {
            for (index, address) in node.resource.tunnelAddresses.enumerated() {
                let position = node.position(of: "spec.tunnelAddresses[\(index)]")
                if let other = first[address], other != node.resource.name {
                    diagnostics.error(
                        position, "tunnel address \(address) belongs to node `\(other)` already, expected one node")
                }
                first[address] = first[address] ?? node.resource.name
                for workload in workloadsByAddress[address] ?? []
                where workload.resource.network.isEmpty && workload.resource.node != node.resource.name {
                    diagnostics.error(
                        addressPosition(workload, address),
                        "address \(address) of workload `\(workload.resource.key)` on node "
                            + "`\(workload.resource.node)` is a tunnel address of node `\(node.resource.name)`")
                }
            }
        }
    }

    private mutating func checkWorkloadAddresses() {
        for (address, workloads) in workloadsByAddress where workloads.count > 1 {
            checkPrincipals(of: workloads, at: address)
            let networks = Dictionary(grouping: workloads, by: \.resource.network)
            for workloads in networks.values where workloads.count > 1 { checkSharing(workloads, address) }
        }
    }

    /// An address may mean different workloads in different networks. The authority of a tunnel's stream names no
    /// network, so on one node they need different principals.
    private mutating func checkPrincipals(of workloads: [Declared<WorkloadResource>], at address: IPAddress) {
        struct Place: Hashable {
            var node: String
            var namespace: String
            var serviceAccount: String
        }
        var first: [Place: WorkloadResource] = [:]
        for workload in workloads {
            let resource = workload.resource
            let place = Place(
                node: resource.node, namespace: resource.namespace, serviceAccount: resource.serviceAccount)
            if let other = first[place], other.network != resource.network {
                diagnostics.error(
                    addressPosition(workload, address),
                    "address \(address) of workload `\(resource.key)` is that of `\(other.key)` in another network, on "
                        + "the same node and with the same principal: tunnels can't tell them apart, expected "
                        + "another service account")
            }
            first[place] = first[place] ?? resource
        }
    }

    /// Workloads with one address in one network live in one network namespace and divide its ports.
    private mutating func checkSharing(_ workloads: [Declared<WorkloadResource>], _ address: IPAddress) {
        let first = workloads[0].resource
        var owners: [UInt16: ResourceName] = [:]
        for workload in workloads {
            let resource = workload.resource
            let position = addressPosition(workload, address)
            let namespaces = Set([resource, first].compactMap(\.selector.networkNamespace))
            if resource.node != first.node || namespaces.count == 2 {
                let place = resource.node != first.node ? "on node `\(first.node)`" : "in another network namespace"
                diagnostics.error(
                    position,
                    "address \(address) of workload `\(resource.key)` belongs to `\(first.key)` \(place) already, "
                        + "expected one place in a network")
                continue
            }
            if resource.ports.isEmpty {
                diagnostics.error(
                    position,
                    "workload `\(resource.key)` shares the address \(address), expected `spec.ports` to tell what it "
                        + "serves")
            }
            for (index, port) in resource.ports.enumerated() {
                if let owner = owners[port], owner != resource.key {
                    diagnostics.error(
                        workload.position(of: "spec.ports[\(index)]"),
                        "port \(port) of the shared address \(address) belongs to `\(owner)` already, expected one "
                            + "workload")
                }
                owners[port] = owners[port] ?? resource.key
            }
        }
    }

    private mutating func checkVirtualAddresses() {
        var first: [IPAddress: ResourceName] = [:]
        let tunnelAddresses = Dictionary(
            declared.nodes.flatMap { node in node.resource.tunnelAddresses.map { ($0, node.resource.name) } },
            uniquingKeysWith: { first, _ in first })
        for service in declared.services {
            for (index, address) in service.resource.virtualAddresses.enumerated() {
                let position = service.position(of: "spec.virtualAddresses[\(index)]")
                if let other = first[address], other != service.resource.key {
                    diagnostics.error(
                        position,
                        "virtual address \(address) belongs to service `\(other)` already, expected one service")
                }
                first[address] = first[address] ?? service.resource.key
                if let workload = workloadsByAddress[address]?.first {
                    diagnostics.error(
                        position,
                        "virtual address \(address) is the address of workload `\(workload.resource.key)`, expected one "
                            + "that nothing has")
                } else if let node = tunnelAddresses[address] {
                    diagnostics.error(
                        position,
                        "virtual address \(address) is a tunnel address of node `\(node)`, expected one that nothing has"
                    )
                }
            }
        }
    }

    private mutating func checkSelectors() {
        struct Place: Hashable {
            var node: String
            var processes: WorkloadSelector.Processes
        }
        var first: [Place: ResourceName] = [:]
        for workload in declared.workloads {
            let place = Place(node: workload.resource.node, processes: workload.resource.selector.processes)
            if let other = first[place], other != workload.resource.key {
                diagnostics.error(
                    workload.position(of: "spec.selector"),
                    "workload `\(workload.resource.key)` selects the same processes as `\(other)`, expected one "
                        + "workload for a cgroup")
            }
            first[place] = first[place] ?? workload.resource.key
        }
    }

    private mutating func checkPorts() {
        let reserved = MeshPort.fixed + [MeshPort.tunnel]
        for workload in declared.workloads {
            for (index, port) in workload.resource.ports.enumerated() where reserved.contains(port) {
                diagnostics.error(
                    workload.position(of: "spec.ports[\(index)]"),
                    "port \(port) is one of the mesh's own, expected another")
            }
        }
        for service in declared.services {
            for port in service.resource.ports where reserved.contains(port.targetPort) {
                diagnostics.error(
                    service.position(of: "spec.ports"),
                    "target port \(port.targetPort) is one of the mesh's own, expected another")
            }
        }
    }

    private mutating func checkReferences() {
        let nodes = Set(declared.nodes.map(\.resource.name))
        for workload in declared.workloads where !nodes.contains(workload.resource.node) {
            diagnostics.error(
                workload.position(of: "spec.node"),
                "no Node is named `\(workload.resource.node)`, expected the name of a Node"
                    + Suggestion.clause(for: workload.resource.node, among: nodes.sorted()))
        }
        if !nodes.contains(localNode) && !localNode.isEmpty {
            diagnostics.warning(
                directory,
                "no Node is named `\(localNode)` as this node is: no tunnel can be accepted here; add its Node resource"
            )
        }
        checkEndpoints()
    }

    private mutating func checkEndpoints() {
        let workloads = declared.workloads.map(\.resource)
        let byLabel = WorkloadsByLabel(workloads)
        for service in declared.services {
            let endpoints = byLabel.selected(by: service.resource).map { workloads[$0] }
            if endpoints.isEmpty {
                diagnostics.warning(
                    service.position(of: "spec.selector"),
                    "service `\(service.resource.key)` selects no workload, expected labels that one of namespace "
                        + "`\(service.resource.namespace)` has")
            }
            for workload in endpoints where workload.addresses.isEmpty {
                diagnostics.warning(
                    service.position(of: "spec.selector"),
                    "service `\(service.resource.key)` selects workload `\(workload.key)`, which has no address: it is "
                        + "no endpoint")
            }
            for port in service.resource.ports {
                for workload in endpoints where !workload.ports.isEmpty && !workload.ports.contains(port.targetPort) {
                    diagnostics.warning(
                        service.position(of: "spec.ports"),
                        "service `\(service.resource.key)` has target port \(port.targetPort), which workload "
                            + "`\(workload.key)` does not list in `spec.ports`: it is no endpoint of port \(port.port)")
                }
            }
        }
    }

    private func addressPosition(_ workload: Declared<WorkloadResource>, _ address: IPAddress) -> SourcePosition {
        let index = workload.resource.addresses.firstIndex(of: address) ?? 0
        return workload.position(of: "spec.addresses[\(index)]")
    }
}
