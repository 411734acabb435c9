/// An authenticated workload identity, `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`: exactly these
/// five segments, as HBONE peers expect (SPIFFE-ID section 2).
package struct Principal: Hashable, Sendable, CustomStringConvertible {
    package let trustDomain: String
    package let namespace: String
    package let serviceAccount: String

    /// The longest URI that SPIFFE-ID section 2.3 allows, in bytes.
    package static let lengthMax = 2048
    /// SPIFFE-ID section 2.1.
    package static let trustDomainLengthMax = 255

    /// Nil where a part has a character that a SPIFFE ID can't carry.
    package init?(trustDomain: String, namespace: String, serviceAccount: String) {
        guard Self.isTrustDomain(trustDomain), Self.isPathSegment(namespace), Self.isPathSegment(serviceAccount)
        else { return nil }
        self.trustDomain = trustDomain
        self.namespace = namespace
        self.serviceAccount = serviceAccount
        guard uri.utf8.count <= Self.lengthMax else { return nil }
    }

    package init?(parsing uri: some StringProtocol) {
        let scheme = "spiffe://"
        guard uri.utf8.count <= Self.lengthMax, uri.hasPrefix(scheme) else { return nil }
        let parts = uri.dropFirst(scheme.count).split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[1] == "ns", parts[3] == "sa" else { return nil }
        self.init(
            trustDomain: String(parts[0]), namespace: String(parts[2]), serviceAccount: String(parts[4]))
    }

    package var uri: String { "spiffe://" + nameInPolicies }
    /// As Istio's policies write it: the URI without its scheme.
    package var nameInPolicies: String { "\(trustDomain)/ns/\(namespace)/sa/\(serviceAccount)" }
    package var description: String { uri }

    /// Lower-case letters, digits, dot, dash and underscore (SPIFFE-ID section 2.1).
    package static func isTrustDomain(_ text: String) -> Bool {
        (1...trustDomainLengthMax).contains(text.utf8.count)
            && text.utf8.allSatisfy { isLowerCaseOrDigit($0) || isPunctuation($0) }
    }

    /// Letters, digits, dot, dash and underscore, but not `.` and `..` (SPIFFE-ID section 2.2).
    package static func isPathSegment(_ text: String) -> Bool {
        !text.isEmpty && text != "." && text != ".."
            && text.utf8.allSatisfy {
                isLowerCaseOrDigit($0) || isPunctuation($0)
                    || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0)
            }
    }

    // MARK: private

    private static func isLowerCaseOrDigit(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    private static func isPunctuation(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
    }
}
