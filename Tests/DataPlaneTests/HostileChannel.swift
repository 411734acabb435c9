import CLinux
import Glibc
import MeshModel
import OpenSSLTLS
import ProxyControl

@testable import DataPlane

/// The TLS connection under a hostile peer: bytes as they are given, no rule of HTTP/2 kept.
struct HostileChannel: ~Copyable {
    /// The proxy has closed the connection.
    struct Ended: Error {}

    static let silenceMilliseconds: Int32 = 10_000

    private let socket = TestSocket()
    private var tls: TLSConnection
    /// What came while there was something to send.
    private var came: [UInt8] = []
    private var isClosed = false

    init(
        from source: IPAddress, to target: SocketAddress, _ client: String, _ server: String, _ mesh: TestMesh
    ) throws {
        try socket.bind(SocketAddress(source, 0))
        try socket.connect(target)
        Socket.setNonBlocking(socket.descriptor)
        let certificate = try mesh.authority.certificate(mesh.principal(client))
        let identity = try TLSIdentity(
            principal: certificate.principal, chain: certificate.chain, key: certificate.key,
            trust: TLSTrust(trustDomain: TestMesh.trustDomain, bundle: mesh.trustBundle))
        tls = try TLSConnection(
            client: identity, expecting: mesh.principal(server), descriptor: socket.descriptor)
    }

    mutating func handshake() throws {
        while true {
            let progress = tls.handshake()
            try flush()
            switch progress {
            case .done: return
            case .failed: throw Ended()
            case .wantRead, .wantWrite: guard wait(for: POLLIN) else { throw Ended() }
            }
        }
    }

    /// Sends all of it, and takes in meanwhile what the proxy sends: both would stall otherwise.
    mutating func send(_ bytes: [UInt8]) throws {
        guard !isClosed, bytes.withUnsafeBytes({ tls.write($0) }) == nil else { throw Ended() }
        try flush()
    }

    /// What came next; empty when the proxy has closed the connection, nil when nothing came.
    mutating func receive() -> [UInt8]? {
        while came.isEmpty && !isClosed {
            takeIn()
            if came.isEmpty && !isClosed { guard wait(for: POLLIN) else { return nil } }
        }
        defer { came = [] }
        return came
    }

    // MARK: private

    private mutating func flush() throws {
        while tls.pendingCount > 0 {
            let pending = tls.pending
            let count = Glibc.send(socket.descriptor, pending.baseAddress, pending.count, Int32(MSG_NOSIGNAL))
            if count > 0 {
                tls.consume(count)
                continue
            }
            guard errno == EAGAIN else {
                takeIn()
                throw Ended()
            }
            takeIn()
            guard !isClosed, wait(for: POLLIN | POLLOUT) else { throw Ended() }
        }
    }

    private mutating func takeIn() {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        while !isClosed {
            switch bytes.withUnsafeMutableBytes({ tls.read(into: $0) }) {
            case .bytes(let count): came += bytes[..<count]
            case .wouldBlock: return
            case .closed, .failed: isClosed = true
            }
        }
    }

    private func wait(for events: Int32) -> Bool {
        var poller = pollfd(fd: socket.descriptor, events: Int16(events), revents: 0)
        return poll(&poller, 1, Self.silenceMilliseconds) > 0
    }
}
