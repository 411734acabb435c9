package import MeshModel
package import OpenSSLTLS

/// What `/metrics` and `meshctl certs` show of a certificate.
package struct CertificateFacts: Equatable, Sendable {
    package enum State: Equatable, Sendable {
        case valid
        /// At most 20 % of its life is left.
        case expiring
        case expired
    }

    /// URI of the workload; for an authority the URI of its trust domain, or empty.
    package var principal: String
    package var subject: String
    /// Seconds since 1970.
    package var notBefore: Int64
    package var notAfter: Int64
    /// Lower-case hex digits.
    package var serial: String
    package var issuer: String
    package var file: String

    package init(_ certificate: Certificate, file: String) {
        principal = certificate.uri ?? ""
        subject = certificate.subject
        notBefore = certificate.notBefore
        notAfter = certificate.notAfter
        serial = certificate.serial
        issuer = certificate.issuer
        self.file = file
    }

    package func state(at now: Int64) -> State {
        if now >= notAfter { return .expired }
        return notAfter - now <= (notAfter - notBefore) / 5 ? .expiring : .valid
    }

    /// For logs: `spiffe://… (…/chain.pem) expired at 2026-01-31T12:00:00Z`.
    package func sentence(at now: Int64) -> String {
        let name = principal.isEmpty ? subject : principal
        let verb = now >= notAfter ? "expired at" : "is valid until"
        return "\(name) (\(file)) \(verb) \(timeText(notAfter))"
    }
}

/// A workload's certificate with its key, checked: what the proxy needs to speak for that workload.
package struct StoredIdentity: Sendable {
    package let facts: CertificateFacts
    /// PEM, the leaf first.
    package let chain: [UInt8]
    /// PEM. Overwritten when the last holder lets go of it.
    package let key: SecretBytes

    package var principal: String { facts.principal }

    func isSame(_ other: StoredIdentity) -> Bool {
        chain == other.chain && key == other.key
    }
}

/// The authorities that the node trusts.
package struct TrustBundle: Equatable, Sendable {
    package let trustDomain: String
    /// PEM.
    package let bytes: [UInt8]
    package let facts: [CertificateFacts]
}

/// Something wrong with a file of the certificate directory.
package struct CertificateProblem: Equatable, Sendable, CustomStringConvertible {
    package var file: String
    package var cause: String
    /// The workload that it is about, empty where it concerns all of them.
    package var principal: String
    /// The file is used all the same.
    package var isWarning: Bool

    package init(file: String, cause: String, principal: String = "", isWarning: Bool = false) {
        self.file = file
        self.cause = cause
        self.principal = principal
        self.isWarning = isWarning
    }

    init(_ error: IdentityError, principal: String = "") {
        self.init(file: error.file, cause: error.cause, principal: principal)
    }

    package var description: String { "\(file): \(cause)" }
}
