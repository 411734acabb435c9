import CLinux
import Glibc
import LinuxIO
import MeshModel
import ProxyControl

/// What a listener is for: one socket each.
struct ListenerKey: Hashable {
    var kind: ListenerDescription.Kind
    var networkNamespace: NetworkNamespaceID
    var address: SocketAddress
    var loop: UInt16

    init(_ description: ListenerDescription) {
        kind = description.kind
        networkNamespace = description.networkNamespace
        address = description.address
        loop = description.loop
    }

    init(
        kind: ListenerDescription.Kind, networkNamespace: NetworkNamespaceID, address: SocketAddress, loop: UInt16
    ) {
        self.kind = kind
        self.networkNamespace = networkNamespace
        self.address = address
        self.loop = loop
    }

    /// The same place, whatever loop serves it.
    var place: ListenerKey { ListenerKey(kind: kind, networkNamespace: networkNamespace, address: address, loop: 0) }

    func description(id: UInt32) -> ListenerDescription {
        ListenerDescription(id: id, kind: kind, networkNamespace: networkNamespace, address: address, loop: loop)
    }
}

/// meshd's own duplicates of the proxy's listeners: so that they and what waits in them outlive a proxy, and the next
/// one serves the very same sockets. Nothing is ever accepted here.
struct ListenerStore {
    private final class Held {
        let number: UInt32
        let descriptor: FileDescriptor

        init(number: UInt32, _ descriptor: consuming FileDescriptor) {
            self.number = number
            self.descriptor = descriptor
        }
    }

    private var held: [ListenerKey: Held] = [:]

    var keys: Set<ListenerKey> { Set(held.keys) }
    var isEmpty: Bool { held.isEmpty }

    func has(_ key: ListenerKey) -> Bool { held[key] != nil }

    /// `number`: the proxies' name for it.
    mutating func keep(_ key: ListenerKey, number: UInt32, _ descriptor: consuming FileDescriptor) {
        held[key] = Held(number: number, descriptor)
    }

    func number(of key: ListenerKey) -> UInt32? { held[key]?.number }

    /// A copy for a proxy.
    func copy(_ key: ListenerKey) -> FileDescriptor? {
        guard let held = held[key] else { return nil }
        return try? held.descriptor.duplicate()
    }

    /// Closes here; proxies may still have it.
    mutating func drop(where matches: (ListenerKey) -> Bool) { held = held.filter { !matches($0.key) } }

    /// Whether the descriptor, which comes from a less trusted process, is what it is said to be: a socket on that
    /// address in the network namespace with that cookie, listening if it is TCP.
    static func isTrue(
        _ descriptor: borrowing FileDescriptor, _ description: ListenerDescription, cookie: UInt64
    ) -> Bool {
        let number = descriptor.number
        var endpoint = clinux_endpoint()
        var actual: UInt64 = 0
        guard clinux_local_endpoint(number, &endpoint) == 0,
            clinux_network_namespace_cookie(number, &actual) == 0, actual == cookie,
            SocketAddress(IPAddress(high: endpoint.high, low: endpoint.low), endpoint.port) == description.address
        else { return false }
        let isStream = option(number, SO_TYPE) == Int32(SOCK_STREAM.rawValue)
        return !isStream || option(number, SO_ACCEPTCONN) == 1
    }

    private static func option(_ number: Int32, _ name: Int32) -> Int32 {
        var value: Int32 = -1
        var size = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(number, SOL_SOCKET, name, &value, &size) == 0 ? value : -1
    }
}
