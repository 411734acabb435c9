// MeshPolicy decides who may talk to whom: pure functions of what is known about a peer or a connection and of the
// snapshot. It opens, closes, counts and logs nothing; the data plane does, with the Permit or the Denial that it
// gets. Until policies exist every principal that belongs where it calls from is allowed.

import CMeshABI
package import MeshModel

/// What is known about one connection that wants to reach an application of this node. Nothing in here is taken from
/// what a peer merely claims.
package struct ConnectionFacts: Hashable, Sendable {
    package enum Channel: Hashable, Sendable {
        /// A stream of a tunnel in which this node presented `serverPrincipal`.
        case tunnel(serverPrincipal: PrincipalID)
        /// A captured connection of this node to `destinationWorkload`, which the route led to.
        case sameNode(destinationWorkload: WorkloadID)
    }

    /// Authenticated by TLS, or by the kernel for a workload of this node.
    package var clientPrincipal: PrincipalID
    /// The peer node of the tunnel, or this node.
    package var clientNode: NodeID
    /// Address and port of the application: the authority of the stream, or the endpoint.
    package var destination: SocketAddress
    package var channel: Channel
    /// The configured one; the mesh's other ports are fixed.
    package var tunnelPort: UInt16

    package init(
        clientPrincipal: PrincipalID, clientNode: NodeID, destination: SocketAddress, channel: Channel,
        tunnelPort: UInt16 = MeshPort.tunnel
    ) {
        self.clientPrincipal = clientPrincipal
        self.clientNode = clientNode
        self.destination = destination
        self.channel = channel
        self.tunnelPort = tunnelPort
    }
}

/// The proof that a connection was judged and allowed: no stream to an application can be opened without one, and
/// only `authorize` makes them.
package struct Permit: Hashable, Sendable {
    package let clientPrincipal: PrincipalID
    package let clientNode: NodeID
    package let destination: SocketAddress
    /// The workload of this node that is to be dialled.
    package let destinationWorkload: WorkloadID
    /// Of the snapshot that it was judged by: a newer one means judging again.
    package let policyGeneration: UInt32
    /// What allowed it.
    package let rule: String

    fileprivate init(
        _ facts: ConnectionFacts, destinationWorkload: WorkloadID, policyGeneration: UInt32, rule: String
    ) {
        clientPrincipal = facts.clientPrincipal
        clientNode = facts.clientNode
        destination = facts.destination
        self.destinationWorkload = destinationWorkload
        self.policyGeneration = policyGeneration
        self.rule = rule
    }
}

/// Why something is not allowed.
package struct Denial: Error, Hashable, Sendable {
    package let reason: Reason
    /// What decided: the name of a policy's rule, or of a built-in one.
    package let rule: String

    package init(reason: Reason, rule: String) {
        self.reason = reason
        self.rule = rule
    }
}

package enum Decision: Hashable, Sendable {
    case allowed(Permit)
    case denied(Denial)
}

/// Judges one connection.
package func authorize(_ facts: ConnectionFacts, _ snapshot: Snapshot) -> Decision {
    if let denial = membershipDenial(facts.clientPrincipal, on: facts.clientNode, snapshot) { return .denied(denial) }
    if facts.destination.port == facts.tunnelPort || MeshPort.fixed.contains(facts.destination.port) {
        return .denied(Denial(reason: .MESH_REASON_AUTHORITY_MESH_PORT, rule: BuiltInRule.meshPort))
    }
    switch destinationWorkload(facts, snapshot) {
    case .failure(let denial): return .denied(denial)
    case .success(let workload):
        return .allowed(
            Permit(
                facts, destinationWorkload: workload, policyGeneration: snapshot.policyGeneration,
                rule: BuiltInRule.noPolicy))
    }
}

/// Names of rules that no policy declares.
package enum BuiltInRule {
    /// No policy selects the destination: whoever is in the mesh may call it.
    package static let noPolicy = "no-policy"
    /// A principal is let in only from nodes where the snapshot places it.
    package static let membership = "membership"
    /// A tunnel must come from a known node.
    package static let knownNode = "known-node"
    /// A destination must be an endpoint of this node under the principal that this node presented.
    package static let destination = "destination"
    /// No port of the mesh itself is a destination.
    package static let meshPort = "mesh-port"
}

// MARK: private

func membershipDenial(_ principal: PrincipalID, on node: NodeID, _ snapshot: Snapshot) -> Denial? {
    if principal == .none || snapshot.isPlaced(principal, on: node) == false {
        let isKnown = principal != .none && snapshot.isKnown(principal)
        return Denial(
            reason: isKnown ? .MESH_REASON_PRINCIPAL_NOT_ON_NODE : .MESH_REASON_PRINCIPAL_UNKNOWN,
            rule: BuiltInRule.membership)
    }
    return nil
}

private func destinationWorkload(_ facts: ConnectionFacts, _ snapshot: Snapshot) -> Result<WorkloadID, Denial> {
    let reason: Reason
    switch facts.channel {
    case .tunnel(let serverPrincipal):
        if let workload = snapshot.localEndpoint(principal: serverPrincipal, destination: facts.destination) {
            return .success(workload)
        }
        reason =
            snapshot.isDestinationKnownLocally(facts.destination)
            ? .MESH_REASON_AUTHORITY_PRINCIPAL_MISMATCH : .MESH_REASON_AUTHORITY_UNKNOWN
    case .sameNode(let workload):
        // The route may come from an older snapshot: the workload may have stopped meanwhile, or lost the address.
        if let view = snapshot.workload(workload), view.isRunning,
            view.address(isIPv6: !facts.destination.address.isIPv4) == facts.destination.address
        {
            return .success(workload)
        }
        reason = .MESH_REASON_NO_ROUTE
    }
    return .failure(Denial(reason: reason, rule: BuiltInRule.destination))
}
