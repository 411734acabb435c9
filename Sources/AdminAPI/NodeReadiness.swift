package import MeshModel

/// Whether connections of a node's workloads can be carried, and by tunnels of peer nodes to them: what the readiness
/// probe, `status` and the service manager are told.
package enum NodeReadiness: Equatable, Sendable {
    case ready
    case notReady(String)

    /// `problem`: of the last attempt to make a snapshot.
    package init(
        node: String, snapshot: Snapshot?, problem: String?, isProxyConnected: Bool, proxySnapshotVersion: UInt64
    ) {
        guard let snapshot else {
            self = .notReady("no snapshot: \(problem ?? "nothing read yet")")
            return
        }
        // A node without a resource is in the snapshot too, without an address.
        guard let view = snapshot.node(snapshot.localNode), !view.tunnelAddresses.isEmpty else {
            self = .notReady("there is no Node resource named \(node) with a tunnel address: no peer node can reach it")
            return
        }
        guard isProxyConnected else {
            self = .notReady("the proxy is not connected")
            return
        }
        self = proxySnapshotVersion > 0 ? .ready : .notReady("the proxy has no snapshot yet")
    }

    package var isReady: Bool { self == .ready }

    package var reason: String {
        switch self {
        case .ready: "ready"
        case .notReady(let reason): reason
        }
    }
}
