import COpenSSL
import Testing

@testable import OpenSSLTLS

/// A client that does what TLSConnection would not: no certificate, no server name, other protocols.
final class RawClient {
    private let ssl: OpaquePointer
    private var lastError: UInt = 0

    init(context: OpaquePointer, socket: Int32, serverName: String?) throws {
        ssl = try #require(SSL_new(context))
        try #require(SSL_set_fd(ssl, socket) == 1)
        SSL_set_connect_state(ssl)
        SSL_set_verify(ssl, SSL_VERIFY_NONE, nil)
        if let serverName { try #require(copenssl_set_server_name(ssl, serverName) == 1) }
    }

    deinit { SSL_free(ssl) }

    /// Wire form; nil to offer nothing.
    func offer(_ protocols: [UInt8]?) {
        SSL_set_alpn_protos(ssl, protocols ?? [], UInt32(protocols?.count ?? 0))
    }

    func speakOnlyTLS12() {
        SSL_ctrl(ssl, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
        SSL_ctrl(ssl, SSL_CTRL_SET_MAX_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
    }

    func handshake() {
        ERR_clear_error()
        if SSL_do_handshake(ssl) != 1 { lastError = UInt(ERR_peek_error()) }
    }

    /// What the server has sent of its chain, the leaf included.
    var peerCertificateCount: Int32 { SSL_get_peer_cert_chain(ssl).map { OPENSSL_sk_num($0) } ?? 0 }

    /// The alert that the server has sent.
    func alert() -> Int32 {
        var reason = copenssl_error_reason(UInt(lastError))
        if reason < SSL_AD_REASON_OFFSET {
            ERR_clear_error()
            var (byte, count): (UInt8, Int) = (0, 0)
            _ = SSL_read_ex(ssl, &byte, 1, &count)
            reason = copenssl_error_reason(UInt(ERR_peek_error()))
        }
        ERR_clear_error()
        return reason - SSL_AD_REASON_OFFSET
    }
}
