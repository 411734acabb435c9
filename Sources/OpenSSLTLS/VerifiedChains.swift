import COpenSSL
import Glibc
import Synchronization

/// Certificate chains that were found good against one set of authorities, so that a peer's next tunnel costs no signature
/// check of its chain. What the peer proves with its key, and what a leaf says, is looked at each time. Bounded; new
/// authorities are another `TLSTrust`, with none of these.
final class VerifiedChains: Sendable {
    /// What was verified: every certificate that the peer sent, for one role.
    struct Key: Hashable, Sendable {
        private var role: ConnectionState.Role
        private var digest: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

        /// Nil where there are more certificates than any honest chain has.
        init?(_ context: OpaquePointer?, role: ConnectionState.Role) {
            self.role = role
            let isWhole = withUnsafeMutableBytes(of: &digest) {
                copenssl_chain_digest(
                    context, TLSLibrary.sha256.algorithm, $0.baseAddress?.assumingMemoryBound(to: UInt8.self)) == 1
            }
            guard isWhole else { return nil }
        }

        static func == (a: Key, b: Key) -> Bool { a.role == b.role && a.digest == b.digest }

        func hash(into hasher: inout Hasher) {
            hasher.combine(role)
            hasher.combine(digest.0)
            hasher.combine(digest.1)
        }
    }

    /// Seconds since 1970 between which all certificates up to the authority's are valid.
    struct Span: Sendable {
        var notBefore: Int64
        var notAfter: Int64

        func contains(_ time: Int64) -> Bool { time >= notBefore && time < notAfter }
    }

    private static let countMax = 1_024
    private let spans = Mutex<[Key: Span]>([:])

    var count: Int { spans.withLock { $0.count } }

    func holds(_ key: Key, at time: Int64) -> Bool { spans.withLock { $0[key] }?.contains(time) ?? false }

    /// Forgets all of them when there is no room: a mesh of more peers than that has other costs.
    func insert(_ key: Key, _ span: Span) {
        spans.withLock { spans in
            if spans.count >= Self.countMax { spans.removeAll(keepingCapacity: true) }
            spans[key] = span
        }
    }
}

/// SSL_CTX_set_cert_verify_callback: the whole verification of a peer's chain.
func verifyChain(_ context: OpaquePointer?, _ argument: UnsafeMutableRawPointer?) -> Int32 {
    let ssl = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx())
    guard let state = connectionState(of: ssl.map { OpaquePointer($0) }),
        let verified = state.pointee.identity?.trust.verified,
        let key = VerifiedChains.Key(context, role: state.pointee.role)
    else { return X509_verify_cert(context) }
    if verified.holds(key, at: verificationTime(context)) {
        X509_STORE_CTX_set_error(context, X509_V_OK)
        return acceptLeaf(X509_STORE_CTX_get0_cert(context), context, state)
    }
    let result = X509_verify_cert(context)
    guard result == 1 else { return result }
    var (notBefore, notAfter): (Int64, Int64) = (0, 0)
    if copenssl_chain_span(context, &notBefore, &notAfter) == 1 {
        verified.insert(key, VerifiedChains.Span(notBefore: notBefore, notAfter: notAfter))
    }
    return result
}

/// The time that certificates are judged by.
private func verificationTime(_ context: OpaquePointer?) -> Int64 {
    let parameters = X509_STORE_CTX_get0_param(context)
    guard X509_VERIFY_PARAM_get_flags(parameters) & UInt(X509_V_FLAG_USE_CHECK_TIME) != 0 else {
        return Int64(time(nil))
    }
    return Int64(X509_VERIFY_PARAM_get_time(parameters))
}
