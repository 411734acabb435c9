import CLinux
import Glibc
import MeshModel

/// Socket calls of the byte path and of connection set-up. Descriptors are plain numbers here: each has exactly one
/// record that owns it (listener, tunnel, stream, relay end, dial store), which closes it.
enum Socket {
    static func peer(of descriptor: Int32) -> SocketAddress? {
        var endpoint = clinux_endpoint()
        guard clinux_peer_endpoint(descriptor, &endpoint) == 0 else { return nil }
        return SocketAddress(endpoint)
    }

    static func local(of descriptor: Int32) -> SocketAddress? {
        var endpoint = clinux_endpoint()
        guard clinux_local_endpoint(descriptor, &endpoint) == 0 else { return nil }
        return SocketAddress(endpoint)
    }

    /// 0 when connected at once, EINPROGRESS when under way, else why not.
    static func connect(_ descriptor: Int32, to address: SocketAddress, isIPv6: Bool) -> Int32 {
        var endpoint = address.endpoint
        return clinux_connect_endpoint(descriptor, &endpoint, isIPv6 ? 1 : 0)
    }

    static func error(of descriptor: Int32) -> Int32 { clinux_socket_error(descriptor) }
    /// Of a connect() that has ended. The kernel tells a failure as an error or a hang-up: without one it need not be
    /// asked.
    static func connectError(of descriptor: Int32, _ events: SocketEvents) -> Int32 {
        events.hasAny([.error, .hangup]) ? error(of: descriptor) : 0
    }
    static func cookie(of descriptor: Int32) -> UInt64 { clinux_socket_cookie(descriptor) }

    static func setNonBlocking(_ descriptor: Int32) {
        let flags = fcntl(descriptor, F_GETFL)
        if flags & O_NONBLOCK == 0 { _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) }
    }

    /// For an application's connection, or a listener that passes its options on. No TCP_USER_TIMEOUT: it would kill a
    /// connection whose application just does not read for a while, which plain TCP never does; keepalive finds the peer
    /// that is gone.
    static func prepareApplication(_ descriptor: Int32) {
        set(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        setKeepalive(descriptor, idleSeconds: 180, intervalSeconds: 60, probes: 5)
    }

    /// For a tunnel. Its peer always reads, so unacknowledged data means that it is gone.
    static func prepareTunnel(_ descriptor: Int32) {
        set(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        set(descriptor, Int32(IPPROTO_TCP), tcpUserTimeout, 30_000)
        // What the kernel has not sent can't be overtaken by a short stream: keep it small.
        set(descriptor, Int32(IPPROTO_TCP), tcpNotSentLowAt, 262_144)
        setKeepalive(descriptor, idleSeconds: 30, intervalSeconds: 10, probes: 3)
    }

    static func statistics(of descriptor: Int32) -> clinux_tcp_statistics {
        var statistics = clinux_tcp_statistics()
        _ = clinux_tcp_statistics(descriptor, &statistics)
        return statistics
    }

    // MARK: private

    private static let tcpUserTimeout: Int32 = 18
    private static let tcpNotSentLowAt: Int32 = 25

    private static func set(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32) {
        _ = clinux_tcp_set_option(descriptor, level, name, value)
    }

    private static func setKeepalive(_ descriptor: Int32, idleSeconds: Int32, intervalSeconds: Int32, probes: Int32) {
        set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE, idleSeconds)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPINTVL, intervalSeconds)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPCNT, probes)
    }
}

extension SocketAddress {
    init(_ endpoint: clinux_endpoint) {
        self.init(IPAddress(high: endpoint.high, low: endpoint.low), endpoint.port)
    }

    var endpoint: clinux_endpoint { clinux_endpoint(high: address.high, low: address.low, port: port) }
}

/// What epoll says about a socket.
struct SocketEvents: OptionSet {
    let rawValue: UInt32

    static let input = SocketEvents(rawValue: EPOLLIN.rawValue)
    static let output = SocketEvents(rawValue: EPOLLOUT.rawValue)
    /// The peer has sent its end.
    static let inputEnd = SocketEvents(rawValue: EPOLLRDHUP.rawValue)
    /// Both directions are over.
    static let hangup = SocketEvents(rawValue: EPOLLHUP.rawValue)
    static let error = SocketEvents(rawValue: EPOLLERR.rawValue)
    /// Told once a change (EPOLLET).
    static let edges = SocketEvents(rawValue: 1 << 31)

    static let ends: SocketEvents = [.inputEnd, .hangup, .error]
    static let connection: SocketEvents = [.input, .output, .inputEnd, .edges]

    func hasAny(_ events: SocketEvents) -> Bool { !isDisjoint(with: events) }
    var isConnectOutcome: Bool { hasAny([.output, .hangup, .error]) }
}
