import HBONE
import MeshModel
import MeshPolicy

// What a request's authority means on this node: an endpoint's address, or a service's host name as Istio's waypoints and
// gateways send it (`web.shop.svc.cluster.local:80`); and which service the client meant, for telemetry.

/// Where a stream wants to go.
struct StreamDestination {
    var address: SocketAddress
    /// The service that its authority names; `.none` for an address.
    var service: ServiceID
}

extension Snapshot {
    /// Nil for a name that no service here has, or none with an endpoint of `principal` on this node.
    func destination(of authority: Authority, principal: PrincipalID) -> StreamDestination? {
        switch authority {
        case .address(let address): return StreamDestination(address: address, service: .none)
        case .name(let host, let port):
            guard let id = serviceID(host: host), let endpoints = service(id)?.endpoints(port: port) else { return nil }
            for endpoint in endpoints {
                guard let workload = workload(endpoint.workload), workload.isLocal, workload.isRunning,
                    workload.principal == principal,
                    let address = workload.address(isIPv6: false) ?? workload.address(isIPv6: true)
                else { continue }
                return StreamDestination(address: SocketAddress(address, endpoint.targetPort), service: id)
            }
            return nil
        }
    }

    /// The service that the peer says its client meant, if what it was let in to is an endpoint of that; else `.none`.
    func meantService(_ forwarded: Forwarded?, _ permit: Permit) -> ServiceID {
        guard let host = forwarded?.host, let id = serviceID(host: host), let named = service(id) else { return .none }
        let isItsEndpoint = named.ports.contains { port in
            port.targetPort == permit.destination.port
                && named.endpoints(port: port.port).contains { $0.workload == permit.destinationWorkload }
        }
        return isItsEndpoint ? id : .none
    }

    /// The service behind `<service>.<namespace>`, with or without `.svc` and a domain behind that.
    private func serviceID(host: String) -> ServiceID? {
        var host = host
        return host.withUTF8 { text in
            let bytes = UnsafeRawBufferPointer(text)
            if let whole = service(named: bytes) { return whole }
            guard let end = Self.endOfShortName(bytes) else { return nil }
            return service(named: UnsafeRawBufferPointer(rebasing: bytes[..<end]))
        }
    }

    /// Where the label `svc` is cut off.
    private static func endOfShortName(_ host: UnsafeRawBufferPointer) -> Int? {
        let label = Array(".svc".utf8)
        guard host.count >= label.count else { return nil }
        return (0...(host.count - label.count)).first { start in
            let end = start + label.count
            return host[start..<end].elementsEqual(label) && (end == host.count || host[end] == UInt8(ascii: "."))
        }
    }
}
