package import LinuxIO
package import MeshConfig
package import MeshModel

/// The resources in force and what the files say now.
package struct DiscoveryStatus: Equatable, Sendable {
    /// The last good set; stays while the files are broken.
    package var resources = ResourceSet()
    /// Whether `resources` is what the files say now.
    package var isCurrent = false
    /// Of the latest reading, by place.
    package var problems: [Diagnostic] = []
    /// Problems beyond those in the list.
    package var suppressedProblems = 0
    package var fileCount = 0
    /// Readings of changed files, and those of them that were not taken.
    package var readings: UInt64 = 0
    package var failedReadings: UInt64 = 0
    /// CLOCK_BOOTTIME since when the files have been broken.
    package var brokenSinceNanoseconds: UInt64?
}

/// Watches a directory of resource files. A change is taken as a whole or not at all: after a quiet moment everything
/// is read and checked, and a set with errors leaves the last good one in force. Runs on the reactor's thread.
package final class FileSource {
    package private(set) var status = DiscoveryStatus()
    private let directory: String
    private let localNode: String
    private let names: MeshNames
    private let reactor: Reactor
    private let onChange: (DiscoveryStatus) -> Void
    private let watch: FileWatch
    private var descriptorWatch: Reactor.WatchID?
    private var directoryWatch: FileWatch.WatchID?
    private var debounce: Reactor.TimerID?
    private var firstChangeNanoseconds: UInt64?
    /// Files that someone is writing, as far as one can tell: made or modified, and not closed since.
    private var filesBeingWritten: Set<String> = []
    private var lastContents: [ResourceFiles.Content]?
    private var rescan: Reactor.TimerID?

    /// A group of changes is over when nothing happened for so long ...
    private static let quietMilliseconds: UInt64 = 100
    /// ... or, while a file is being written, for so long ...
    private static let writingMilliseconds: UInt64 = 1_000
    /// ... or when it has lasted for so long.
    private static let groupMilliseconds: UInt64 = 5_000
    /// Against what inotify does not tell: directories that appear or are replaced, network file systems.
    private static let rescanMilliseconds: UInt64 = 30_000

    /// `lastGood` is in force until a reading succeeds. `onChange` is called when a reading has changed the resources
    /// or the problems, not for the first one, which `start` returns.
    package init(
        directory: String, localNode: String, names: MeshNames = MeshNames(), lastGood: ResourceSet? = nil,
        reactor: Reactor,
        onChange: @escaping (DiscoveryStatus) -> Void
    ) throws(IOError) {
        self.directory = directory
        self.localNode = localNode
        self.names = names
        self.reactor = reactor
        self.onChange = onChange
        watch = try FileWatch()
        if let lastGood { status.resources = lastGood }
    }

    /// Begins to watch, reads once and returns the result.
    package func start() throws(IOError) -> DiscoveryStatus {
        descriptorWatch = try reactor.watch(watch.descriptor) { [weak self] _ in self?.drainEvents() }
        watchDirectory()
        // Watch first, read then: a change in between is seen twice, not missed.
        read()
        rescan = reactor.schedule(
            afterMilliseconds: Self.rescanMilliseconds, every: Self.rescanMilliseconds
        ) { [weak self] in self?.reload() }
        return status
    }

    package func stop() {
        if let descriptorWatch { reactor.remove(descriptorWatch) }
        if let debounce { reactor.cancel(debounce) }
        if let rescan { reactor.cancel(rescan) }
        descriptorWatch = nil
        debounce = nil
        rescan = nil
    }

    /// Looks at the directory now, as after SIGHUP.
    package func reload() {
        endGroup()
        if directoryWatch == nil { watchDirectory() }
        if read() { onChange(status) }
    }

    // MARK: private

    private func watchDirectory() {
        // Without a directory the reading reports it, and the rescan tries again.
        directoryWatch = try? watch.add(directory, [.content, .modified])
    }

    private func drainEvents() {
        guard let events = try? watch.events() else { return }
        var isConcerned = false
        for event in events {
            if !event.changes.isDisjoint(with: [.selfDeleted, .selfMoved, .ignored]) {
                if event.changes.contains(.selfMoved), let directoryWatch { watch.remove(directoryWatch) }
                directoryWatch = nil
                isConcerned = true
            } else if event.changes.contains(.overflow) || concerns(event) {
                isConcerned = true
            }
        }
        if isConcerned { postpone() }
    }

    private func concerns(_ event: FileWatch.Event) -> Bool {
        // `..data` is what a mounted Kubernetes volume renames when it changes its files.
        guard ResourceFiles.isResourceFile(event.name) || event.name.hasPrefix("..") else { return false }
        if !event.changes.isDisjoint(with: [.created, .modified]) {
            filesBeingWritten.insert(event.name)
        } else {
            filesBeingWritten.remove(event.name)
        }
        return true
    }

    /// Reads after a quiet moment.
    private func postpone() {
        let now = BootClock.nanoseconds()
        let first = firstChangeNanoseconds ?? now
        firstChangeNanoseconds = first
        let left = Self.groupMilliseconds - min(Self.groupMilliseconds, (now - first) / 1_000_000)
        let quiet = filesBeingWritten.isEmpty ? Self.quietMilliseconds : Self.writingMilliseconds
        if let debounce { reactor.cancel(debounce) }
        debounce = reactor.schedule(afterMilliseconds: min(quiet, left)) { [weak self] in self?.reload() }
    }

    private func endGroup() {
        if let debounce { reactor.cancel(debounce) }
        debounce = nil
        firstChangeNanoseconds = nil
        filesBeingWritten.removeAll()
    }

    /// True if that changed the resources or the problems.
    @discardableResult
    private func read() -> Bool {
        var diagnostics = Diagnostics()
        let contents = ResourceFiles.contents(of: directory, diagnostics: &diagnostics)
        if !diagnostics.hasErrors && contents == lastContents { return false }
        lastContents = diagnostics.hasErrors ? nil : contents
        let files = ResourceFiles(
            contents, directory: directory, localNode: localNode, names: names, diagnostics: diagnostics)
        let before = status
        status.problems = files.diagnostics.list
        status.suppressedProblems = files.diagnostics.suppressedCount
        status.fileCount = files.fileCount
        status.isCurrent = files.resources != nil
        if let resources = files.resources {
            status.resources = resources
            status.brokenSinceNanoseconds = nil
        } else if status.brokenSinceNanoseconds == nil {
            status.brokenSinceNanoseconds = BootClock.nanoseconds()
        }
        // A directory that stays unreadable is one failure, not one for every look at it.
        guard status != before || before.readings == 0 else { return false }
        status.readings += 1
        if !status.isCurrent { status.failedReadings += 1 }
        return true
    }
}
