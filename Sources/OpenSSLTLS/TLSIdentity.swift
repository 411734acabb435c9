import COpenSSL
package import MeshModel

/// A workload's certificate with its key and the authorities that its peers are checked against: what one end of a
/// tunnel needs to be. Made once for each certificate, shared by all threads and by all connections that begin while it
/// is in force; those keep it when a newer one takes its place.
package final class TLSIdentity: @unchecked Sendable {
    /// URI, as in the certificate.
    package let principal: String
    /// The name by which clients ask for it.
    package let serverName: String
    package let trust: TLSTrust
    /// Seconds since 1970.
    package let notAfter: Int64
    let context: OpaquePointer

    /// `chain`: PEM, the leaf first. `key`: PEM. The leaf must be `principal`'s, and the key the leaf's.
    package convenience init(
        principal: String, chain: [UInt8], key: SecretBytes, trust: TLSTrust
    ) throws(TLSSetupError) {
        try self.init(principal: principal, chain: chain, key: PrivateKey(pem: key), trust: trust)
    }

    /// With a key that was read before.
    package init(
        principal: String, chain: [UInt8], key privateKey: PrivateKey, trust: TLSTrust
    ) throws(TLSSetupError) {
        let certificates = try Certificate.all(pem: chain)
        let leaf = certificates[0]
        guard leaf.principal?.uri == principal else {
            throw TLSSetupError("the certificate is for \(leaf.uri ?? "no SPIFFE ID"), not for \(principal)")
        }
        guard privateKey.matches(leaf) else { throw TLSSetupError("the key is not the certificate's") }
        self.principal = principal
        serverName = TLSLibrary.serverName(forPrincipal: principal)
        self.trust = trust
        notAfter = leaf.notAfter
        context = try TLSContext.make(trust: trust)
        guard SSL_CTX_use_certificate(context, leaf.handle) == 1,
            TLSLibrary.cleansing({ SSL_CTX_use_PrivateKey(context, privateKey.handle) }) == 1
        else { throw .last("cannot use the certificate") }
        // Once: without a chain the library would build one in every handshake, check its signatures and send the root
        // as well.
        if certificates.count == 1 { copenssl_complete_chain(context) }
        for issuer in certificates.dropFirst() where copenssl_add_chain_certificate(context, issuer.handle) != 1 {
            throw .last("cannot use the certificate chain")
        }
    }

    deinit { SSL_CTX_free(context) }
}

/// What all connections have in common.
enum TLSContext {
    static let applicationProtocol: [UInt8] = [2, UInt8(ascii: "h"), UInt8(ascii: "2")]
    /// Of a peer's chain, bytes.
    private static let peerChainBytesMax = 65_536
    /// Certificates between a leaf and its root.
    private static let intermediatesMax: Int32 = 4

    /// A context without a certificate; the caller frees it.
    static func make(trust: TLSTrust?) throws(TLSSetupError) -> OpaquePointer {
        guard let context = SSL_CTX_new(TLS_method()) else { throw .last("cannot make a TLS context") }
        // AES-128 first: 256 bits gain nothing here, but ztunnel may offer nothing else.
        guard copenssl_ctx_only_tls13(context) == 1,
            SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384") == 1,
            copenssl_ctx_set_groups(context, "X25519:P-256") == 1,
            SSL_CTX_set_num_tickets(context, 0) == 1,
            SSL_CTX_set_alpn_protos(context, applicationProtocol, UInt32(applicationProtocol.count)) == 0
        else {
            SSL_CTX_free(context)
            throw .last("cannot set up a TLS context")
        }
        SSL_CTX_set_security_level(context, 2)
        copenssl_ctx_no_session_cache(context)
        copenssl_ctx_set_max_cert_list(context, peerChainBytesMax)
        SSL_CTX_set_verify_depth(context, intermediatesMax)
        copenssl_ctx_set_options(context)
        // The write BIO takes everything, so a write is never partial. No read-ahead: the BIO has read already, and with
        // it the library would move all that it has received for each record of it.
        copenssl_ctx_set_mode(context)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, verifyPeer)
        SSL_CTX_set_cert_verify_callback(context, verifyChain, nil)
        SSL_CTX_set_client_hello_cb(context, requireApplicationProtocol, nil)
        SSL_CTX_set_alpn_select_cb(context, selectApplicationProtocol, nil)
        copenssl_ctx_set_server_name_callback(context, selectIdentity)
        if let trust { SSL_CTX_set1_cert_store(context, trust.store) }
        return context
    }
}
