package import LinuxIO

/// What a look at the certificate directory has changed.
package enum CertificateEvent: Equatable, Sendable {
    case trustChanged
    /// New, or in place of an older one: connections that begin now use it, those that are there keep theirs.
    case identityChanged(principal: String)
    /// Its directory is gone.
    case identityRetired(principal: String)
    case problemsChanged
    /// At most 20 % of its life is left. Told once for each certificate.
    case expiring(CertificateFacts)
    case expired(CertificateFacts)
}

/// The node's certificates: follows their directory, keeps the last good one of each, and says what is wrong. Runs on
/// the reactor's thread. It holds the keys, as a proxy that is started anew needs them whatever the files say by then;
/// one that is replaced or retired is overwritten in memory once nobody holds it.
package final class CertificateStore {
    /// The last good authorities; nil until there were any.
    package private(set) var trust: TrustBundle?
    /// The last good certificates, by principal.
    package private(set) var identities: [String: StoredIdentity] = [:]
    /// Of the latest look, by file.
    package private(set) var problems: [CertificateProblem] = []
    /// Whether all that is in force is what the files say now.
    package var isCurrent: Bool { problems.allSatisfy(\.isWarning) }
    package private(set) var readings: UInt64 = 0
    package private(set) var failedReadings: UInt64 = 0

    private let directory: String
    private let trustDomain: String
    private let reactor: Reactor
    private let clock: () -> Int64
    private let onEvents: ([CertificateEvent]) -> Void
    private let watch: FileWatch
    private var descriptorWatch: Reactor.WatchID?
    private var directoryWatches: [String: FileWatch.WatchID] = [:]
    private var debounce: Reactor.TimerID?
    private var rescan: Reactor.TimerID?
    private var firstChangeNanoseconds: UInt64?
    /// Serial numbers that were told about, by file.
    private var announced: [String: CertificateEvent] = [:]

    /// A group of changes (key, then chain) is over when nothing happened for so long ...
    private static let quietMilliseconds: UInt64 = 200
    /// ... or when it has lasted for so long.
    private static let groupMilliseconds: UInt64 = 2_000
    /// For what inotify does not tell (a directory that appears, a network file system), and for expiry.
    private static let rescanMilliseconds: UInt64 = 30_000

    /// `clock`: seconds since 1970. `onEvents` is not called for the first look, whose result is in the properties.
    package init(
        directory: String, trustDomain: String, reactor: Reactor, clock: @escaping () -> Int64 = WallClock.seconds,
        onEvents: @escaping ([CertificateEvent]) -> Void
    ) throws(IOError) {
        self.directory = directory
        self.trustDomain = trustDomain
        self.reactor = reactor
        self.clock = clock
        self.onEvents = onEvents
        watch = try FileWatch()
    }

    /// Begins to watch and looks once. Returns what is worth a line in the log already.
    package func start() throws(IOError) -> [CertificateEvent] {
        descriptorWatch = try reactor.watch(watch.descriptor) { [weak self] _ in self?.drainEvents() }
        rescan = reactor.schedule(
            afterMilliseconds: Self.rescanMilliseconds, every: Self.rescanMilliseconds
        ) { [weak self] in self?.reload() }
        return look()
    }

    package func stop() {
        if let descriptorWatch { reactor.remove(descriptorWatch) }
        if let debounce { reactor.cancel(debounce) }
        if let rescan { reactor.cancel(rescan) }
        (descriptorWatch, debounce, rescan) = (nil, nil, nil)
    }

    /// Looks at the directory now, as after SIGHUP.
    package func reload() {
        let events = look()
        if !events.isEmpty { onEvents(events) }
    }

    /// All certificates in force, authorities last.
    package var facts: [CertificateFacts] {
        identities.values.map(\.facts).sorted { $0.principal < $1.principal } + (trust?.facts ?? [])
    }

    // MARK: private

    private func drainEvents() {
        guard let events = try? watch.events(), events.contains(where: isOurs) else { return }
        let now = BootClock.nanoseconds()
        let first = firstChangeNanoseconds ?? now
        firstChangeNanoseconds = first
        let left = Self.groupMilliseconds - min(Self.groupMilliseconds, (now - first) / 1_000_000)
        if let debounce { reactor.cancel(debounce) }
        debounce = reactor.schedule(afterMilliseconds: min(Self.quietMilliseconds, left)) { [weak self] in
            self?.reload()
        }
    }

    /// A writer's temporary file is no news, its renaming is.
    private func isOurs(_ event: FileWatch.Event) -> Bool {
        !event.name.hasSuffix(".new") || event.changes.contains(.overflow)
    }

    private func look() -> [CertificateEvent] {
        if let debounce { reactor.cancel(debounce) }
        debounce = nil
        firstChangeNanoseconds = nil
        let now = clock()
        var found = CertificateDirectory(directory, trustDomain: trustDomain, now: now)
        if follow(found.directories) {
            // What came before its directory was watched is seen by a second look.
            found = CertificateDirectory(directory, trustDomain: trustDomain, now: now)
        }
        return take(found, now: now)
    }

    /// Watches these directories and no other. True if there is a new one among them.
    private func follow(_ directories: [String]) -> Bool {
        let wanted = Set(directories)
        for (path, id) in directoryWatches where !wanted.contains(path) {
            watch.remove(id)
            directoryWatches[path] = nil
        }
        var isNew = false
        for path in directories {
            // Asked for each time: a directory that was replaced by another of its name gets a new watch.
            guard let id = try? watch.add(path, .content) else { continue }
            if directoryWatches.updateValue(id, forKey: path) != id { isNew = true }
        }
        return isNew
    }

    private func take(_ found: CertificateDirectory, now: Int64) -> [CertificateEvent] {
        var events: [CertificateEvent] = []
        if let bundle = found.trust, bundle != trust {
            trust = bundle
            events.append(.trustChanged)
        }
        for (principal, identity) in found.identities.sorted(by: { $0.key < $1.key }) {
            if let known = identities[principal], known.isSame(identity) { continue }
            identities[principal] = identity
            events.append(.identityChanged(principal: principal))
        }
        if found.isComplete {
            for principal in identities.keys.sorted() where !found.principals.contains(principal) {
                identities[principal] = nil
                events.append(.identityRetired(principal: principal))
            }
        }
        if found.problems != problems || readings == 0 {
            readings += 1
            if found.problems != problems { events.append(.problemsChanged) }
            problems = found.problems
            if !isCurrent { failedReadings += 1 }
        } else if !events.isEmpty {
            readings += 1
        }
        return events + expiries(now)
    }

    /// Those that have come near their end or past it since the last look.
    private func expiries(_ now: Int64) -> [CertificateEvent] {
        var (events, current): ([CertificateEvent], [String: CertificateEvent]) = ([], [:])
        for facts in facts {
            let event: CertificateEvent
            switch facts.state(at: now) {
            case .valid: continue
            case .expiring: event = .expiring(facts)
            case .expired: event = .expired(facts)
            }
            let key = "\(facts.file) \(facts.serial)"
            current[key] = event
            if announced[key] != event { events.append(event) }
        }
        announced = current
        return events
    }
}
