// OpenSSLTLS is what the mesh uses of OpenSSL 3.0: TLS 1.3 connections between nodes (`TLSConnection`) with workload
// certificates (`TLSIdentity`) and SPIFFE verification, and the few X.509 operations of MeshIdentity (`Certificate`,
// `PrivateKey`). No cipher or record code of our own. It knows nothing of HTTP/2, snapshots or files: DataPlane moves
// the bytes and decides which principals may come in, MeshIdentity reads and writes certificates. No OpenSSL handle
// leaves this target.

import CLinux
import COpenSSL

/// The library as a whole.
package enum TLSLibrary {
    /// Loads everything that OpenSSL loads at first use, so that a process may forbid itself to open files after it.
    /// Reads no configuration file. Call it once, before threads and before seccomp.
    package static func prepare() throws(TLSSetupError) {
        // Without it, it works all the same.
        _ = hasOwnMemory
        let options = UInt64(OPENSSL_INIT_NO_LOAD_CONFIG) | UInt64(OPENSSL_INIT_LOAD_SSL_STRINGS)
        guard OPENSSL_init_ssl(options, nil) == 1 else { throw .last("cannot initialise OpenSSL") }
        var seed: UInt8 = 0
        guard RAND_bytes(&seed, 1) == 1 else { throw .last("cannot seed the random number generator") }
        try rehearse()
    }

    /// Demands that the library overwrites what it frees while it handles a key: reading a PEM text leaves its lines and
    /// the decoded key in freed memory otherwise. Before the first use of the library in the process.
    package static func cleanseKeys() throws(TLSSetupError) {
        guard hasOwnMemory else { throw TLSSetupError("OpenSSL was used before it could be told to cleanse keys") }
    }

    /// Once in a process, before the library has taken any memory: OpenSSL would take other functions later on, and
    /// forget these.
    private static let hasOwnMemory: Bool =
        CRYPTO_set_mem_functions(clinux_piece_take, clinux_piece_resize, clinux_piece_give) == 1

    /// Looked up once; immutable.
    struct Digest: @unchecked Sendable {
        /// Nil only for lack of memory.
        let algorithm = EVP_MD_fetch(nil, "SHA256", nil)
    }

    static let sha256 = Digest()

    static func cleansing<Result>(_ body: () -> Result) -> Result {
        clinux_cleanse_freed(1)
        defer { clinux_cleanse_freed(0) }
        return body()
    }

    /// The library's version as `meshctl version` shows it.
    package static var version: String { String(cString: OpenSSL_version(OPENSSL_VERSION)) }

    /// The server name that asks for `principal`'s certificate: `p-`, the first 32 hex digits of the SHA-256 of its
    /// URI, `.culvert.internal`.
    package static func serverName(forPrincipal uri: String) -> String {
        var digest = [UInt8](repeating: 0, count: Int(SHA256_DIGEST_LENGTH))
        let bytes = Array(uri.utf8)
        _ = SHA256(bytes, bytes.count, &digest)
        return "p-" + hexadecimal(digest.prefix(16)) + ".culvert.internal"
    }

    // MARK: for this target

    static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in bytes { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
        return String(decoding: text, as: UTF8.self)
    }

    /// Before a call whose outcome SSL_get_error is asked for. Looking is a tenth of the cost of clearing.
    static func forgetErrors() { if ERR_peek_error() != 0 { ERR_clear_error() } }

    /// The oldest error of this thread's queue, which is empty then: the cause, where later ones are consequences.
    static func takeError() -> (library: Int32, reason: Int32, text: String) {
        let code = ERR_get_error()
        ERR_clear_error()
        guard code != 0 else { return (0, 0, "no cause given") }
        let text = ERR_reason_error_string(code).map { String(cString: $0) } ?? "error \(code)"
        return (copenssl_error_library(code), copenssl_error_reason(code), text)
    }
}

/// A certificate, key or context that can't be used: what, and why.
package struct TLSSetupError: Error, Equatable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }

    /// With the cause that OpenSSL gives.
    static func last(_ what: String) -> TLSSetupError { TLSSetupError("\(what): \(TLSLibrary.takeError().text)") }
}
