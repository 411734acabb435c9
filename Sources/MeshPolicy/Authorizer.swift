// MeshPolicy decides who may talk to whom: pure functions of what is known about a peer or a connection and of the
// snapshot. It opens, closes, counts and logs nothing; the data plane does, with the Permit or the Denial that it
// gets. Nothing here allocates: what rules compare is compiled into the snapshot, and a decision looks only at the
// policies that select its destination.

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
        /// From outside the mesh, captured on its way to `destinationWorkload`: its client is nobody.
        case plaintext(destinationWorkload: WorkloadID)
    }

    /// Authenticated by TLS, or by the kernel for a workload of this node; none for plain text.
    package var clientPrincipal: PrincipalID
    /// The peer node of the tunnel, or this node.
    package var clientNode: NodeID
    /// The client as the application is shown it: an address that the snapshot gives to the client's principal, or that
    /// the connection really comes from.
    package var source: SocketAddress
    /// Address and port of the application: the authority of the stream, or the endpoint.
    package var destination: SocketAddress
    package var channel: Channel
    /// The configured one; the mesh's other ports are fixed.
    package var tunnelPort: UInt16

    package init(
        clientPrincipal: PrincipalID, clientNode: NodeID, source: SocketAddress, destination: SocketAddress,
        channel: Channel, tunnelPort: UInt16 = MeshPort.tunnel
    ) {
        self.clientPrincipal = clientPrincipal
        self.clientNode = clientNode
        self.source = source
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
    package let rule: DecidingRule
    /// What would deny it if the policies on trial were enforced.
    package let dryRunDenial: DecidingRule?

    fileprivate init(
        _ facts: ConnectionFacts, destinationWorkload: WorkloadID, policyGeneration: UInt32, rule: DecidingRule,
        dryRunDenial: DecidingRule?
    ) {
        clientPrincipal = facts.clientPrincipal
        clientNode = facts.clientNode
        destination = facts.destination
        self.destinationWorkload = destinationWorkload
        self.policyGeneration = policyGeneration
        self.rule = rule
        self.dryRunDenial = dryRunDenial
    }
}

/// Why something is not allowed.
package struct Denial: Error, Hashable, Sendable {
    package let reason: Reason
    /// What decided.
    package let rule: DecidingRule

    package init(reason: Reason, rule: DecidingRule) {
        self.reason = reason
        self.rule = rule
    }

    init(reason: Reason, _ rule: BuiltInRule) { self.init(reason: reason, rule: .builtIn(rule)) }
}

package enum Decision: Hashable, Sendable {
    case allowed(Permit)
    case denied(Denial)
}

/// Judges one connection.
package func authorize(_ facts: ConnectionFacts, _ snapshot: Snapshot) -> Decision {
    var principal = facts.clientPrincipal
    if case .plaintext = facts.channel {
        principal = .none
    } else if let denial = membershipDenial(principal, on: facts.clientNode, snapshot) {
        return .denied(denial)
    }
    if facts.destination.port == facts.tunnelPort || MeshPort.fixed.contains(facts.destination.port) {
        return .denied(Denial(reason: .MESH_REASON_AUTHORITY_MESH_PORT, .meshPort))
    }
    let workload: WorkloadID
    switch destinationWorkload(facts, snapshot) {
    case .failure(let denial): return .denied(denial)
    case .success(let found): workload = found
    }
    let subject = PolicySubject(
        principal: principal, source: facts.source.address, destination: facts.destination)
    switch policyVerdict(subject, workload, snapshot) {
    case .denied(let rule): return .denied(Denial(reason: .MESH_REASON_POLICY_DENIED, rule: rule))
    case .allowed(let rule, let dryRunDenial):
        return .allowed(
            Permit(
                facts, destinationWorkload: workload, policyGeneration: snapshot.policyGeneration, rule: rule,
                dryRunDenial: dryRunDenial))
    }
}

// MARK: private

func membershipDenial(_ principal: PrincipalID, on node: NodeID, _ snapshot: Snapshot) -> Denial? {
    if principal == .none || snapshot.isPlaced(principal, on: node) == false {
        let isKnown = principal != .none && snapshot.isKnown(principal)
        return Denial(
            reason: isKnown ? .MESH_REASON_PRINCIPAL_NOT_ON_NODE : .MESH_REASON_PRINCIPAL_UNKNOWN, .membership)
    }
    return nil
}

/// What the mode of a port says to a client that is nobody.
func plaintextDenial(
    _ source: IPAddress, to workload: WorkloadID, _ port: UInt16, _ snapshot: Snapshot
) -> Denial? {
    if snapshot.inboundMode(of: workload, port: port) == .permissive
        || snapshot.isExempt(source, to: workload, port: port)
    {
        return nil
    }
    return Denial(reason: .MESH_REASON_PLAINTEXT_REFUSED, .strict)
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
    case .plaintext(let workload):
        // The kernel found it by its listener, whatever address of its network namespace was called.
        guard let view = snapshot.workload(workload), view.isRunning else {
            return .failure(Denial(reason: .MESH_REASON_NO_ROUTE, .destination))
        }
        let denial = plaintextDenial(facts.source.address, to: workload, facts.destination.port, snapshot)
        return denial.map { .failure($0) } ?? .success(workload)
    }
    return .failure(Denial(reason: reason, .destination))
}
