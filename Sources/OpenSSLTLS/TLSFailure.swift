package import CMeshABI
import COpenSSL
import MeshModel

/// Why a connection can't go on: a named reason and the text for the log.
package struct TLSFailure: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Side: Sendable {
        /// We refuse the peer, or can't understand it.
        case local
        /// The peer refuses us, as far as its alert tells.
        case peer
        /// The connection is gone without a word.
        case transport
    }

    package let reason: mesh_reason
    package let side: Side
    package let detail: String

    package init(_ reason: mesh_reason, _ side: Side, _ detail: String) {
        self.reason = reason
        self.side = side
        self.detail = detail
    }

    /// The connection broke; TLS has nothing against the peer.
    package var isConnectionLoss: Bool { side == .transport }

    package var description: String {
        switch side {
        case .local: detail
        case .peer: "the peer refuses us: \(detail)"
        case .transport: "connection lost: \(detail)"
        }
    }

    /// The connection was closed before.
    package static let closed = TLSFailure(.MESH_REASON_TLS_FAILED, .transport, "closed")

    // MARK: for this target

    static func transport(errno code: Int32) -> TLSFailure {
        let detail = code == 0 ? "end of file without close_notify" : String(cString: strerror(code))
        return TLSFailure(.MESH_REASON_TLS_FAILED, .transport, detail)
    }

    /// From OpenSSL's error queue. `isFirstRecord`: nothing of the peer has been understood so far.
    static func fromLibrary(isServer: Bool, isFirstRecord: Bool) -> TLSFailure {
        let error = TLSLibrary.takeError()
        guard error.library == ERR_LIB_SSL else {
            return TLSFailure(.MESH_REASON_TLS_FAILED, .local, error.text)
        }
        // ssl(7): alerts of the peer are reasons from SSL_AD_REASON_OFFSET up.
        if error.reason >= SSL_AD_REASON_OFFSET {
            return TLSFailure(reason(forAlert: error.reason - SSL_AD_REASON_OFFSET), .peer, error.text)
        }
        switch error.reason {
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
            return TLSFailure(.MESH_REASON_NO_CLIENT_CERTIFICATE, .local, "the peer presents no certificate")
        case SSL_R_CERTIFICATE_VERIFY_FAILED:
            return TLSFailure(.MESH_REASON_CERTIFICATE_INVALID, .local, error.text)
        case SSL_R_NO_APPLICATION_PROTOCOL:
            return TLSFailure(.MESH_REASON_ALPN_MISMATCH, .local, "the peer does not offer h2")
        case SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST, SSL_R_WRONG_VERSION_NUMBER:
            guard isServer && isFirstRecord else { break }
            return .plaintext
        default: break
        }
        return TLSFailure(.MESH_REASON_TLS_FAILED, .local, error.text)
    }

    static let plaintext = TLSFailure(
        .MESH_REASON_PLAINTEXT_ON_TUNNEL_PORT, .local, "the first bytes are no TLS record")
    static let flooded = TLSFailure(.MESH_REASON_TLS_FAILED, .local, "too many messages after the handshake")
    static let noMemory = TLSFailure(.MESH_REASON_TLS_FAILED, .local, "out of memory")

    /// RFC 8446 section 6.2. What one alert can mean in several ways gets the name that is true of all of them.
    private static func reason(forAlert alert: Int32) -> mesh_reason {
        switch alert {
        case SSL_AD_CERTIFICATE_REQUIRED: .MESH_REASON_NO_CLIENT_CERTIFICATE
        case SSL_AD_CERTIFICATE_EXPIRED: .MESH_REASON_CERTIFICATE_EXPIRED
        case SSL_AD_BAD_CERTIFICATE, SSL_AD_UNSUPPORTED_CERTIFICATE, SSL_AD_CERTIFICATE_REVOKED,
            SSL_AD_CERTIFICATE_UNKNOWN, SSL_AD_UNKNOWN_CA, SSL_AD_ACCESS_DENIED:
            .MESH_REASON_CERTIFICATE_INVALID
        case SSL_AD_UNRECOGNIZED_NAME: .MESH_REASON_SNI_UNKNOWN
        case SSL_AD_NO_APPLICATION_PROTOCOL: .MESH_REASON_ALPN_MISMATCH
        default: .MESH_REASON_TLS_FAILED
        }
    }
}
