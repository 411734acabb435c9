import Glibc
import LinuxIO
import MeshIdentity
import OpenSSLTLS
import Testing

@Suite struct CertificateStoreTests {
    /// A store over a mesh's directory, with a clock and a record of what it told.
    final class Fixture {
        let mesh: Mesh
        let reactor: Reactor
        var now = Mesh.now
        var told: [CertificateEvent] = []
        private(set) var store: CertificateStore!

        init(_ mesh: Mesh) throws {
            self.mesh = mesh
            reactor = try Reactor()
            let box = Box()
            store = try CertificateStore(
                directory: mesh.certificates, trustDomain: "mesh.example", reactor: reactor,
                clock: { box.fixture?.now ?? 0 }, onEvents: { box.fixture?.told += $0 })
            box.fixture = self
        }

        deinit { store.stop() }

        private final class Box {
            weak var fixture: Fixture?
        }

        /// Serves the reactor until `isDone`, at most 5 s.
        func wait(_ isDone: () -> Bool) throws {
            let end = BootClock.nanoseconds() + 5_000_000_000
            while !isDone() && BootClock.nanoseconds() < end { try reactor.turn(limitMilliseconds: 50) }
            #expect(isDone(), "told: \(told), problems: \(store.problems)")
        }
    }

    private func started(_ accounts: String...) throws -> Fixture {
        let mesh = try Mesh()
        for account in accounts { try mesh.issue(account) }
        let fixture = try Fixture(mesh)
        _ = try fixture.store.start()
        return fixture
    }

    @Test func loadsWhatTheAuthorityWrites() throws {
        let fixture = try started("web", "shop")
        let store = try #require(fixture.store)
        #expect(store.problems.isEmpty)
        #expect(store.isCurrent)
        #expect(store.identities.keys.sorted() == [Mesh.principal("shop"), Mesh.principal("web")])
        let web = try #require(store.identities[Mesh.principal("web")])
        #expect(web.facts.file == fixture.mesh.certificates + "/shop/web/chain.pem")
        #expect(web.facts.notAfter == Mesh.now + 1_000)
        #expect(web.facts.issuer == "CN=Culvert mesh.example")
        #expect(store.trust?.bytes == (try fixture.mesh.authority.bundle()))
        #expect(store.facts.map(\.principal).last == "spiffe://mesh.example")
        let trust = try TLSTrust(trustDomain: "mesh.example", bundle: store.trust?.bytes ?? [])
        _ = try TLSIdentity(principal: web.principal, chain: web.chain, key: web.key, trust: trust)
    }

    @Test func takesUpARenewedCertificateAndANewOne() throws {
        let fixture = try started("web")
        let old = fixture.store.identities[Mesh.principal("web")]?.facts.serial
        try fixture.mesh.issue("web", lifetime: 2_000)
        try fixture.wait { fixture.store.identities[Mesh.principal("web")]?.facts.serial != old }
        #expect(fixture.told == [.identityChanged(principal: Mesh.principal("web"))])
        fixture.told = []
        // In directories that did not exist.
        _ = try fixture.mesh.authority.issue(
            namespace: "back", serviceAccount: "db", output: fixture.mesh.certificates, now: Mesh.now)
        let name = "spiffe://mesh.example/ns/back/sa/db"
        try fixture.wait { fixture.store.identities[name] != nil }
        #expect(fixture.told == [.identityChanged(principal: name)])
    }

    @Test func retiresACertificateWhoseDirectoryIsGone() throws {
        let fixture = try started("web", "shop")
        TemporaryDirectory.remove(fixture.mesh.certificates + "/shop/web")
        try fixture.wait { fixture.store.identities.count == 1 }
        #expect(fixture.told.contains(.identityRetired(principal: Mesh.principal("web"))))
        #expect(fixture.store.isCurrent)
    }

    @Test(arguments: ["chain.pem", "key.pem"]) func keepsTheLastGoodOneWhenAFileBreaks(name: String) throws {
        let fixture = try started("web")
        let serial = fixture.store.identities[Mesh.principal("web")]?.facts.serial
        for text in ["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            try fixture.mesh.root.write("certificates/shop/web/\(name)", text)
            fixture.store.reload()
            let problem = try #require(fixture.store.problems.first)
            #expect(problem.file == fixture.mesh.certificates + "/shop/web/\(name)")
            #expect(!problem.cause.isEmpty)
            #expect(problem.principal == Mesh.principal("web"))
            #expect(!fixture.store.isCurrent)
            #expect(fixture.store.identities[Mesh.principal("web")]?.facts.serial == serial)
        }
        unlink(fixture.mesh.certificates + "/shop/web/\(name)")
        try fixture.wait { fixture.store.problems.first?.cause.contains("No such file") == true }
        #expect(fixture.store.identities[Mesh.principal("web")]?.facts.serial == serial)
        try fixture.mesh.issue("web")
        try fixture.wait { fixture.store.problems.isEmpty }
        #expect(fixture.store.identities[Mesh.principal("web")]?.facts.serial != serial)
    }

    @Test func keepsTheTrustBundleWhenItBreaks() throws {
        let fixture = try started("web")
        let good = fixture.store.trust
        let leaf = try fixture.mesh.root.text("certificates/shop/web/chain.pem")
        for text in ["", "garbage", leaf] {
            try fixture.mesh.root.write("certificates/ca.pem", text)
            fixture.store.reload()
            #expect(fixture.store.trust == good)
            #expect(fixture.store.problems.first?.file == fixture.mesh.certificates + "/ca.pem")
        }
        #expect(fixture.store.identities.count == 1)
    }

    @Test func keepsEverythingWhenTheDirectoryGoesAway() throws {
        let fixture = try started("web")
        rename(fixture.mesh.certificates, fixture.mesh.root.path + "/elsewhere")
        fixture.store.reload()
        #expect(fixture.store.identities.count == 1)
        #expect(!fixture.store.isCurrent)
        rename(fixture.mesh.root.path + "/elsewhere", fixture.mesh.certificates)
        fixture.store.reload()
        #expect(fixture.store.isCurrent)
        // And it is watched again.
        try fixture.mesh.issue("shop")
        try fixture.wait { fixture.store.identities.count == 2 }
    }

    // MARK: what is wrong with a certificate

    private func cause(_ arrange: (Mesh) throws -> Void) throws -> String {
        let mesh = try Mesh()
        try arrange(mesh)
        let fixture = try Fixture(mesh)
        _ = try fixture.store.start()
        #expect(fixture.store.identities.isEmpty)
        return fixture.store.problems.map(\.description).joined(separator: "\n")
    }

    @Test func namesAnExpiredCertificateAndItsTime() throws {
        let text = try cause { try $0.issue("web", lifetime: 100, at: Mesh.now - 1_000) }
        #expect(text.contains("\(Mesh.principal("web")) expired at 2027-01-15T07:45:00Z"), "\(text)")
    }

    @Test func namesACertificateThatIsNotYetValid() throws {
        let text = try cause { try $0.issue("web", at: Mesh.now + 1_000) }
        #expect(text.contains("is not valid before 2027-01-15T08:11:40Z"), "\(text)")
    }

    @Test func namesACertificateInTheWrongPlace() throws {
        let text = try cause { mesh in
            try mesh.issue("web")
            rename(mesh.certificates + "/shop/web", mesh.certificates + "/shop/other")
        }
        #expect(text.contains("is for \(Mesh.principal("web")), not for \(Mesh.principal("other"))"), "\(text)")
    }

    @Test func namesAKeyThatIsNotTheCertificates() throws {
        let text = try cause { mesh in
            try mesh.issue("web")
            try mesh.issue("shop")
            let key = try mesh.root.text("certificates/shop/shop/key.pem")
            try mesh.root.write("certificates/shop/web/key.pem", key)
            TemporaryDirectory.remove(mesh.certificates + "/shop/shop")
        }
        #expect(text.contains("key.pem: not the key of"), "\(text)")
    }

    @Test func namesACertificateOfAnotherAuthority() throws {
        let other = try Mesh()
        let text = try cause { mesh in
            try mesh.issue("web")
            try mesh.root.write("certificates/ca.pem", other.root.text("ca/ca.pem"))
        }
        #expect(text.contains("does not lead to ca.pem"), "\(text)")
    }

    @Test func namesADirectoryThatIsNoPrincipal() throws {
        let text = try cause { try TextFile.createDirectory($0.certificates + "/shop/w b") }
        #expect(text.contains("can't be in a SPIFFE ID"), "\(text)")
    }

    @Test func warnsOfAKeyThatOthersMayRead() throws {
        let fixture = try started("web")
        chmod(fixture.mesh.certificates + "/shop/web/key.pem", 0o644)
        fixture.store.reload()
        let problem = try #require(fixture.store.problems.first)
        #expect(problem.isWarning)
        #expect(problem.cause.contains("chmod 600"))
        #expect(fixture.store.isCurrent)
    }

    @Test func doesNotBlockOnAPipeOrReadAnEndlessFile() throws {
        let text = try cause { mesh in
            try mesh.issue("web")
            let chain = mesh.certificates + "/shop/web/chain.pem"
            unlink(chain)
            try #require(mkfifo(chain, 0o600) == 0)
            try mesh.issue("big")
            try TextFile.replace(
                mesh.certificates + "/shop/big/chain.pem", with: [UInt8](repeating: 10, count: 1 << 20 + 1))
        }
        #expect(text.contains("not a regular file"), "\(text)")
        #expect(text.contains("larger than"), "\(text)")
    }

    // MARK: time

    @Test func warnsOnceAtAFifthOfTheLifeAndOnceAtItsEnd() throws {
        let fixture = try started("web")
        let facts = try #require(fixture.store.identities[Mesh.principal("web")]?.facts)
        // Valid for 1,300 s: from 300 before now to 1,000 after it.
        fixture.now = Mesh.now + 739
        fixture.store.reload()
        #expect(fixture.told.isEmpty)
        fixture.now = Mesh.now + 740
        fixture.store.reload()
        fixture.store.reload()
        #expect(fixture.told == [.expiring(facts)])
        #expect(facts.state(at: fixture.now) == .expiring)
        fixture.told = []
        fixture.now = Mesh.now + 1_000
        fixture.store.reload()
        fixture.store.reload()
        #expect(fixture.told == [.problemsChanged, .expired(facts)])
        #expect(facts.state(at: fixture.now) == .expired)
        #expect(facts.sentence(at: fixture.now).contains("expired at 2027-01-15T08:16:40Z"))
        // It is still held: peers name the reason, and a clock may be wrong.
        #expect(fixture.store.identities.count == 1)
        fixture.told = []
        try fixture.mesh.issue("web", at: fixture.now)
        fixture.store.reload()
        #expect(fixture.told == [.identityChanged(principal: Mesh.principal("web")), .problemsChanged])
    }
}
