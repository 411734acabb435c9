import COpenSSL
import MeshModel

/// A trust domain's certificate authorities. Immutable and shared by the identities that were made with it.
package final class TLSTrust: @unchecked Sendable {
    package let trustDomain: String
    let store: OpaquePointer
    let verified = VerifiedChains()

    /// `bundle`: PEM, at least one certificate. Certificates that are no authority are refused: a leaf in the bundle
    /// would be a mistake that gives one workload more than it should have.
    package init(trustDomain: String, bundle: [UInt8]) throws(TLSSetupError) {
        guard Principal.isTrustDomain(trustDomain) else {
            throw TLSSetupError("\(trustDomain) is no trust domain name")
        }
        self.trustDomain = trustDomain
        guard let store = X509_STORE_new() else { throw .last("cannot make a trust store") }
        self.store = store
        for certificate in try Certificate.all(pem: bundle) {
            guard certificate.isAuthority else {
                throw TLSSetupError("\(certificate.uri ?? certificate.subject) in the trust bundle is no authority")
            }
            guard X509_STORE_add_cert(store, certificate.handle) == 1 else { throw .last("cannot trust a certificate") }
        }
    }

    deinit { X509_STORE_free(store) }

    /// What is wrong with `chain` (the leaf first) at this time (seconds since 1970), nil if peers that trust the same
    /// authorities will take it.
    package func fault(of chain: [Certificate], at time: Int64) -> String? {
        guard let leaf = chain.first, let context = X509_STORE_CTX_new(), let others = copenssl_chain_new() else {
            return "out of memory"
        }
        defer {
            X509_STORE_CTX_free(context)
            copenssl_chain_free(others)
            ERR_clear_error()
        }
        for certificate in chain.dropFirst() { _ = copenssl_chain_add(others, certificate.handle) }
        guard X509_STORE_CTX_init(context, store, leaf.handle, others) == 1 else { return "out of memory" }
        X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(context), time_t(time))
        guard X509_verify_cert(context) != 1 else { return nil }
        return String(cString: X509_verify_cert_error_string(Int(X509_STORE_CTX_get_error(context))))
    }
}
