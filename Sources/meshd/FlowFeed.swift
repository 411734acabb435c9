import CMeshABI
import MeshModel
import ProxyControl

final class FlowFeed {
    var snapshot: Snapshot?
    init(log: DaemonLog) {}
    func take(_ event: mesh_event) {}
    func take(_ message: ProxyMessage) {}
    func proxyConnected() {}
    func proxyEnded() {}
}
