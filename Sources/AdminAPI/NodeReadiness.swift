package import MeshModel

/// Whether connections of a node's workloads can be carried, and by tunnels of peer nodes to them: what the readiness
/// probe, `status` and the service manager are told.
package enum NodeReadiness: Equatable, Sendable {
    case ready
    case notReady(String)
    /// The node's own workloads are served, but no peer node can reach it.
    case alone(String)

    /// `problem`: of the last attempt to make a snapshot.
    package init(
        node: String, snapshot: Snapshot?, problem: String?, isProxyConnected: Bool, proxySnapshotVersion: UInt64
    ) {
        guard let snapshot else {
            self = .notReady("no snapshot: \(problem ?? "nothing read yet")")
            return
        }
        guard isProxyConnected else {
            self = .notReady("the proxy is not connected")
            return
        }
        guard proxySnapshotVersion > 0 else {
            self = .notReady("the proxy has no snapshot yet")
            return
        }
        // A node without a resource is in the snapshot too, without an address.
        guard let view = snapshot.node(snapshot.localNode), !view.tunnelAddresses.isEmpty else {
            self = .alone("there is no Node resource named \(node) with a tunnel address: no peer node can reach it")
            return
        }
        self = .ready
    }

    package var isReady: Bool { self == .ready }
    /// What a service manager waits for: a node without resources yet has started all the same.
    package var hasStarted: Bool {
        if case .notReady = self { return false }
        return true
    }

    package var reason: String {
        switch self {
        case .ready: "ready"
        case .notReady(let reason), .alone(let reason): reason
        }
    }
}
