import ArgumentParser
import MeshIdentity

/// `meshctl ca`: a certificate authority for a mesh that has none.
struct CertificateAuthorityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ca",
        abstract: "Make a certificate authority, and certificates for workloads.",
        discussion: """
            Nodes need ca.pem and the certificates of their own workloads in their certificate directory, and never \
            ca-key.pem: keep the authority's directory where only you can read it.
            """,
        subcommands: [InitializeAuthority.self, IssueCertificate.self])
}

struct InitializeAuthority: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Make a new authority: ca.pem and ca-key.pem. One that is there is kept.")

    @Option(help: "Where the authority's files go.")
    var directory: String

    @Option(help: "The trust domain that it is for, as in meshd.yaml.")
    var trustDomain: String

    @Option(help: "How long it is valid, such as 365d.")
    var lifetime = Lifetime(seconds: CertificateAuthority.lifetimeDefault)

    func run() throws {
        let authority = try reportingIdentityError { () throws(IdentityError) in
            try CertificateAuthority.create(
                directory: directory, trustDomain: trustDomain, lifetime: lifetime.seconds)
        }
        print(
            """
            Made the authority of \(authority.trustDomain), valid until \(timeText(authority.notAfter)):
              \(directory)/\(CertificateAuthority.certificateName)      goes into the certificate directory of every node
              \(directory)/\(CertificateAuthority.keyName)  stays here: whoever has it can be any workload
            """)
    }
}

struct IssueCertificate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "issue",
        abstract: "Issue a certificate with a new key to a service account.",
        discussion: """
            Writes <output>/<namespace>/<service account>/{chain.pem,key.pem}, in place of older ones, and \
            <output>/ca.pem where there is none; a running meshd takes them up by itself, without touching connections.
            """)

    @Option(help: "Where the authority's files are.")
    var directory: String

    @Option(help: "The certificate directory of the node.")
    var output: String

    @Option(help: "The workload's namespace.")
    var namespace: String

    @Option(help: "The workload's service account.")
    var serviceAccount: String

    @Option(help: "How long it is valid: a number with s, m, h or d.")
    var lifetime = Lifetime(seconds: CertificateAuthority.workloadLifetimeDefault)

    func run() throws {
        let issued = try reportingIdentityError { () throws(IdentityError) in
            try CertificateAuthority(directory: directory).issue(
                namespace: namespace, serviceAccount: serviceAccount, output: output, lifetime: lifetime.seconds)
        }
        print("Issued \(issued.principal), serial \(issued.serial), valid until \(timeText(issued.notAfter)):")
        print("  \(issued.chainFile)")
        print("  \(issued.keyFile)")
        switch issued.trust {
        case .written(let file): print("  \(file)")
        case .holdsAuthority: break
        case .lacksAuthority(let file):
            print("\(file) does not hold this authority: nodes refuse the certificate until it is added there.")
        }
        if issued.isCutByAuthority { print("It ends with the authority, before the lifetime asked for.") }
    }
}

/// `30d` as an argument.
struct Lifetime: ExpressibleByArgument, CustomStringConvertible {
    let seconds: Int64

    init(seconds: Int64) { self.seconds = seconds }

    init?(argument: String) {
        guard let lifetime = CertificateLifetime(parsing: argument) else { return nil }
        seconds = lifetime.seconds
    }

    var description: String { seconds % 86_400 == 0 ? "\(seconds / 86_400)d" : "\(seconds)s" }
    var defaultValueDescription: String { description }
}

/// A failure as one sentence on standard error and exit code 1.
private func reportingIdentityError<Result>(
    _ body: () throws(IdentityError) -> Result
) throws -> Result {
    do throws(IdentityError) { return try body() } catch { throw CommandFailure(description: "\(error)") }
}

private struct CommandFailure: Error, CustomStringConvertible {
    let description: String
}
