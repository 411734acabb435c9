import CMeshABI
package import MeshModel

/// What is kept of a connection that this node allowed, to judge it again when policies change.
package struct LiveConnection: Hashable, Sendable {
    package var source: IPAddress
    package var destination: SocketAddress
    /// `.none` for nobody.
    package var principal: PrincipalID
    /// Of this node; `.none` for a connection that another node judges.
    package var workload: WorkloadID
    package var isPlaintext: Bool

    /// A connection that another node judges.
    package init() {
        source = .unspecified
        destination = SocketAddress(.unspecified, 0)
        principal = .none
        workload = .none
        isPlaintext = false
    }

    package init(_ permit: Permit, source: IPAddress, isPlaintext: Bool = false) {
        self.source = source
        destination = permit.destination
        principal = permit.clientPrincipal
        workload = permit.destinationWorkload
        self.isPlaintext = isPlaintext
    }
}

/// Whether a connection that was allowed is denied by now. Where it leads was settled when it began; only policies and
/// modes are looked at again, so that what they still allow is left alone.
package func denial(of live: LiveConnection, _ snapshot: Snapshot) -> Denial? {
    guard live.workload != .none else { return nil }
    guard snapshot.workload(live.workload) != nil else {
        return Denial(reason: .MESH_REASON_WORKLOAD_GONE, .destination)
    }
    if live.isPlaintext, let denial = plaintextDenial(live.source, to: live.workload, live.destination.port, snapshot) {
        return denial
    }
    let subject = PolicySubject(
        principal: live.isPlaintext ? .none : live.principal, source: live.source, destination: live.destination)
    guard case .denied(let rule) = policyVerdict(subject, live.workload, snapshot) else { return nil }
    return Denial(reason: .MESH_REASON_POLICY_DENIED, rule: rule)
}
