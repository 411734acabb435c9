import COpenSSL
import MeshModel

/// A trust domain's certificate authorities. Immutable and shared by the identities that were made with it.
package final class TLSTrust: @unchecked Sendable {
    package let trustDomain: String
    let store: OpaquePointer

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
}
