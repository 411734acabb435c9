import Glibc
import LinuxIO
import MeshIdentity
import OpenSSLTLS
import Testing

/// A directory that is gone after the test.
final class TemporaryDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/culvert-identity-\(getpid())-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.remove(path) }

    static func remove(_ path: String) {
        for entry in (try? TextFile.list(path)) ?? [] {
            if entry.isDirectory { remove("\(path)/\(entry.name)") } else { unlink("\(path)/\(entry.name)") }
        }
        rmdir(path)
    }

    func write(_ name: String, _ text: String) throws {
        try TextFile.replace("\(path)/\(name)", with: Array(text.utf8))
    }

    func text(_ name: String) throws -> String { try TextFile.read("\(path)/\(name)") }

    func mode(_ name: String) -> UInt32 {
        var facts = stat()
        return stat("\(path)/\(name)", &facts) == 0 ? facts.st_mode & 0o7777 : 0
    }

    func exists(_ name: String) -> Bool { access("\(path)/\(name)", F_OK) == 0 }
}

/// An authority with a node's certificate directory.
struct Mesh {
    static let now: Int64 = 1_800_000_000
    let root: TemporaryDirectory
    let authority: CertificateAuthority
    var certificates: String { root.path + "/certificates" }

    init(lifetime: Int64 = CertificateAuthority.lifetimeDefault) throws {
        root = try TemporaryDirectory()
        authority = try CertificateAuthority.create(
            directory: root.path + "/ca", trustDomain: "mesh.example", lifetime: lifetime, now: Self.now)
        try TextFile.createDirectory(root.path + "/certificates")
        try TextFile.replace(certificates + "/ca.pem", with: authority.bundle())
    }

    @discardableResult
    func issue(_ account: String, lifetime: Int64 = 1_000, at now: Int64 = Mesh.now) throws
        -> CertificateAuthority.Issued
    {
        try authority.issue(
            namespace: "shop", serviceAccount: account, output: certificates, lifetime: lifetime, now: now)
    }

    static func principal(_ account: String) -> String { "spiffe://mesh.example/ns/shop/sa/\(account)" }
}
