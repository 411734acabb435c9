import CMeshABI

/// TCP ports that belong to the mesh: no application binds them, no stream leads to them.
package enum MeshPort {
    /// Captured connections, on loopback.
    package static let outbound: UInt16 = 15001
    package static let inbound: UInt16 = 15006
    /// The default of `tunnel.port`.
    package static let tunnel: UInt16 = 15008
    package static let dns: UInt16 = 15053
    /// For IPv6, which has one loopback address, each resolver that a socket asks has a port.
    package static let names: [UInt16] = (0..<UInt16(MESH_RESOLVERS_MAX)).map { dns + $0 }

    /// Those that configuration does not move.
    package static let fixed: [UInt16] = [outbound, inbound, dns]
}
