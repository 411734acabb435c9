/// Makes snapshots for one node from resources and from the instances that run here. Pure: the same input and ids give
/// the same bytes, whatever the order of the resources. It trusts MeshDiscovery to have rejected contradictions; where
/// two resources claim one key it takes the first by name, and never traps.
package struct SnapshotBuilder: Sendable {
    package let localNode: String
    package let trustDomain: String
    /// Policies in it reach the whole mesh.
    package let rootNamespace: String
    /// What the next snapshot goes on from.
    package private(set) var ids: SnapshotIDs

    package init(
        localNode: String, trustDomain: String, rootNamespace: String = PolicyResourceDefaults.rootNamespace,
        ids: SnapshotIDs = SnapshotIDs()
    ) {
        self.localNode = localNode
        self.trustDomain = trustDomain
        self.rootNamespace = rootNamespace
        self.ids = ids
    }

    /// `instances` are this node's running workloads; an id of theirs must be above 0 and below
    /// `SnapshotIDs.resourceBit`. Instances of unknown or of other nodes' resources are left out.
    package mutating func build(
        _ resources: ResourceSet, instances: [LocalInstance] = []
    ) throws(SnapshotError) -> Snapshot {
        let plan = try SnapshotPlan(
            resources, instances: instances, localNode: localNode, trustDomain: trustDomain,
            rootNamespace: rootNamespace, ids: &ids)
        var encoder = SnapshotEncoder()
        var header = SnapshotHeader()
        header.trustDomain = encoder.reference(to: trustDomain)
        header.rootNamespace = encoder.reference(to: rootNamespace)
        plan.encode(into: &encoder)
        let body = try encoder.body()

        let policyDigest = SnapshotHash.mix(plan.policyDigest, try plan.policies.digest(), 2)
        if ids.policyGeneration == 0 || policyDigest != ids.policyDigest {
            ids.policyGeneration += 1
            ids.policyDigest = policyDigest
        }
        let contentDigest = SnapshotHash.mix(
            body.withUnsafeBytes(SnapshotHash.checksum), UInt64(plan.localNodeID), policyDigest)
        if contentDigest != ids.contentDigest {
            ids.version += 1
            ids.contentDigest = contentDigest
        }

        header.version = ids.version
        header.policyDigest = ids.policyDigest
        header.policyGeneration = ids.policyGeneration
        header.localNode = plan.localNodeID
        header.nextNode = ids.nodes.next
        header.nextService = ids.services.next
        header.nextPrincipal = ids.principals.next
        header.nextNetwork = ids.networks.next
        header.nextWorkload = ids.workloads.next
        return try Snapshot(bytes: SnapshotEncoder.seal(header, body))
    }
}

/// Resources with their numbers, sorted, and what follows from them.
struct SnapshotPlan {
    struct Workload {
        var resource: WorkloadResource
        var id: UInt32
        var principal: UInt32
        var node: UInt32
        var network: UInt32
        var isLocal: Bool
        var sharesAddress = false
        var instance: LocalInstance?

        /// Whether it serves connections: a workload of this node must run for that.
        var serves: Bool { !isLocal || instance != nil }
    }

    /// By key, then id: the first of a resource's instances stands for all of them.
    var workloads: [Workload] = []
    var nodes: [(id: UInt32, resource: NodeResource)] = []
    var services: [(id: UInt32, resource: ServiceResource)] = []
    var networks: [(id: UInt32, name: String)] = []
    var principals: [(id: UInt32, name: Principal)] = []
    let policies: PolicyPlan
    var localNodeID: UInt32 = 0
    var trustDomain: String

    init(
        _ resources: ResourceSet, instances: [LocalInstance], localNode: String, trustDomain: String,
        rootNamespace: String, ids: inout SnapshotIDs
    ) throws(SnapshotError) {
        self.trustDomain = trustDomain
        policies = PolicyPlan(resources, rootNamespace: rootNamespace)
        planNodes(resources, localNode: localNode, ids: &ids)
        for service in Self.unique(resources.services, by: \.key) {
            services.append((ids.services.number(of: service.key), service))
        }
        ids.services.keep(Set(services.map(\.resource.key)))
        try planWorkloads(resources, instances: instances, localNode: localNode, ids: &ids)
        markSharedAddresses()
    }

    /// Of what verdicts depend on beside addresses: which workloads there are, their principals, nodes and labels.
    var policyDigest: UInt64 {
        var digest = SnapshotHash.text(trustDomain.utf8)
        func add(_ text: String) { digest = SnapshotHash.mix(digest, SnapshotHash.text(text.utf8), 0) }
        for (index, workload) in workloads.enumerated() where isFirstOfResource(index) {
            let resource = workload.resource
            add(resource.namespace)
            add(resource.name)
            add(resource.serviceAccount)
            add(resource.node)
            for label in resource.labels.sorted(by: { $0.key < $1.key }) {
                add(label.key)
                add(label.value)
            }
            digest = SnapshotHash.mix(digest, UInt64(resource.labels.count), 1)
        }
        return digest
    }

    func isFirstOfResource(_ index: Int) -> Bool {
        index == 0 || workloads[index - 1].resource.key != workloads[index].resource.key
    }

    // MARK: private

    private mutating func planNodes(_ resources: ResourceSet, localNode: String, ids: inout SnapshotIDs) {
        // A node that is only named by workloads, or that is this one, is known without tunnel addresses.
        var known = Self.unique(resources.nodes, by: \.name)
        var names = Set(known.map(\.name))
        for name in [localNode] + resources.workloads.map(\.node).sorted() where names.insert(name).inserted {
            known.append(NodeResource(name: name))
        }
        for node in known.sorted(by: { $0.name < $1.name }) {
            nodes.append((ids.nodes.number(of: node.name), node))
        }
        localNodeID = ids.nodes.number(of: localNode)
        ids.nodes.keep(names)
    }

    private mutating func planWorkloads(
        _ resources: ResourceSet, instances: [LocalInstance], localNode: String, ids: inout SnapshotIDs
    ) throws(SnapshotError) {
        var running: [ResourceName: [LocalInstance]] = [:]
        var taken: Set<UInt32> = [0]
        for instance in instances.sorted(by: { $0.workload.rawValue < $1.workload.rawValue })
        where instance.workload.rawValue < SnapshotIDs.resourceBit
            && taken.insert(instance.workload.rawValue).inserted
        {
            running[instance.resource, default: []].append(instance)
        }
        var uris: Set<String> = []
        var networkNames: Set<String> = []
        var keys: Set<ResourceName> = []
        for resource in Self.unique(resources.workloads, by: \.key) {
            guard
                let principal = Principal(
                    trustDomain: trustDomain, namespace: resource.namespace,
                    serviceAccount: resource.serviceAccount)
            else { throw .invalidPrincipal(resource.key) }
            let uri = principal.uri
            let principalID = ids.principals.number(of: uri)
            if uris.insert(uri).inserted { principals.append((principalID, principal)) }
            var network: UInt32 = 0
            if !resource.network.isEmpty {
                network = ids.networks.number(of: resource.network)
                if networkNames.insert(resource.network).inserted { networks.append((network, resource.network)) }
            }
            keys.insert(resource.key)
            // A number for the resource is spent even while instances stand for it: it comes back when they stop.
            let id = SnapshotIDs.resourceBit | ids.workloads.number(of: resource.key)
            let workload = Workload(
                resource: resource, id: id, principal: principalID, node: ids.nodes.number(of: resource.node),
                network: network, isLocal: resource.node == localNode)
            let mine = workload.isLocal ? running[resource.key] ?? [] : []
            if mine.isEmpty { workloads.append(workload) }
            for instance in mine {
                var copy = workload
                copy.id = instance.workload.rawValue
                copy.instance = instance
                workloads.append(copy)
            }
        }
        ids.principals.keep(uris)
        ids.networks.keep(networkNames)
        ids.workloads.keep(keys)
    }

    private mutating func markSharedAddresses() {
        struct Place: Hashable {
            var network: UInt32
            var address: IPAddress
        }
        var owners: [Place: Int] = [:]
        for (index, workload) in workloads.enumerated() where isFirstOfResource(index) {
            for address in Set(workload.resource.addresses) {
                owners[Place(network: workload.network, address: address), default: 0] += 1
            }
        }
        for index in workloads.indices {
            workloads[index].sharesAddress = workloads[index].resource.addresses.contains {
                owners[Place(network: workloads[index].network, address: $0), default: 0] > 1
            }
        }
    }

    /// Sorted by key; of several with one key, the first of the input.
    static func unique<Resource, Key: Hashable & Comparable>(
        _ resources: [Resource], by key: (Resource) -> Key
    ) -> [Resource] {
        var seen: Set<Key> = []
        return resources.filter { seen.insert(key($0)).inserted }.sorted { key($0) < key($1) }
    }
}
