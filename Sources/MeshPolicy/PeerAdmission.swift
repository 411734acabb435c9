import CMeshABI
package import MeshModel

/// Who is at the other end of a tunnel that a peer opened.
package struct TunnelPeer: Hashable, Sendable {
    package let principal: PrincipalID
    package let node: NodeID

    /// Only for a peer that was admitted: `admit` makes them, and whoever keeps its numbers.
    package init(principal: PrincipalID, node: NodeID) {
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
        return .failure(Denial(reason: .MESH_REASON_PRINCIPAL_UNKNOWN, .membership))
    }
    guard let node = snapshot.node(withTunnelAddress: address.socketAddress.address) else {
        return .failure(Denial(reason: .MESH_REASON_PEER_NODE_UNKNOWN, .knownNode))
    }
    if let denial = membershipDenial(principal, on: node, snapshot) { return .failure(denial) }
    return .success(TunnelPeer(principal: principal, node: node))
}

/// The client address that policies judge and that the application is shown. `claimed` is the peer's word: it is taken only if the snapshot
/// gives that address to a workload of the client's principal on the client's node, and never for an address that
/// means something special to the application. Else it is the peer node's address, in the destination's family if
/// the node has one.
package func presentedClient(
    claimed: SocketAddress?, peer: PeerAddress, client: TunnelPeer, destination: SocketAddress, _ snapshot: Snapshot
) -> SocketAddress {
    guard let claimed, claimed.port != 0, claimed.address != destination.address,
        !claimed.address.isLoopback, !claimed.address.isLinkLocal, !claimed.address.isMulticast,
        !claimed.address.isUnspecified,
        // An application's socket has one family; a client of the other can't be shown on it.
        claimed.address.isIPv4 == destination.address.isIPv4,
        snapshot.owns(client.principal, address: claimed.address, on: client.node)
    else { return nodeAddress(peer: peer, node: client.node, isIPv6: !destination.address.isIPv4, snapshot) }
    return claimed
}

// MARK: private

private func nodeAddress(
    peer: PeerAddress, node: NodeID, isIPv6: Bool, _ snapshot: Snapshot
) -> SocketAddress {
    guard peer.socketAddress.address.isIPv4 == isIPv6,
        let address = snapshot.node(node)?.tunnelAddress(isIPv6: isIPv6)
    else { return peer.socketAddress }
    return SocketAddress(address, peer.socketAddress.port)
}
