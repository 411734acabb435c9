import AdminAPI
import LinuxIO
import MeshConfig
import MeshIdentity
import MeshModel
import OpenSSLTLS
import ProxyControl

/// Brings certificates to the proxy: those of this node's workloads, and no other key. What changes in the directory
/// reaches connections that begin afterwards; established ones keep theirs.
final class IdentityFeed {
    var onChange: (([SupervisorMessage]) -> Void)?
    private let store: CertificateStore
    private let log: DaemonLog
    private let directory: String
    /// Of the workloads that run here.
    private var principals: Set<String> = []

    init(_ configuration: Configuration, reactor: Reactor, log: DaemonLog) throws(IOError) {
        self.log = log
        directory = configuration.certificatesDirectory
        let box = Box()
        store = try CertificateStore(
            directory: directory, trustDomain: configuration.trustDomain, reactor: reactor
        ) { box.feed?.take($0) }
        box.feed = self
    }

    private final class Box {
        weak var feed: IdentityFeed?
    }

    func start() throws(IOError) {
        for event in try store.start() { tell(event) }
        for problem in store.problems { tell(problem) }
    }

    func reload() { store.reload() }

    /// Trust first: a certificate is checked against it.
    var messagesForNewProxy: [SupervisorMessage] {
        trustMessages + principals.sorted().compactMap(certificateMessage)
    }

    func setLocalPrincipals(of snapshot: Snapshot) {
        let running = Set(
            snapshot.allWorkloads.filter { $0.isLocal && $0.isRunning }.compactMap { snapshot.principal($0.principal) })
        let new = running.subtracting(principals)
        let gone = principals.subtracting(running)
        principals = running
        onChange?(
            new.sorted().compactMap(certificateMessage) + gone.sorted().map { .retireCertificate(principal: $0) })
        for principal in new.sorted() where store.identities[principal] == nil {
            log.warning("no certificate for \(principal) in \(directory); its connections are refused")
        }
    }

    var trustBundleNotAfter: Int64? { store.trust?.facts.map(\.notAfter).min() }

    var problems: [String] {
        store.problems.map(\.description)
            + principals.filter { store.identities[$0] == nil }.map { "no certificate for \($0)" }.sorted()
    }

    /// Certificates of local workloads, those that are missing, and the authorities.
    var rows: [CertificateRow] {
        let now = WallClock.seconds()
        var rows = store.identities.values.map { row($0.facts, now: now) }
        for principal in principals where store.identities[principal] == nil {
            var missing = CertificateRow()
            missing.principal = principal
            missing.state = .missing
            missing.problem =
                store.problems.first { $0.principal == principal }?.description ?? "no file in \(directory)"
            rows.append(missing)
        }
        rows.sort { $0.principal < $1.principal }
        for facts in store.trust?.facts ?? [] {
            var authority = row(facts, now: now)
            authority.principal = "trust bundle"
            rows.append(authority)
        }
        return rows
    }

    // MARK: private

    private var trustMessages: [SupervisorMessage] {
        store.trust.map { [.trust(trustDomain: $0.trustDomain, bundle: $0.bytes)] } ?? []
    }

    private func certificateMessage(_ principal: String) -> SupervisorMessage? {
        guard let identity = store.identities[principal] else { return nil }
        return .certificate(WorkloadCertificate(principal: principal, chain: identity.chain, key: identity.key))
    }

    private func take(_ events: [CertificateEvent]) {
        var messages: [SupervisorMessage] = []
        for event in events {
            tell(event)
            switch event {
            case .trustChanged: messages += trustMessages + principals.sorted().compactMap(certificateMessage)
            case .identityChanged(let principal) where principals.contains(principal):
                if let message = certificateMessage(principal) { messages.append(message) }
            case .identityRetired(let principal) where principals.contains(principal):
                messages.append(.retireCertificate(principal: principal))
            case .problemsChanged: for problem in store.problems { tell(problem) }
            case .identityChanged, .identityRetired, .expiring, .expired: break
            }
        }
        onChange?(messages)
    }

    private func tell(_ event: CertificateEvent) {
        switch event {
        case .trustChanged: log.info("trust bundle in force")
        case .identityChanged(let principal): log.info("certificate in force: \(principal)")
        case .identityRetired(let principal): log.warning("certificate retired: \(principal)")
        case .problemsChanged: break
        case .expiring(let facts): log.warning("certificate ends soon: \(facts.sentence(at: WallClock.seconds()))")
        case .expired(let facts): log.error("certificate has expired: \(facts.sentence(at: WallClock.seconds()))")
        }
    }

    private func tell(_ problem: CertificateProblem) {
        if problem.isWarning { log.warning("\(problem)") } else { log.error("\(problem)") }
    }

    private func row(_ facts: CertificateFacts, now: Int64) -> CertificateRow {
        var row = CertificateRow()
        row.principal = facts.principal
        row.path = facts.file
        row.serial = facts.serial
        row.issuer = facts.issuer
        row.notBefore = facts.notBefore
        row.notAfter = facts.notAfter
        row.state =
            switch facts.state(at: now) {
            case .valid: .valid
            case .expiring: .expiring
            case .expired: .expired
            }
        return row
    }
}
