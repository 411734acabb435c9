import COpenSSL
package import MeshModel

/// One X.509 certificate.
package final class Certificate: @unchecked Sendable {
    let handle: OpaquePointer

    init(owning handle: OpaquePointer) { self.handle = handle }

    deinit { X509_free(handle) }

    /// All certificates of a PEM text, in its order; other blocks and text between them are skipped.
    package static func all(pem: [UInt8]) throws(TLSSetupError) -> [Certificate] {
        guard let length = Int32(exactly: pem.count), let bio = BIO_new_mem_buf(pem, length) else {
            throw .last("cannot read certificates")
        }
        defer { BIO_free(bio) }
        var list: [Certificate] = []
        while let handle = PEM_read_bio_X509(bio, nil, nil, nil) { list.append(Certificate(owning: handle)) }
        let code = ERR_peek_last_error()
        let isEnd = copenssl_error_library(code) == ERR_LIB_PEM && copenssl_error_reason(code) == PEM_R_NO_START_LINE
        guard isEnd || code == 0 else { throw .last("certificate \(list.count + 1) is malformed") }
        ERR_clear_error()
        guard !list.isEmpty else { throw TLSSetupError("no certificate in it (PEM)") }
        return list
    }

    package func pem() throws(TLSSetupError) -> [UInt8] {
        guard let bio = BIO_new(BIO_s_mem()) else { throw .last("cannot write a certificate") }
        defer { BIO_free(bio) }
        guard PEM_write_bio_X509(bio, handle) == 1 else { throw .last("cannot write a certificate") }
        var bytes: UnsafeMutablePointer<CChar>?
        let count = copenssl_bio_contents(bio, &bytes)
        return Array(UnsafeRawBufferPointer(start: bytes, count: count))
    }

    // MARK: what it says

    /// The SPIFFE ID, if the certificate has exactly one URI name and that is a workload's.
    package var principal: Principal? { uri.flatMap { Principal(parsing: $0) } }

    /// The only URI of its subjectAltName, whatever it is.
    package var uri: String? {
        var length = 0
        let capacity = Principal.lengthMax
        let text = withUnsafeTemporaryAllocation(of: UInt8.self, capacity: capacity) { buffer -> String? in
            let count = copenssl_uri_names(handle, buffer.baseAddress, capacity, &length)
            guard count == 1, length > 0, length <= capacity else { return nil }
            return String(decoding: buffer[..<length], as: UTF8.self)
        }
        TLSLibrary.forgetErrors()
        return text
    }

    /// Seconds since 1970.
    package var notBefore: Int64 { Certificate.seconds(X509_get0_notBefore(handle)) }
    package var notAfter: Int64 { Certificate.seconds(X509_get0_notAfter(handle)) }

    /// Lower-case hex digits.
    package var serial: String {
        guard let number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(handle), nil) else { return "" }
        defer { BN_free(number) }
        guard let text = BN_bn2hex(number) else { return "" }
        defer { CRYPTO_free(text, #file, Int32(#line)) }
        return String(cString: text).lowercased()
    }

    package var issuer: String { Certificate.text(X509_get_issuer_name(handle)) }
    package var subject: String { Certificate.text(X509_get_subject_name(handle)) }
    package var isAuthority: Bool { X509_get_extension_flags(handle) & UInt32(EXFLAG_CA) != 0 }

    package func isIssued(by issuer: Certificate) -> Bool {
        X509_check_issued(issuer.handle, handle) == X509_V_OK
            && X509_verify(handle, X509_get0_pubkey(issuer.handle)) == 1
    }

    // MARK: private

    static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
        var parts = tm()
        guard let time, ASN1_TIME_to_tm(time, &parts) == 1 else { return 0 }
        return Int64(timegm(&parts))
    }

    private static func text(_ name: OpaquePointer?) -> String {
        guard let name, let bio = BIO_new(BIO_s_mem()) else { return "" }
        defer { BIO_free(bio) }
        let flags = copenssl_name_flags()
        guard X509_NAME_print_ex(bio, name, 0, flags) >= 0 else { return "" }
        var bytes: UnsafeMutablePointer<CChar>?
        let count = copenssl_bio_contents(bio, &bytes)
        return String(decoding: UnsafeRawBufferPointer(start: bytes, count: count), as: UTF8.self)
    }
}
