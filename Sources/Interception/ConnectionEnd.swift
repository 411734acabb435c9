import CLinux
import Glibc
package import LinuxIO
package import MeshModel

/// Ends a TCP connection from outside, as a reset does: both ends notice. In the calling thread's network namespace.
package enum ConnectionEnd {
    /// The addresses are as the socket sees them. `cookie` keeps from ending another one that took them meanwhile.
    /// False when it is gone already.
    package static func destroy(
        local: SocketAddress, remote: SocketAddress, device: UInt32 = 0, cookie: UInt64
    ) throws(IOError) -> Bool {
        var source = clinux_endpoint(local)
        var destination = clinux_endpoint(remote)
        switch clinux_destroy_tcp(&source, &destination, device, cookie) {
        case 0: return true
        case ENOENT: return false
        case let code: throw IOError("SOCK_DESTROY", code: code, object: "\(local)-\(remote)")
        }
    }
}

extension ConnectionEnd {
    /// The same where it is not known whether the socket is bound to a device, by which the kernel then looks for it.
    package static func destroyAnywhere(
        local: SocketAddress, remote: SocketAddress, cookie: UInt64
    ) throws(IOError) -> Bool {
        if try destroy(local: local, remote: remote, cookie: cookie) { return true }
        for device in devices() {
            if try destroy(local: local, remote: remote, device: device, cookie: cookie) { return true }
        }
        return false
    }

    private static func devices() -> [UInt32] {
        guard let list = if_nameindex() else { return [] }
        defer { if_freenameindex(list) }
        var numbers: [UInt32] = []
        var next = list
        while next.pointee.if_index != 0 {
            numbers.append(next.pointee.if_index)
            next += 1
        }
        return numbers
    }
}

extension clinux_endpoint {
    fileprivate init(_ address: SocketAddress) {
        self.init(high: address.address.high, low: address.address.low, port: address.port)
    }
}
