import CMeshABI
import COpenSSL
import MeshModel

/// Who can be reached through a tunnel port: identities by server name. Immutable: for another set make another one,
/// and connections that begin then have the choice of that.
package final class TLSServerContext: @unchecked Sendable {
    private let identities: [String: TLSIdentity]
    let context: OpaquePointer

    package convenience init(identities: [TLSIdentity]) throws(TLSSetupError) {
        try self.init(answers: Dictionary(identities.map { ($0.serverName, $0) }) { _, latest in latest })
    }

    /// By server name.
    init(answers: [String: TLSIdentity]) throws(TLSSetupError) {
        identities = answers
        context = try TLSContext.make(trust: nil)
    }

    deinit { SSL_CTX_free(context) }

    /// Server names are compared without regard to case (RFC 6066 section 3).
    func identity(serverName: String) -> TLSIdentity? { identities[serverName] ?? identities[serverName.lowercased()] }
}

// MARK: callbacks of a handshake

/// SSL_client_hello_cb_fn: no ALPN at all is refused here, as OpenSSL asks `selectApplicationProtocol` only where the
/// client offers something.
func requireApplicationProtocol(
    _ ssl: OpaquePointer?, _ alert: UnsafeMutablePointer<Int32>?, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    var bytes: UnsafePointer<UInt8>?
    var count = 0
    let kind = UInt32(TLSEXT_TYPE_application_layer_protocol_negotiation)
    if SSL_client_hello_get0_ext(ssl, kind, &bytes, &count) == 1 { return SSL_CLIENT_HELLO_SUCCESS }
    connectionState(of: ssl)?.pointee.verdict = noApplicationProtocol
    alert?.pointee = SSL_AD_NO_APPLICATION_PROTOCOL
    return SSL_CLIENT_HELLO_ERROR
}

let noApplicationProtocol = TLSFailure(.MESH_REASON_ALPN_MISMATCH, .local, "the peer does not offer h2")

/// SSL_CTX_alpn_select_cb_func: h2 or nothing.
func selectApplicationProtocol(
    _ ssl: OpaquePointer?, _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    _ chosenCount: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?, _ offeredCount: UInt32,
    _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    let list = UnsafeBufferPointer(start: offered, count: Int(offeredCount))
    var index = 0
    while index < list.count {
        let length = Int(list[index])
        guard index + 1 + length <= list.count else { break }
        if length == 2, list[index + 1] == UInt8(ascii: "h"), list[index + 2] == UInt8(ascii: "2") {
            // Points into the client's own list, which outlives the call.
            chosen?.pointee = list.baseAddress.map { $0 + index + 1 }
            chosenCount?.pointee = 2
            return SSL_TLSEXT_ERR_OK
        }
        index += 1 + length
    }
    connectionState(of: ssl)?.pointee.verdict = noApplicationProtocol
    return SSL_TLSEXT_ERR_ALERT_FATAL
}

/// Called for every ClientHello, with or without a name: chooses the certificate, and with it the authorities.
func selectIdentity(
    _ ssl: OpaquePointer?, _ alert: UnsafeMutablePointer<Int32>?, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    // A client gets the call too, when its server acknowledges the name.
    guard SSL_is_server(ssl) == 1 else { return SSL_TLSEXT_ERR_OK }
    guard let state = connectionState(of: ssl) else { return SSL_TLSEXT_ERR_ALERT_FATAL }
    let identity: TLSIdentity?
    if let name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) {
        state.pointee.serverName = String(cString: name)
        identity = state.pointee.server?.identity(serverName: state.pointee.serverName)
    } else {
        identity = state.pointee.unnamedIdentity
    }
    guard let identity, SSL_set_SSL_CTX(ssl, identity.context) != nil else {
        let name = state.pointee.serverName
        state.pointee.verdict = TLSFailure(
            .MESH_REASON_SNI_UNKNOWN, .local, name.isEmpty ? "no server name" : "no workload here is \(name)")
        alert?.pointee = SSL_AD_UNRECOGNIZED_NAME
        return SSL_TLSEXT_ERR_ALERT_FATAL
    }
    state.pointee.identity = identity
    return SSL_TLSEXT_ERR_OK
}

/// The info callback: counts what a peer makes us do after the handshake.
func countMessages(_ ssl: OpaquePointer?, _ place: Int32, _ value: Int32) {
    guard place & SSL_CB_LOOP != 0, let state = connectionState(of: ssl), state.pointee.isDone else { return }
    state.pointee.messages += 1
}
