import CLinux
import CMeshABI
import Glibc
import LinuxIO
import MeshModel

/// Asks whether a connection from one address to another really arrives in the network namespace that it is meant for,
/// untranslated: a SYN of meshd's own, vouched as a probe, which capture_inbound notes in the vouch and refuses. No
/// application hears of it.
struct DirectProbe: ~Copyable {
    private let socket: FileDescriptor
    private let tuple: mesh_tuple

    /// In the client's network namespace. `cookie` is that of the target's.
    init(
        from source: IPAddress, to target: DirectPlan.Target, cookie: UInt64, _ tables: DirectTables
    ) throws(IOError) {
        let isIPv6 = !source.isIPv4
        let number = clinux_tcp_socket(isIPv6 ? 1 : 0)
        guard number >= 0 else { throw .last("socket") }
        let socket = FileDescriptor(owning: number)
        var local = clinux_endpoint(high: source.high, low: source.low, port: 0)
        let bound = clinux_bind_endpoint(number, &local, isIPv6 ? 1 : 0)
        guard bound == 0 else { throw IOError("bind", code: bound, object: "\(source)") }
        guard clinux_local_endpoint(number, &local) == 0 else { throw .last("getsockname") }
        var tuple = mesh_tuple()
        tuple.netns_cookie = cookie
        tuple.local = source.meshAddress
        tuple.remote = target.address.address.meshAddress
        tuple.local_port_be = local.port.bigEndian
        tuple.remote_port_be = target.address.port.bigEndian
        var vouch = mesh_vouch()
        vouch.workload = target.workload.rawValue
        vouch.kind = UInt8(truncatingIfNeeded: mesh_vouch_kind.MESH_VOUCH_PROBE.rawValue)
        try tables.vouches.put(tuple, vouch)
        let address = target.address.address
        var remote = clinux_endpoint(high: address.high, low: address.low, port: target.address.port)
        let code = clinux_connect_endpoint(number, &remote, isIPv6 ? 1 : 0)
        if code != 0, code != EINPROGRESS, code != ECONNREFUSED {
            try tables.vouches.remove(tuple)
            throw IOError("connect", code: code, object: "\(target.address)")
        }
        self.socket = socket
        self.tuple = tuple
    }

    borrowing func hasArrived(_ tables: DirectTables) throws(IOError) -> Bool {
        try tables.vouches.get(tuple)?.has_arrived == 1
    }

    consuming func end(_ tables: DirectTables) throws(IOError) { try tables.vouches.remove(tuple) }

    /// What a meshd that ended in the middle left.
    static func forgetAll(_ tables: DirectTables) throws(IOError) {
        let probe = UInt8(truncatingIfNeeded: mesh_vouch_kind.MESH_VOUCH_PROBE.rawValue)
        for key in try tables.vouches.keys() where try tables.vouches.get(key)?.kind == probe {
            try tables.vouches.remove(key)
        }
    }
}
