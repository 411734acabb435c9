import LinuxIO
import MeshModel
import OpenSSLTLS

/// One look at the directory of certificates: `ca.pem`, and `<namespace>/<service account>/{chain.pem,key.pem}`.
struct CertificateDirectory {
    static let trustName = "ca.pem"
    static let chainName = "chain.pem"
    static let keyName = "key.pem"
    /// Workloads of a node are hundreds; a directory of another kind must not be read through.
    static let identitiesMax = 10_000

    private(set) var problems: [CertificateProblem] = []
    /// Nil where `ca.pem` can't be used.
    private(set) var trust: TrustBundle?
    /// The good ones, by principal.
    private(set) var identities: [String: StoredIdentity] = [:]
    /// Principals that have a directory, whatever is in it.
    private(set) var principals: Set<String> = []
    /// False where a directory could not be listed: what is missing then may still be there.
    private(set) var isComplete = true
    /// Every directory that was looked into.
    private(set) var directories: [String] = []

    private let directory: String
    private let trustDomain: String
    private let now: Int64

    init(_ directory: String, trustDomain: String, now: Int64) {
        self.directory = directory
        self.trustDomain = trustDomain
        self.now = now
        readTrust()
        for namespace in list(directory) {
            for account in list("\(directory)/\(namespace)") { readIdentity(namespace, account) }
        }
        problems.sort { ($0.file, $0.cause) < ($1.file, $1.cause) }
    }

    // MARK: private

    private mutating func readTrust() {
        let file = "\(directory)/\(Self.trustName)"
        do throws(IdentityError) {
            let bytes = try IdentityFiles.readPublic(file)
            do throws(TLSSetupError) {
                authorities = try TLSTrust(trustDomain: trustDomain, bundle: bytes)
                let facts = try Certificate.all(pem: bytes).map { CertificateFacts($0, file: file) }
                trust = TrustBundle(trustDomain: trustDomain, bytes: bytes, facts: facts)
            } catch { throw IdentityError(file, "\(error)") }
        } catch {
            problems.append(CertificateProblem(error))
        }
        for facts in trust?.facts ?? [] where facts.state(at: now) == .expired {
            problems.append(
                CertificateProblem(
                    file: file, cause: "authority \(facts.subject) expired at \(timeText(facts.notAfter))",
                    isWarning: true))
        }
    }

    private var authorities: TLSTrust?

    /// Directories in `path`, sorted; hidden ones are not ours.
    private mutating func list(_ path: String) -> [String] {
        directories.append(path)
        do throws(IOError) {
            var names: [String] = []
            for entry in try TextFile.list(path) where !entry.name.hasPrefix(".") {
                if IdentityFiles.isDirectory("\(path)/\(entry.name)") { names.append(entry.name) }
            }
            return names.sorted()
        } catch {
            isComplete = false
            problems.append(CertificateProblem(IdentityError(error, path)))
            return []
        }
    }

    private mutating func readIdentity(_ namespace: String, _ account: String) {
        let place = "\(directory)/\(namespace)/\(account)"
        guard
            let principal = Principal(trustDomain: trustDomain, namespace: namespace, serviceAccount: account)
        else {
            problems.append(CertificateProblem(file: place, cause: "its name can't be in a SPIFFE ID"))
            return
        }
        guard principals.count < Self.identitiesMax else {
            isComplete = false
            problems.append(
                CertificateProblem(file: place, cause: "not read: more than \(Self.identitiesMax) certificates"))
            return
        }
        principals.insert(principal.uri)
        directories.append(place)
        do throws(IdentityError) {
            let identity = try load(principal, from: place)
            identities[principal.uri] = identity
        } catch {
            problems.append(CertificateProblem(error, principal: principal.uri))
        }
    }

    private mutating func load(_ principal: Principal, from place: String) throws(IdentityError) -> StoredIdentity {
        let (chainFile, keyFile) = ("\(place)/\(Self.chainName)", "\(place)/\(Self.keyName)")
        let bytes = try IdentityFiles.readPublic(chainFile)
        let (secret, isPrivate) = try IdentityFiles.read(keyFile)
        let chain: [Certificate]
        do throws(TLSSetupError) { chain = try Certificate.all(pem: bytes) } catch {
            throw IdentityError(chainFile, "\(error)")
        }
        let facts = CertificateFacts(chain[0], file: chainFile)
        try check(chain, facts, isFor: principal)
        do throws(TLSSetupError) {
            guard try PrivateKey(pem: secret).matches(chain[0]) else {
                throw TLSSetupError("not the key of \(chainFile)")
            }
        } catch { throw IdentityError(keyFile, "\(error)") }
        if !isPrivate {
            problems.append(
                CertificateProblem(
                    file: keyFile, cause: "a private key that others may read: chmod 600", principal: principal.uri,
                    isWarning: true))
        }
        return StoredIdentity(facts: facts, chain: bytes, key: secret)
    }

    private func check(
        _ chain: [Certificate], _ facts: CertificateFacts, isFor principal: Principal
    ) throws(IdentityError) {
        guard let found = chain[0].principal else {
            let name = facts.principal.isEmpty ? "no single URI" : facts.principal
            throw IdentityError(facts.file, "not a workload's certificate: it names \(name), not \(principal.uri)")
        }
        guard found == principal else {
            throw IdentityError(facts.file, "the certificate is for \(found.uri), not for \(principal.uri)")
        }
        guard now < facts.notAfter else {
            throw IdentityError(facts.file, "\(principal.uri) expired at \(timeText(facts.notAfter))")
        }
        guard now >= facts.notBefore else {
            throw IdentityError(facts.file, "\(principal.uri) is not valid before \(timeText(facts.notBefore))")
        }
        if let fault = authorities?.fault(of: chain, at: now) {
            throw IdentityError(facts.file, "\(principal.uri) does not lead to \(Self.trustName): \(fault)")
        }
    }
}
