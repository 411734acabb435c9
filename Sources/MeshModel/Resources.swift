import CMeshABI

/// Names a resource among those of its kind.
package struct ResourceName: Hashable, Sendable, Comparable, CustomStringConvertible {
    package var namespace: String
    package var name: String

    package init(namespace: String, name: String) {
        self.namespace = namespace
        self.name = name
    }

    package var description: String { "\(namespace)/\(name)" }

    package static func < (left: ResourceName, right: ResourceName) -> Bool {
        (left.namespace, left.name) < (right.namespace, right.name)
    }
}

/// One kernel with one meshd.
package struct NodeResource: Hashable, Sendable {
    package var name: String
    /// Where its tunnel port answers; at most one IPv4 and one IPv6 address are dialled, all are recognised.
    package var tunnelAddresses: [IPAddress]

    package init(name: String, tunnelAddresses: [IPAddress] = []) {
        self.name = name
        self.tunnelAddresses = tunnelAddresses
    }
}

/// Which process trees of its node a Workload resource means.
package struct WorkloadSelector: Hashable, Sendable {
    package enum Processes: Hashable, Sendable {
        /// A path pattern: relative to the node's cgroup root unless it begins with `/`; `*` within one component.
        case cgroup(pattern: String)
        /// The cgroup of a systemd unit, wherever it lies: `**/UNIT`.
        case systemdUnit(String)
    }

    package var processes: Processes
    /// Bytes of a cgroup pattern once it is absolute: what classify_cgroup keeps, without the NUL.
    package static let patternLengthMax = Int(MESH_PATTERN_SIZE) - 1

    /// Name under /run/netns; nil takes the network namespace that the processes are in.
    package var networkNamespace: String?

    package init(_ processes: Processes, networkNamespace: String? = nil) {
        self.processes = processes
        self.networkNamespace = networkNamespace
    }
}

/// What runs: each cgroup of its node that it matches is one workload with an id of its own.
package struct WorkloadResource: Hashable, Sendable {
    package var name: String
    package var namespace: String
    package var serviceAccount: String
    /// Name of a Node.
    package var node: String
    package var selector: WorkloadSelector
    /// At most one IPv4 and one IPv6 address.
    package var addresses: [IPAddress]
    /// TCP ports that it serves. Required where another workload of the network has an address of its own too.
    package var ports: [UInt16]
    /// Scope of its addresses; empty is the mesh's default network.
    package var network: String
    package var labels: [String: String]

    package init(
        name: String, namespace: String, serviceAccount: String, node: String, selector: WorkloadSelector,
        addresses: [IPAddress] = [], ports: [UInt16] = [], network: String = "", labels: [String: String] = [:]
    ) {
        self.name = name
        self.namespace = namespace
        self.serviceAccount = serviceAccount
        self.node = node
        self.selector = selector
        self.addresses = addresses
        self.ports = ports
        self.network = network
        self.labels = labels
    }

    package var key: ResourceName { ResourceName(namespace: namespace, name: name) }
}

/// A name with virtual addresses, in front of the workloads of its namespace that carry the labels.
package struct ServiceResource: Hashable, Sendable {
    package struct Port: Hashable, Sendable {
        package var port: UInt16
        package var targetPort: UInt16

        package init(_ port: UInt16, targetPort: UInt16) {
            self.port = port
            self.targetPort = targetPort
        }
    }

    package var name: String
    package var namespace: String
    /// Known in every network of the mesh.
    package var virtualAddresses: [IPAddress]
    package var ports: [Port]
    /// Labels that an endpoint has; all of them must match, none matches nothing.
    package var selector: [String: String]

    package init(
        name: String, namespace: String, virtualAddresses: [IPAddress] = [], ports: [Port] = [],
        selector: [String: String] = [:]
    ) {
        self.name = name
        self.namespace = namespace
        self.virtualAddresses = virtualAddresses
        self.ports = ports
        self.selector = selector
    }

    package var key: ResourceName { ResourceName(namespace: namespace, name: name) }

    /// Whether `workload` is one of this service's endpoints.
    package func selects(_ workload: WorkloadResource) -> Bool {
        workload.namespace == namespace && !selector.isEmpty
            && selector.allSatisfy { workload.labels[$0.key] == $0.value }
    }
}

/// Everything that the sources say, at one moment.
package struct ResourceSet: Hashable, Sendable {
    package var nodes: [NodeResource]
    package var workloads: [WorkloadResource]
    package var services: [ServiceResource]
    package var authorizationPolicies: [AuthorizationPolicyResource]
    package var peerAuthentications: [PeerAuthenticationResource]
    package var egressPolicies: [EgressPolicyResource]

    package init(
        nodes: [NodeResource] = [], workloads: [WorkloadResource] = [], services: [ServiceResource] = [],
        authorizationPolicies: [AuthorizationPolicyResource] = [],
        peerAuthentications: [PeerAuthenticationResource] = [], egressPolicies: [EgressPolicyResource] = []
    ) {
        self.nodes = nodes
        self.workloads = workloads
        self.services = services
        self.authorizationPolicies = authorizationPolicies
        self.peerAuthentications = peerAuthentications
        self.egressPolicies = egressPolicies
    }
}

/// A cgroup of this node that matches a Workload resource: one running instance of it.
package struct LocalInstance: Hashable, Sendable {
    package var resource: ResourceName
    package var workload: WorkloadID
    package var networkNamespace: NetworkNamespaceID
    package var cgroupID: UInt64

    package init(
        resource: ResourceName, workload: WorkloadID, networkNamespace: NetworkNamespaceID, cgroupID: UInt64
    ) {
        self.resource = resource
        self.workload = workload
        self.networkNamespace = networkNamespace
        self.cgroupID = cgroupID
    }
}
