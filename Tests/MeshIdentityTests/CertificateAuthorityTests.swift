import Glibc
import LinuxIO
import MeshIdentity
import MeshModel
import OpenSSLTLS
import Testing

@Suite struct CertificateAuthorityTests {
    @Test func makesAnAuthorityThatOnlyItsOwnerCanRead() throws {
        let mesh = try Mesh()
        #expect(mesh.root.mode("ca") == 0o700)
        #expect(mesh.root.mode("ca/ca.pem") == 0o600)
        #expect(mesh.root.mode("ca/ca-key.pem") == 0o600)
        #expect(try mesh.root.text("ca/ca-key.pem").hasPrefix("-----BEGIN PRIVATE KEY-----"))
        let certificate = try Certificate.all(pem: mesh.authority.bundle())[0]
        #expect(certificate.isAuthority)
        #expect(certificate.uri == "spiffe://mesh.example")
        #expect(certificate.notBefore == Mesh.now - 300)
        #expect(certificate.notAfter == Mesh.now + 3_650 * 86_400)
        #expect(mesh.authority.trustDomain == "mesh.example")
    }

    @Test(arguments: ["ca.pem", "ca-key.pem"]) func neverOverwritesAnAuthority(left: String) throws {
        let directory = try TemporaryDirectory()
        try directory.write(left, "mine")
        let error = #expect(throws: IdentityError.self) {
            try CertificateAuthority.create(directory: directory.path, trustDomain: "mesh.example")
        }
        #expect(error?.file == "\(directory.path)/\(left)")
        #expect(try directory.text(left) == "mine")
        #expect(try TextFile.list(directory.path).count == 1)
    }

    @Test func issuesTheTrustBundleWhereThereIsNone() throws {
        let mesh = try Mesh()
        let (output, file) = (mesh.root.path + "/node", mesh.root.path + "/node/ca.pem")
        func issue(_ authority: CertificateAuthority) throws -> CertificateAuthority.Issued.Trust {
            try authority.issue(namespace: "shop", serviceAccount: "web", output: output, now: Mesh.now).trust
        }
        #expect(try issue(mesh.authority) == .written(file))
        #expect(try mesh.root.text("node/ca.pem") == mesh.root.text("ca/ca.pem"))
        #expect(try issue(mesh.authority) == .holdsAuthority)
        let other = try CertificateAuthority.create(
            directory: mesh.root.path + "/other", trustDomain: "mesh.example", now: Mesh.now)
        #expect(try issue(other) == .lacksAuthority(file))
        #expect(try mesh.root.text("node/ca.pem") == mesh.root.text("ca/ca.pem"))
    }

    @Test(arguments: ["", "Mesh.example", "mesh example", "mesh/example", "mesh.example,DNS:x"])
    func refusesWhatIsNoTrustDomain(name: String) throws {
        let directory = try TemporaryDirectory()
        #expect(throws: IdentityError.self) {
            try CertificateAuthority.create(directory: directory.path + "/ca", trustDomain: name)
        }
        #expect(!directory.exists("ca"))
    }

    @Test func issuesAWorkloadsCertificate() throws {
        let mesh = try Mesh()
        let issued = try mesh.authority.issue(
            namespace: "shop", serviceAccount: "web", output: mesh.certificates, now: Mesh.now)
        #expect(issued.principal == Mesh.principal("web"))
        #expect(issued.chainFile == mesh.certificates + "/shop/web/chain.pem")
        #expect(mesh.root.mode("certificates/shop/web/chain.pem") == 0o600)
        #expect(mesh.root.mode("certificates/shop/web/key.pem") == 0o600)
        #expect(!mesh.root.exists("certificates/shop/web/key.pem.new"))
        let leaf = try Certificate.all(pem: Array(mesh.root.text("certificates/shop/web/chain.pem").utf8))[0]
        #expect(leaf.principal?.uri == Mesh.principal("web"))
        #expect(leaf.subject.isEmpty)
        #expect(leaf.serial == issued.serial)
        #expect(leaf.notBefore == Mesh.now - 300)
        #expect(leaf.notAfter == Mesh.now + 30 * 86_400)
        #expect(!leaf.isAuthority)
        let trust = try TLSTrust(trustDomain: "mesh.example", bundle: mesh.authority.bundle())
        #expect(trust.fault(of: [leaf], at: Mesh.now) == nil)
        #expect(trust.fault(of: [leaf], at: Mesh.now + 31 * 86_400) != nil)
    }

    @Test func issuedCertificatesMakeIdentities() throws {
        let mesh = try Mesh()
        let trust = try TLSTrust(trustDomain: "mesh.example", bundle: mesh.authority.bundle())
        let identities = try ["web", "shop"].map { account in
            try mesh.issue(account)
            var key = Array(try mesh.root.text("certificates/shop/\(account)/key.pem").utf8)
            return try TLSIdentity(
                principal: Mesh.principal(account),
                chain: Array(mesh.root.text("certificates/shop/\(account)/chain.pem").utf8),
                key: SecretBytes(taking: &key), trust: trust)
        }
        #expect(identities[0].principal == Mesh.principal("web"))
        #expect(identities[0].notAfter == Mesh.now + 1_000)
    }

    @Test func eachIssueMakesANewKeyAndSerial() throws {
        let mesh = try Mesh()
        let first = try mesh.issue("web")
        let key = try mesh.root.text("certificates/shop/web/key.pem")
        let second = try mesh.issue("web")
        #expect(first.serial != second.serial)
        #expect(try mesh.root.text("certificates/shop/web/key.pem") != key)
    }

    @Test func aKeyFileLeftByACrashDoesNotLendItsMode() throws {
        let mesh = try Mesh()
        try mesh.issue("web")
        let left = mesh.certificates + "/shop/web/key.pem.new"
        try TextFile.replace(left, with: [1])
        chmod(left, 0o666)
        try mesh.issue("web")
        #expect(mesh.root.mode("certificates/shop/web/key.pem") == 0o600)
        #expect(!mesh.root.exists("certificates/shop/web/key.pem.new"))
    }

    @Test(arguments: ["", ".", "..", "a/b", "a b", "a,DNS:x", "ä"]) func refusesNamesThatNoPrincipalHas(name: String)
        throws
    {
        let mesh = try Mesh()
        #expect(throws: IdentityError.self) { try mesh.issue(name) }
        #expect(try TextFile.list(mesh.certificates).count == 1)
    }

    @Test func aCertificateEndsWithItsAuthority() throws {
        let mesh = try Mesh(lifetime: 500)
        let issued = try mesh.issue("web", lifetime: 1_000)
        #expect(issued.notAfter == Mesh.now + 500)
        #expect(issued.isCutByAuthority)
        let error = #expect(throws: IdentityError.self) { try mesh.issue("web", at: Mesh.now + 500) }
        #expect(error?.description.contains("expired at 2027-01-15T08:08:20Z") == true, "\(error?.description ?? "")")
    }

    @Test func namesTheFileThatIsNotAnAuthoritys() throws {
        let mesh = try Mesh()
        let other = try Mesh()
        let key = try other.root.text("ca/ca-key.pem")
        try mesh.root.write("ca/ca-key.pem", key)
        var error = #expect(throws: IdentityError.self) { try CertificateAuthority(directory: mesh.root.path + "/ca") }
        #expect(error?.file.hasSuffix("ca-key.pem") == true)
        #expect(error?.cause.contains("not the key of") == true)
        try mesh.root.write("ca/ca.pem", "no certificate")
        error = #expect(throws: IdentityError.self) { try CertificateAuthority(directory: mesh.root.path + "/ca") }
        #expect(error?.file.hasSuffix("ca.pem") == true)
    }

    @Test func readsLifetimes() {
        #expect(CertificateLifetime(parsing: "30d")?.seconds == 2_592_000)
        #expect(CertificateLifetime(parsing: "12h")?.seconds == 43_200)
        #expect(CertificateLifetime(parsing: "90m")?.seconds == 5_400)
        #expect(CertificateLifetime(parsing: "1s")?.seconds == 1)
        for text in ["", "d", "0d", "-1d", "+1d", "1", "1.5h", "1w", "36501d", "99999999999999999999s", "٣d"] {
            #expect(CertificateLifetime(parsing: text) == nil, "\(text)")
        }
    }
}
