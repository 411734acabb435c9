package import CMeshABI

/// An address and a TCP port, in host order.
package struct SocketAddress: Hashable, Sendable {
    package var address: IPAddress
    package var port: UInt16

    package init(_ address: IPAddress, _ port: UInt16) {
        self.address = address
        self.port = port
    }

    package init(_ endpoint: mesh_endpoint) {
        self.init(IPAddress(endpoint.address), UInt16(bigEndian: endpoint.port_be))
    }

    package var meshEndpoint: mesh_endpoint {
        mesh_endpoint(address: address.meshAddress, port_be: port.bigEndian, reserved: 0)
    }
}

/// Where the application meant to connect, before the kernel side rewrote it.
package struct OriginalDestination: Hashable, Sendable {
    package var socketAddress: SocketAddress
    package init(_ socketAddress: SocketAddress) { self.socketAddress = socketAddress }
}

/// What is dialled on behalf of a connection: an application's address, or a node's tunnel port.
package struct UpstreamAddress: Hashable, Sendable {
    package var socketAddress: SocketAddress
    package init(_ socketAddress: SocketAddress) { self.socketAddress = socketAddress }
}

/// The far end of a tunnel, as the kernel reports it.
package struct PeerAddress: Hashable, Sendable {
    package var socketAddress: SocketAddress
    package init(_ socketAddress: SocketAddress) { self.socketAddress = socketAddress }
}
