import MeshModel

/// What meshd asks of the socket maker; one descriptor of a network namespace comes beside it (none: the maker's own).
enum SocketRequest: Equatable, Sendable {
    /// Makes the namespace fit for the mesh: reserves the ports against autobind and brings loopback up.
    case prepare(reservedPorts: [UInt16])
    /// `count` listeners on one address, each for a loop of its own.
    case listeners(SocketAddress, isDatagram: Bool, namespace: NetworkNamespaceID, count: UInt16)
    /// `count` unconnected sockets.
    case dialSockets(purpose: UInt32, isDatagram: Bool, isIPv6: Bool, namespace: NetworkNamespaceID, count: UInt16)

    /// As many descriptors as fit a message.
    static let socketsMax: UInt16 = 128
    static let portsMax = 16

    private static let size = 64

    /// For messages to people.
    var summary: String {
        switch self {
        case .prepare: "loopback and reserved ports"
        case .listeners(let address, _, _, _): "listener on \(address)"
        case .dialSockets(_, _, let isIPv6, let namespace, _):
            "dial socket (IPv\(isIPv6 ? 6 : 4), network namespace \(namespace.rawValue))"
        }
    }

    // Fixed layout, host byte order: both ends are forks of one binary on one machine. kind, family and type, count,
    // namespace, address, port, purpose, then ports.
    func encode() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Self.size)
        bytes.withUnsafeMutableBytes { raw in
            switch self {
            case .prepare(let ports):
                raw.storeBytes(of: 1, toByteOffset: 0, as: UInt8.self)
                raw.storeBytes(of: UInt16(min(ports.count, Self.portsMax)), toByteOffset: 2, as: UInt16.self)
                for (index, port) in ports.prefix(Self.portsMax).enumerated() {
                    raw.storeBytes(of: port, toByteOffset: 32 + 2 * index, as: UInt16.self)
                }
            case .listeners(let address, let isDatagram, let namespace, let count):
                raw.storeBytes(of: 2, toByteOffset: 0, as: UInt8.self)
                raw.storeBytes(of: isDatagram ? 2 : 0, toByteOffset: 1, as: UInt8.self)
                raw.storeBytes(of: count, toByteOffset: 2, as: UInt16.self)
                raw.storeBytes(of: namespace.rawValue, toByteOffset: 4, as: UInt32.self)
                raw.storeBytes(of: address.address.high, toByteOffset: 8, as: UInt64.self)
                raw.storeBytes(of: address.address.low, toByteOffset: 16, as: UInt64.self)
                raw.storeBytes(of: address.port, toByteOffset: 24, as: UInt16.self)
            case .dialSockets(let purpose, let isDatagram, let isIPv6, let namespace, let count):
                raw.storeBytes(of: 3, toByteOffset: 0, as: UInt8.self)
                raw.storeBytes(of: (isIPv6 ? 1 : 0) | (isDatagram ? 2 : 0), toByteOffset: 1, as: UInt8.self)
                raw.storeBytes(of: count, toByteOffset: 2, as: UInt16.self)
                raw.storeBytes(of: namespace.rawValue, toByteOffset: 4, as: UInt32.self)
                raw.storeBytes(of: purpose, toByteOffset: 28, as: UInt32.self)
            }
        }
        return bytes
    }

    /// nil for what no meshd sends.
    init?(decoding raw: UnsafeRawBufferPointer) {
        guard raw.count == Self.size else { return nil }
        let count = raw.load(fromByteOffset: 2, as: UInt16.self)
        let namespace = NetworkNamespaceID(rawValue: raw.load(fromByteOffset: 4, as: UInt32.self))
        switch raw[0] {
        case 1:
            guard count <= Self.portsMax else { return nil }
            self = .prepare(
                reservedPorts: (0..<Int(count)).map { raw.load(fromByteOffset: 32 + 2 * $0, as: UInt16.self) })
        case 2 where (1...Self.socketsMax).contains(count):
            let address = IPAddress(
                high: raw.load(fromByteOffset: 8, as: UInt64.self), low: raw.load(fromByteOffset: 16, as: UInt64.self))
            self = .listeners(
                SocketAddress(address, raw.load(fromByteOffset: 24, as: UInt16.self)), isDatagram: raw[1] & 2 != 0,
                namespace: namespace, count: count)
        case 3 where (1...Self.socketsMax).contains(count):
            self = .dialSockets(
                purpose: raw.load(fromByteOffset: 28, as: UInt32.self), isDatagram: raw[1] & 2 != 0,
                isIPv6: raw[1] & 1 != 0, namespace: namespace, count: count)
        default: return nil
        }
    }
}

/// The maker's answer; the sockets come beside it.
struct SocketReply {
    /// Of the namespace that the sockets are in.
    var cookie: UInt64 = 0
    /// 0, or the errno of the call `failedCall`.
    var code: Int32 = 0
    var failedCall = ""

    func encode() -> [UInt8] {
        var bytes = withUnsafeBytes(of: cookie) { Array($0) }
        bytes += withUnsafeBytes(of: code) { Array($0) }
        return bytes + failedCall.utf8.prefix(200)
    }

    init() {}

    init?(decoding raw: UnsafeRawBufferPointer) {
        guard raw.count >= 12, raw.count <= 256 else { return nil }
        cookie = raw.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
        code = raw.loadUnaligned(fromByteOffset: 8, as: Int32.self)
        failedCall = String(decoding: raw[12...], as: UTF8.self)
    }
}
