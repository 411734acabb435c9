import COpenSSL
package import MeshModel

/// What a certificate is to say.
package struct CertificateRequest: Sendable {
    package enum Subject: Sendable {
        case authority(commonName: String)
        /// A SPIFFE leaf for both sides of a tunnel: its only name is the URI, critical, as its subject is empty
        /// (RFC 5280 section 4.2.1.6).
        case workload(Principal)
    }

    package var subject: Subject
    /// Seconds since 1970.
    package var notBefore: Int64
    package var notAfter: Int64
    /// URI of the trust domain, for authorities that shall not sign for others; nil for none.
    package var trustDomain: String?

    package init(subject: Subject, notBefore: Int64, notAfter: Int64, trustDomain: String? = nil) {
        self.subject = subject
        self.notBefore = notBefore
        self.notAfter = notAfter
        self.trustDomain = trustDomain
    }
}

extension Certificate {
    package static func selfSigned(
        _ request: CertificateRequest, key: PrivateKey
    ) throws(TLSSetupError) -> Certificate {
        try make(request, extensions: extensions(request), key: key, issuer: nil, issuerKey: key)
    }

    package static func signed(
        _ request: CertificateRequest, key: PrivateKey, by issuer: Certificate, _ issuerKey: PrivateKey
    ) throws(TLSSetupError) -> Certificate {
        try make(request, extensions: extensions(request), key: key, issuer: issuer, issuerKey: issuerKey)
    }

    // MARK: for this target and its tests

    /// `extensions`: values as in x509v3_config(5).
    static func make(
        _ request: CertificateRequest, extensions: [(name: Int32, value: String)], key: PrivateKey,
        issuer: Certificate?, issuerKey: PrivateKey
    ) throws(TLSSetupError) -> Certificate {
        guard let handle = X509_new() else { throw .last("cannot make a certificate") }
        let certificate = Certificate(owning: handle)
        guard X509_set_version(handle, 2) == 1, setRandomSerial(handle),
            ASN1_TIME_set(X509_getm_notBefore(handle), time_t(request.notBefore)) != nil,
            ASN1_TIME_set(X509_getm_notAfter(handle), time_t(request.notAfter)) != nil,
            X509_set_pubkey(handle, key.handle) == 1
        else { throw .last("cannot fill in a certificate") }
        if case .authority(let name) = request.subject {
            let bytes = Array(name.utf8)
            guard let subject = X509_get_subject_name(handle),
                X509_NAME_add_entry_by_txt(
                    subject, "CN", Int32(MBSTRING_UTF8), bytes, Int32(clamping: bytes.count), -1, 0) == 1
            else { throw .last("cannot set the subject") }
        }
        guard X509_set_issuer_name(handle, X509_get_subject_name(issuer?.handle ?? handle)) == 1 else {
            throw .last("cannot set the issuer")
        }
        for (name, value) in extensions {
            try add(name, value, to: handle, issuer: issuer?.handle ?? handle)
        }
        guard X509_sign(handle, issuerKey.handle, EVP_sha256()) > 0 else { throw .last("cannot sign") }
        return certificate
    }

    // MARK: private

    private static func extensions(_ request: CertificateRequest) -> [(name: Int32, value: String)] {
        switch request.subject {
        case .authority:
            var list: [(Int32, String)] = [
                (NID_basic_constraints, "critical,CA:TRUE"),
                (NID_key_usage, "critical,keyCertSign,cRLSign"),
                (NID_subject_key_identifier, "hash"),
            ]
            if let trustDomain = request.trustDomain {
                list.append((NID_subject_alt_name, "URI:spiffe://\(trustDomain)"))
            }
            return list
        case .workload(let principal):
            return [
                (NID_basic_constraints, "critical,CA:FALSE"),
                (NID_key_usage, "critical,digitalSignature"),
                (NID_ext_key_usage, "serverAuth,clientAuth"),
                (NID_subject_key_identifier, "hash"),
                (NID_authority_key_identifier, "keyid:always"),
                // A principal has no comma or newline (SPIFFE-ID section 2): nothing can be added to this value.
                (NID_subject_alt_name, "critical,URI:\(principal.uri)"),
            ]
        }
    }

    private static func add(
        _ name: Int32, _ value: String, to handle: OpaquePointer, issuer: OpaquePointer
    ) throws(TLSSetupError) {
        var context = X509V3_CTX()
        X509V3_set_ctx(&context, issuer, handle, nil, nil, 0)
        guard let item = X509V3_EXT_conf_nid(nil, &context, name, value) else { throw .last("cannot add \(value)") }
        defer { X509_EXTENSION_free(item) }
        guard X509_add_ext(handle, item, -1) == 1 else { throw .last("cannot add \(value)") }
    }

    /// 126 random bits, not zero, positive (RFC 5280 section 4.1.2.2 allows 20 bytes).
    private static func setRandomSerial(_ handle: OpaquePointer) -> Bool {
        guard let number = BN_new() else { return false }
        defer { BN_free(number) }
        guard BN_rand(number, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 else { return false }
        return BN_to_ASN1_INTEGER(number, X509_get_serialNumber(handle)) != nil
    }
}
