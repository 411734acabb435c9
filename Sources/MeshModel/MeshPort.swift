/// TCP ports that belong to the mesh: no application binds them, no stream leads to them.
package enum MeshPort {
    /// Captured connections, on loopback.
    package static let outbound: UInt16 = 15001
    package static let inbound: UInt16 = 15006
    /// The default of `tunnel.port`.
    package static let tunnel: UInt16 = 15008
    package static let dns: UInt16 = 15053

    /// Those that configuration does not move.
    package static let fixed: [UInt16] = [outbound, inbound, dns]
}
