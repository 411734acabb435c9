import Glibc
import MeshModel

extension TLSLibrary {
    /// A whole handshake with made-up certificates over a socket pair: whatever the library loads late is loaded now.
    static func rehearse() throws(TLSSetupError) {
        guard let principal = Principal(trustDomain: "rehearsal", namespace: "n", serviceAccount: "s") else {
            throw TLSSetupError("no principal to rehearse with")
        }
        let (rootKey, key) = (try PrivateKey.makeP256(), try PrivateKey.makeP256())
        let root = try Certificate.selfSigned(
            CertificateRequest(subject: .authority(commonName: "rehearsal"), notBefore: 0, notAfter: 2), key: rootKey)
        let leaf = try Certificate.signed(
            CertificateRequest(subject: .workload(principal), notBefore: 0, notAfter: 2), key: key, by: root, rootKey)
        let identity = try TLSIdentity(
            principal: principal.uri, chain: leaf.pem(), key: key.pem(),
            trust: TLSTrust(trustDomain: principal.trustDomain, bundle: root.pem()))

        var sockets: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0, &sockets) == 0 else {
            throw TLSSetupError("cannot make a socket pair: \(String(cString: strerror(errno)))")
        }
        defer { for socket in sockets { _ = Glibc.close(socket) } }
        var client = try TLSConnection(
            client: identity, expecting: principal.uri, descriptor: sockets[0], clock: 1)
        var server = try TLSConnection(
            server: TLSServerContext(identities: [identity]), descriptor: sockets[1], clock: 1)
        for _ in 0..<4 {
            let progress = (client.step(sockets[0]), server.step(sockets[1]))
            if progress == (.done, .done) { return }
        }
        throw TLSSetupError("the rehearsal of a handshake did not end")
    }
}

extension TLSConnection {
    fileprivate mutating func step(_ socket: Int32) -> Progress {
        let progress = handshake()
        let written = send(socket, pending.baseAddress, pendingCount, Int32(MSG_NOSIGNAL))
        if written > 0 { consume(written) }
        return progress
    }
}
