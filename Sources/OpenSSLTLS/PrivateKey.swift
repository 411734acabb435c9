import COpenSSL
package import MeshModel

/// A private key in OpenSSL's hands, which overwrites it at the end.
package final class PrivateKey: @unchecked Sendable {
    let handle: OpaquePointer

    private init(owning handle: OpaquePointer) { self.handle = handle }

    deinit { EVP_PKEY_free(handle) }

    package static func makeP256() throws(TLSSetupError) -> PrivateKey {
        guard let handle = copenssl_make_p256_key() else { throw .last("cannot make a key") }
        return PrivateKey(owning: handle)
    }

    /// The first private key of a PEM text: PKCS#8 or the older forms, P-256 or RSA. Encrypted ones are refused.
    package init(pem: SecretBytes) throws(TLSSetupError) {
        let key = TLSLibrary.cleansing {
            pem.withBytes { copenssl_read_private_key($0.baseAddress, $0.count) }
        }
        guard let key else { throw .last("no private key in it (PEM, not encrypted)") }
        handle = key
        guard EVP_PKEY_is_a(key, "EC") == 1 || EVP_PKEY_is_a(key, "RSA") == 1 else {
            throw TLSSetupError("the key is neither P-256 nor RSA")
        }
        if EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_bits(key) != 256 {
            throw TLSSetupError("the key's curve is not P-256")
        }
    }

    /// PKCS#8, PEM.
    package func pem() throws(TLSSetupError) -> SecretBytes {
        // A memory BIO overwrites its bytes when it grows and when it is freed.
        guard let bio = BIO_new(BIO_s_mem()) else { throw .last("cannot write the key") }
        defer { BIO_free(bio) }
        guard PEM_write_bio_PKCS8PrivateKey(bio, handle, nil, nil, 0, nil, nil) == 1 else {
            throw .last("cannot write the key")
        }
        var bytes: UnsafeMutablePointer<CChar>?
        let count = copenssl_bio_contents(bio, &bytes)
        return SecretBytes(copying: UnsafeRawBufferPointer(start: bytes, count: count))
    }

    package func matches(_ certificate: Certificate) -> Bool {
        let isMatching = X509_check_private_key(certificate.handle, handle) == 1
        ERR_clear_error()
        return isMatching
    }
}
