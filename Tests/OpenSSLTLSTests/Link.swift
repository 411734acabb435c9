import CMeshABI
import Glibc
import MeshModel
import OpenSSLTLS
import Testing

/// Two connected sockets with a TLS connection on one or both of them, moved by hand.
final class Link {
    var client: TLSConnection?
    var server: TLSConnection?
    let clientSocket: Int32
    let serverSocket: Int32

    /// Takes over two connected, non-blocking sockets.
    init(sockets: [Int32]) { (clientSocket, serverSocket) = (sockets[0], sockets[1]) }

    convenience init() throws {
        var sockets: [Int32] = [-1, -1]
        try #require(
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0, &sockets) == 0)
        self.init(sockets: sockets)
    }

    /// A TCP connection over 127.0.0.1.
    static func loopback() throws -> [Int32] {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        try withUnsafeMutableBytes(of: &address) { bytes in
            let pointer = try #require(bytes.baseAddress).assumingMemoryBound(to: sockaddr.self)
            try #require(bind(listener, pointer, length) == 0)
            try #require(listen(listener, 1) == 0)
            try #require(getsockname(listener, pointer, &length) == 0)
            try #require(connect(client, pointer, length) == 0)
        }
        let server = accept(listener, nil, nil)
        try #require(server >= 0)
        for number in [client, server] { _ = fcntl(number, F_SETFL, O_NONBLOCK) }
        return [client, server]
    }

    convenience init(
        client: TLSIdentity, expecting principal: String, server: TLSServerContext, unnamed: TLSIdentity? = nil,
        buffers: TLSBuffersPointer? = nil, clock: Int64? = Authority.now
    ) throws {
        try self.init()
        self.client = try TLSConnection(
            client: client, expecting: principal, descriptor: clientSocket, buffers: buffers, clock: clock)
        self.server = try TLSConnection(
            server: server, unnamedIdentity: unnamed, descriptor: serverSocket, buffers: buffers, clock: clock)
    }

    convenience init(client: TLSIdentity, server: TLSIdentity) throws {
        try self.init(
            client: client, expecting: server.principal, server: TLSServerContext(identities: [server]))
    }

    deinit {
        client = nil
        server = nil
        close(clientSocket)
        close(serverSocket)
    }

    struct Outcome {
        var client: TLSConnection.Progress
        var server: TLSConnection.Progress
    }

    /// Handshakes until neither side can go on. `chunk`: bytes that a flush writes at most.
    func handshake(chunk: Int = .max) -> Outcome {
        var outcome = Outcome(client: .wantRead, server: .wantRead)
        for _ in 0..<20_000 {
            if !outcome.client.isOver { outcome.client = client?.handshake() ?? .done }
            let sent = flushClient(chunk)
            if !outcome.server.isOver { outcome.server = server?.handshake() ?? .done }
            let answered = flushServer(chunk)
            if sent + answered == 0 && (outcome.client.isOver || outcome.server.isOver) { break }
            if outcome.client.isOver && outcome.server.isOver && sent + answered == 0 { break }
        }
        return outcome
    }

    func established() throws {
        let outcome = handshake()
        try #require(outcome.client == .done)
        try #require(outcome.server == .done)
    }

    @discardableResult func flushClient(_ chunk: Int = .max) -> Int { flush(&client, clientSocket, chunk) }
    @discardableResult func flushServer(_ chunk: Int = .max) -> Int { flush(&server, serverSocket, chunk) }

    private func flush(_ connection: inout TLSConnection?, _ socket: Int32, _ chunk: Int) -> Int {
        guard let pending = connection?.pending, !pending.isEmpty else { return 0 }
        let written = send(socket, pending.baseAddress, min(pending.count, chunk), Int32(MSG_NOSIGNAL))
        guard written > 0 else { return 0 }
        connection?.consume(written)
        return written
    }

    func clientReads(_ limit: Int = 65_536) -> (bytes: [UInt8], end: TLSConnection.ReadResult) {
        Self.read(&client, limit)
    }

    func serverReads(_ limit: Int = 65_536) -> (bytes: [UInt8], end: TLSConnection.ReadResult) {
        Self.read(&server, limit)
    }

    /// Reads until there is no more, or `limit` bytes.
    private static func read(
        _ connection: inout TLSConnection?, _ limit: Int
    ) -> (bytes: [UInt8], end: TLSConnection.ReadResult) {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while bytes.count < limit {
            let result = buffer.withUnsafeMutableBytes { connection?.read(into: $0) ?? .closed }
            guard case .bytes(let count) = result else { return (bytes, result) }
            bytes += buffer[..<count]
        }
        return (bytes, .wouldBlock)
    }

    func clientWrites(_ bytes: [UInt8]) -> TLSFailure? { bytes.withUnsafeBytes { client?.write($0) } }
    func serverWrites(_ bytes: [UInt8]) -> TLSFailure? { bytes.withUnsafeBytes { server?.write($0) } }
}

extension TLSConnection.Progress {
    var isOver: Bool {
        switch self {
        case .done, .failed: true
        case .wantRead, .wantWrite: false
        }
    }

    var failure: TLSFailure? {
        if case .failed(let failure) = self { failure } else { nil }
    }
}

extension TLSConnection.ReadResult {
    var failure: TLSFailure? {
        if case .failed(let failure) = self { failure } else { nil }
    }
}
