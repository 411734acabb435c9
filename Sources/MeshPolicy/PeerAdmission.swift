import CMeshABI
package import MeshModel

/// Who is at the other end of a tunnel that a peer opened.
package struct TunnelPeer: Hashable, Sendable {
    package let principal: PrincipalID
    package let node: NodeID

    fileprivate init(principal: PrincipalID, node: NodeID) {
        self.principal = principal
        self.node = node
    }
}

/// Judges a tunnel's client after its certificate was verified: its node is the one that the connection comes from,
/// and its principal must be placed there. To be asked again for every newer policy generation.
package func admit(
    clientPrincipal uri: String, from address: PeerAddress, _ snapshot: Snapshot
) -> Result<TunnelPeer, Denial> {
    guard let principal = snapshot.principalID(of: uri) else {
        return .failure(Denial(reason: .MESH_REASON_PRINCIPAL_UNKNOWN, rule: BuiltInRule.membership))
    }
    guard let node = snapshot.node(withTunnelAddress: address.socketAddress.address) else {
        return .failure(Denial(reason: .MESH_REASON_PEER_NODE_UNKNOWN, rule: BuiltInRule.knownNode))
    }
    if let denial = membershipDenial(principal, on: node, snapshot) { return .failure(denial) }
    return .success(TunnelPeer(principal: principal, node: node))
}

/// The client address that the application is shown. `claimed` is the peer's word: it is taken only if the snapshot
/// gives that address to a workload of the client's principal on the client's node, and never for an address that
/// means something special to the application. Else it is the peer node's address, in the destination's family if
/// the node has one.
package func presentedClient(
    claimed: SocketAddress?, peer: PeerAddress, permit: Permit, _ snapshot: Snapshot
) -> SocketAddress {
    guard let claimed, claimed.port != 0, claimed.address != permit.destination.address,
        !claimed.address.isLoopback, !claimed.address.isLinkLocal, !claimed.address.isMulticast,
        !claimed.address.isUnspecified,
        // An application's socket has one family; a client of the other can't be shown on it.
        claimed.address.isIPv4 == permit.destination.address.isIPv4,
        snapshot.owns(permit.clientPrincipal, address: claimed.address, on: permit.clientNode)
    else { return nodeAddress(peer: peer, permit: permit, snapshot) }
    return claimed
}

// MARK: private

private func nodeAddress(peer: PeerAddress, permit: Permit, _ snapshot: Snapshot) -> SocketAddress {
    let isIPv6 = !permit.destination.address.isIPv4
    guard peer.socketAddress.address.isIPv4 == isIPv6,
        let address = snapshot.node(permit.clientNode)?.tunnelAddress(isIPv6: isIPv6)
    else { return peer.socketAddress }
    return SocketAddress(address, peer.socketAddress.port)
}
