import CLinux
import Glibc
import MeshModel

/// Sockets of the applications at both ends.
enum GuardSocket {
    static func endpoint(_ address: SocketAddress) -> clinux_endpoint {
        clinux_endpoint(high: address.address.high, low: address.address.low, port: address.port)
    }

    static func local(of descriptor: Int32) -> SocketAddress {
        var endpoint = clinux_endpoint()
        _ = clinux_local_endpoint(descriptor, &endpoint)
        return SocketAddress(IPAddress(high: endpoint.high, low: endpoint.low), endpoint.port)
    }

    static func listening(_ address: SocketAddress) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        _ = clinux_tcp_set_option(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        var endpoint = endpoint(address)
        guard clinux_bind_endpoint(descriptor, &endpoint, 0) == 0, listen(descriptor, 1_024) == 0 else {
            throw GuardFailure("cannot listen: error \(errno)")
        }
        return descriptor
    }

    static func connect(_ address: SocketAddress, from source: SocketAddress? = nil) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if let source {
            var endpoint = endpoint(source)
            guard clinux_bind_endpoint(descriptor, &endpoint, 0) == 0 else { throw GuardFailure("bind: \(errno)") }
        }
        var endpoint = endpoint(address)
        let code = clinux_connect_endpoint(descriptor, &endpoint, 0)
        guard code == 0 else { throw GuardFailure("connect: error \(code)") }
        _ = clinux_tcp_set_option(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        return descriptor
    }

    static func accept(_ listener: Int32) throws -> Int32 {
        let descriptor = Glibc.accept(listener, nil, nil)
        guard descriptor >= 0 else { throw GuardFailure("accept: error \(errno)") }
        _ = clinux_tcp_set_option(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        return descriptor
    }
}
