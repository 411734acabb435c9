import LinuxIO
import MeshModel
import ProxyControl

/// What one proxy has asked for of dial sockets, and still waits for. One that drains goes on dialling for what it has.
final class DialSupply {
    let process: ProxyProcess
    /// Pools that had their first filling.
    private var filled: Set<DialPool> = []
    private(set) var outstanding: [DialPool: UInt32] = [:]

    /// `filled`: what an adopted proxy has from before.
    init(_ process: ProxyProcess, filled: Set<DialPool> = []) {
        self.process = process
        self.filled = filled
    }

    func fillFirst(_ pool: DialPool, count: UInt32) {
        if filled.insert(pool).inserted { outstanding[pool] = count }
    }

    func need(_ pool: DialPool, count: UInt32, max: UInt32) {
        outstanding[pool] = min((outstanding[pool] ?? 0) + min(count, max), max)
    }

    func delivered(_ pool: DialPool, _ count: UInt32) {
        guard let wanted = outstanding[pool] else { return }
        outstanding[pool] = wanted > count ? wanted - count : nil
    }

    func forget(_ id: NetworkNamespaceID) {
        filled = filled.filter { $0.networkNamespace != id }
        outstanding = outstanding.filter { $0.key.networkNamespace != id }
    }
}
