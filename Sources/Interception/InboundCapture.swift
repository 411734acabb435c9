import LinuxIO
package import MeshModel

/// Keeps capture_inbound at work in every network namespace with workloads, and in no other. A workload whose namespace
/// it does not get into is not made ready, and named.
package final class InboundCapture {
    private let tables: InboundTables
    private let namespaces: NamespaceTable
    /// Cookies of the namespaces that this meshd has seen to.
    private var atWork: Set<UInt64> = []
    private var failures: [NetworkNamespaceID: IOError] = [:]

    package init(_ tables: InboundTables, namespaces: NamespaceTable) {
        self.tables = tables
        self.namespaces = namespaces
    }

    package var problems: [String] {
        failures.sorted { $0.key.rawValue < $1.key.rawValue }.map {
            "plain text to workloads of network namespace \($0.key.rawValue) is not captured, they stay refused: \($0.value)"
        }
    }

    /// Whether connections that come to the namespace's workloads are judged.
    package func isAtWork(in id: NetworkNamespaceID) -> Bool { failures[id] == nil }

    /// Makes it so. `wanted`: the namespaces that workloads live in.
    package func update(_ wanted: Set<NetworkNamespaceID>) {
        failures = failures.filter { wanted.contains($0.key) }
        var cookies: Set<UInt64> = []
        for id in wanted {
            guard let cookie = namespaces.cookie(of: id) else { continue }
            cookies.insert(cookie)
            // A namespace can't be opened any more once its processes have ended.
            if atWork.contains(cookie) { continue }
            do throws(IOError) {
                try tables.attach(cookie, try namespaces.open(id))
                atWork.insert(cookie)
                failures[id] = nil
            } catch {
                failures[id] = error
            }
        }
        for cookie in tables.attached().subtracting(cookies) { detach(cookie) }
    }

    package func namespaceGone(cookie: UInt64?) {
        guard let cookie else { return }
        detach(cookie)
        try? tables.forgetBeat(cookie)
    }

    private func detach(_ cookie: UInt64) {
        atWork.remove(cookie)
        tables.detach(cookie)
    }
}
