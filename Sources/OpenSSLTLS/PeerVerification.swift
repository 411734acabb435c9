import CMeshABI
import COpenSSL
import MeshModel

// Whether the peer's certificate is good: the chain, the dates and the extended key usage are OpenSSL's, the SPIFFE
// rules are here. The first finding becomes the connection's verdict.

/// SSL_verify_cb: called with 0 for every fault of the chain, and with 1 for every good certificate, the leaf last.
func verifyPeer(_ isGood: Int32, _ context: OpaquePointer?) -> Int32 {
    let ssl = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx())
    guard let state = connectionState(of: ssl.map { OpaquePointer($0) }) else { return 0 }
    guard isGood == 1 else {
        if state.pointee.verdict == nil { state.pointee.verdict = chainFault(context, state) }
        return 0
    }
    guard X509_STORE_CTX_get_error_depth(context) == 0 else { return 1 }
    return acceptLeaf(X509_STORE_CTX_get_current_cert(context), context, state)
}

/// A leaf whose chain is good: 1 if it is a workload's that this connection may be with.
func acceptLeaf(_ handle: OpaquePointer?, _ context: OpaquePointer?, _ state: ConnectionStatePointer) -> Int32 {
    guard let handle, X509_up_ref(handle) == 1 else { return 0 }
    let leaf = Certificate(owning: handle)
    let uri = leaf.uri
    if let fault = workloadFault(leaf, uri, state) {
        state.pointee.verdict = fault
        // The alert will be bad_certificate.
        X509_STORE_CTX_set_error(context, X509_V_ERR_CERT_REJECTED)
        return 0
    }
    state.pointee.peerPrincipal = uri
    state.pointee.peerNotAfter = leaf.notAfter
    return 1
}

private func chainFault(_ context: OpaquePointer?, _ state: ConnectionStatePointer) -> TLSFailure {
    let code = X509_STORE_CTX_get_error(context)
    let text = X509_verify_cert_error_string(Int(code)).map { String(cString: $0) } ?? "error \(code)"
    var leaf: Certificate?
    if let handle = X509_STORE_CTX_get0_cert(context), X509_up_ref(handle) == 1 { leaf = Certificate(owning: handle) }
    let name = leaf?.uri ?? "a peer without SPIFFE ID"
    if code == X509_V_ERR_CERT_HAS_EXPIRED {
        return TLSFailure(.MESH_REASON_CERTIFICATE_EXPIRED, .local, "certificate of \(name): \(text)")
    }
    // Nothing vouches for the name here, but what it claims tells the operator which bundle is missing.
    if state.pointee.role == .server, let own = state.pointee.identity?.trust.trustDomain,
        let claimed = leaf?.principal?.trustDomain, claimed != own
    {
        return otherTrustDomain(name, own)
    }
    return TLSFailure(.MESH_REASON_CERTIFICATE_INVALID, .local, "certificate of \(name): \(text)")
}

/// What the SPIFFE rules have against a leaf whose chain is good. `uri`: the leaf's.
private func workloadFault(_ leaf: Certificate, _ uri: String?, _ state: ConnectionStatePointer) -> TLSFailure? {
    guard let uri, let principal = Principal(parsing: uri), !leaf.isAuthority else {
        let found = leaf.isAuthority ? "it is an authority's" : "its URI is \(uri ?? "not one SPIFFE ID")"
        return TLSFailure(.MESH_REASON_CERTIFICATE_INVALID, .local, "not a workload's certificate: \(found)")
    }
    switch state.pointee.role {
    case .server:
        guard let own = state.pointee.identity?.trust.trustDomain, principal.trustDomain == own else {
            return otherTrustDomain(uri, state.pointee.identity?.trust.trustDomain ?? "none")
        }
    case .client:
        let expected = state.pointee.expectedPrincipal ?? ""
        guard uri == expected else {
            return TLSFailure(
                .MESH_REASON_SERVER_PRINCIPAL_MISMATCH, .local,
                "the server is \(uri), expected \(expected)")
        }
    }
    return nil
}

private func otherTrustDomain(_ name: String, _ own: String) -> TLSFailure {
    TLSFailure(.MESH_REASON_TRUST_DOMAIN_MISMATCH, .local, "\(name) is not of trust domain \(own)")
}
