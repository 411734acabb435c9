import CLinux
import CRelayGuard
import Glibc
import MeshModel
import OpenSSLTLS
import ProxyControl

/// Node a's proxy as node b sees it when a tunnel is opened for the first time. Callgrind counts nothing of this side.
struct TunnelOpenings {
    private let identity: TLSIdentity
    private let server: String
    private let source = SocketAddress(GuardMesh.tunnelAddress("a"), 0)
    private let target = SocketAddress(GuardMesh.tunnelAddress("b"), GuardMesh.tunnelPort)
    /// The client's preface (RFC 9113 section 3.4) with empty SETTINGS.
    private let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]

    init(_ mesh: GuardMesh) throws {
        let certificate = try mesh.certificate(for: "a")
        identity = try TLSIdentity(
            principal: certificate.principal, chain: certificate.chain, key: certificate.key,
            trust: TLSTrust(trustDomain: GuardMesh.trustDomain, bundle: mesh.trustBundle))
        server = try mesh.certificate(for: "b").principal
    }

    /// Shakes hands, says the preface, waits for the server's, and leaves in order; over when the server has left as well.
    func openAndClose() throws {
        relay_toggle_counting()
        defer { relay_toggle_counting() }
        let socket = try GuardSocket.connect(target, from: source)
        defer { close(socket) }
        _ = fcntl(socket, F_SETFL, O_NONBLOCK)
        var tls = try TLSConnection(client: identity, expecting: server, descriptor: socket)
        try shakeHands(&tls, socket)
        if let failure = preface.withUnsafeBytes({ tls.write($0) }) { throw failure }
        try flush(&tls, socket)
        var answer = [UInt8](repeating: 0, count: 16_384)
        while true {
            let result = answer.withUnsafeMutableBytes { tls.read(into: $0) }
            if case .bytes = result { break }
            guard result == .wouldBlock else { throw GuardFailure("no preface came: \(result)") }
            try wait(socket)
        }
        tls.close()
        shutdown(socket, Int32(SHUT_WR))
        while recv(socket, &answer, answer.count, 0) != 0 { try wait(socket) }
    }

    // MARK: private

    private func shakeHands(_ tls: inout TLSConnection, _ socket: Int32) throws {
        while true {
            let progress = tls.handshake()
            try flush(&tls, socket)
            switch progress {
            case .done: return
            case .failed(let failure): throw failure
            case .wantRead, .wantWrite: try wait(socket)
            }
        }
    }

    /// Flights are small: the socket takes each of them whole.
    private func flush(_ tls: inout TLSConnection, _ socket: Int32) throws {
        let count = tls.pendingCount
        guard count > 0 else { return }
        guard send(socket, tls.pending.baseAddress, count, Int32(MSG_NOSIGNAL)) == count else {
            throw GuardFailure("send: error \(errno)")
        }
        tls.consume(count)
    }

    private func wait(_ socket: Int32) throws {
        var ready = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        guard poll(&ready, 1, 30_000) == 1 else { throw GuardFailure("the tunnel's server is silent") }
    }
}
