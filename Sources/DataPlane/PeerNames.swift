import HBONE
import MeshModel

/// What workloads and services are called in requests to peers: text that is the same for all streams, so made once for
/// each snapshot and loop. For the peer's telemetry; nobody decides by it.
struct PeerNames {
    fileprivate var baggage: [WorkloadID: String] = [:]
    fileprivate var hosts: [ServiceID: String] = [:]
}

extension UnsafeMutablePointer<LoopState> {
    /// The `baggage` header of a workload's requests.
    func baggage(of id: WorkloadID) -> String? {
        if let known = pointee.peerNames.baggage[id] { return known }
        guard let workload = pointee.snapshot?.workload(id) else { return nil }
        let text = Baggage(workload, cluster: pointee.settings.cluster).description
        pointee.peerNames.baggage[id] = text
        return text
    }

    /// The `host` of the `forwarded` header: the service that the application meant, if it meant one.
    func host(of id: ServiceID) -> String? {
        guard id != .none else { return nil }
        if let known = pointee.peerNames.hosts[id] { return known }
        guard let service = pointee.snapshot?.service(id) else { return nil }
        let text = "\(service.name).\(service.namespace)"
        pointee.peerNames.hosts[id] = text
        return text
    }
}
