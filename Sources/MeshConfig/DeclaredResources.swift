package import MeshModel

/// A resource and where its file says so.
package struct Declared<Resource: Sendable>: Sendable {
    package var resource: Resource
    /// Of the document.
    package var position: SourcePosition
    /// Of fields, by path: `spec.node`, `spec.addresses[1]`.
    package var positions: [String: SourcePosition]

    package init(_ resource: Resource, position: SourcePosition, positions: [String: SourcePosition]) {
        self.resource = resource
        self.position = position
        self.positions = positions
    }

    /// The place of a field, or of the document where the field is not written.
    package func position(of path: String) -> SourcePosition { positions[path] ?? position }
}

/// What files declare, in their order.
package struct DeclaredResources: Sendable {
    package var nodes: [Declared<NodeResource>] = []
    package var workloads: [Declared<WorkloadResource>] = []
    package var services: [Declared<ServiceResource>] = []
    package var authorizationPolicies: [Declared<AuthorizationPolicyResource>] = []
    package var peerAuthentications: [Declared<PeerAuthenticationResource>] = []
    package var egressPolicies: [Declared<EgressPolicyResource>] = []

    package init() {}

    /// Reads the resources of one file. Those with a problem of their own are reported and left out.
    package init(yaml bytes: [UInt8], file: String, diagnostics: inout Diagnostics) {
        let documents = YAMLParser.parse(bytes, file: file, limits: YAMLLimits(), diagnostics: &diagnostics)
        var reader = ResourceReader(diagnostics: diagnostics)
        for document in documents { reader.read(document) }
        self = reader.declared
        diagnostics = reader.diagnostics
    }

    package mutating func add(_ other: DeclaredResources) {
        nodes += other.nodes
        workloads += other.workloads
        services += other.services
        authorizationPolicies += other.authorizationPolicies
        peerAuthentications += other.peerAuthentications
        egressPolicies += other.egressPolicies
    }

    package var resources: ResourceSet {
        ResourceSet(
            nodes: nodes.map(\.resource), workloads: workloads.map(\.resource), services: services.map(\.resource),
            authorizationPolicies: authorizationPolicies.map(\.resource),
            peerAuthentications: peerAuthentications.map(\.resource),
            egressPolicies: egressPolicies.map(\.resource))
    }
}
