import Glibc
import LinuxIO
import MeshConfig
import MeshDiscovery
import MeshModel
import Testing

@Suite struct FileSourceTests {
    private final class Observed {
        var changes: [DiscoveryStatus] = []
    }

    private let reactor: Reactor
    private let observed = Observed()

    init() throws { reactor = try Reactor() }

    private func source(_ directory: String, lastGood: ResourceSet? = nil) throws -> FileSource {
        let observed = observed
        return try FileSource(directory: directory, localNode: "a", lastGood: lastGood, reactor: reactor) {
            observed.changes.append($0)
        }
    }

    /// Turns the reactor until `condition` holds, at most for `milliseconds`.
    private func wait(_ milliseconds: UInt64 = 5_000, until condition: () -> Bool = { false }) throws {
        let deadline = BootClock.nanoseconds() + milliseconds * 1_000_000
        while !condition() && BootClock.nanoseconds() < deadline { try reactor.turn(limitMilliseconds: 20) }
    }

    private func names(_ status: DiscoveryStatus?) -> [String] {
        status?.resources.workloads.map(\.name).sorted() ?? []
    }

    @Test func changesAreTakenAndBrokenOnesLeaveTheLastGoodSetInForce() throws {
        let directory = try TemporaryDirectory()
        directory.write("nodes.yaml", Sample.node("a", "10.0.0.1"))
        let source = try source(directory.path)
        defer { source.stop() }
        #expect(try source.start().isCurrent)

        directory.write("w.yaml", Sample.workload("one"))
        try wait { !observed.changes.isEmpty }
        #expect(names(observed.changes.last) == ["one"])

        directory.write("w.yaml", Sample.workload("one") + Sample.workload("two", node: "nowhere"))
        try wait { observed.changes.count == 2 }
        let broken = try #require(observed.changes.last)
        #expect(!broken.isCurrent && broken.brokenSinceNanoseconds != nil && names(broken) == ["one"])
        #expect(broken.problems.first?.position.line == 14)
        #expect(broken.problems.first?.position.file == "\(directory.path)/w.yaml")
        #expect(broken.failedReadings == 1)

        directory.write("w.yaml", Sample.workload("one") + Sample.workload("two"))
        try wait { observed.changes.count == 3 }
        let mended = try #require(observed.changes.last)
        #expect(mended.isCurrent && mended.brokenSinceNanoseconds == nil && names(mended) == ["one", "two"])

        directory.delete("w.yaml")
        try wait { observed.changes.count == 4 }
        #expect(names(observed.changes.last).isEmpty)
    }

    @Test func severalWritesInARowAreOneReading() throws {
        let directory = try TemporaryDirectory()
        let source = try source(directory.path)
        defer { source.stop() }
        _ = try source.start()
        directory.write("nodes.yaml", Sample.node("a", "10.0.0.1"))
        for number in 0..<20 { directory.write("w\(number).yaml", Sample.workload("w\(number)")) }
        try wait { !observed.changes.isEmpty }
        try wait(300)
        #expect(observed.changes.count == 1 && names(observed.changes.last).count == 20)
    }

    @Test func dotfilesAndEditorsLeftoversAreNoChange() throws {
        let directory = try TemporaryDirectory()
        directory.write("nodes.yaml", Sample.node("a", "10.0.0.1"))
        let source = try source(directory.path)
        defer { source.stop() }
        let readings = try source.start().readings
        for name in [".w.yaml.swp", ".w.yaml", "w.yaml~", "#w.yaml#", "4913", "w.yaml.new"] {
            directory.write(name, "kind: [\n")
        }
        try wait(400)
        #expect(observed.changes.isEmpty && source.status.readings == readings)
        // Written aside and renamed, as careful writers do.
        directory.write("w.yaml.new", Sample.workload("one"))
        rename("\(directory.path)/w.yaml.new", "\(directory.path)/w.yaml")
        try wait { !observed.changes.isEmpty }
        #expect(names(observed.changes.last) == ["one"])
    }

    @Test func aFileThatIsStillBeingWrittenIsWaitedFor() throws {
        let directory = try TemporaryDirectory()
        directory.write("nodes.yaml", Sample.node("a", "10.0.0.1"))
        let source = try source(directory.path)
        defer { source.stop() }
        _ = try source.start()
        let file = try #require(fopen("\(directory.path)/w.yaml", "w"))
        fputs(Sample.workload("one"), file)
        fflush(file)
        try wait(400)
        #expect(observed.changes.isEmpty)
        fputs(Sample.workload("two"), file)
        fclose(file)
        try wait { !observed.changes.isEmpty }
        #expect(observed.changes.count == 1 && names(observed.changes.last) == ["one", "two"])
    }

    @Test func brokenFilesAtStartLeaveTheStateFromDiskInForce() throws {
        let directory = try TemporaryDirectory()
        directory.write("nodes.yaml", "kind: Nod\n")
        let lastGood = ResourceSet(nodes: [NodeResource(name: "a")])
        let source = try source(directory.path, lastGood: lastGood)
        defer { source.stop() }
        let status = try source.start()
        #expect(!status.isCurrent && status.resources == lastGood && status.problems.count == 1)
        directory.write("nodes.yaml", Sample.node("a", "10.0.0.1"))
        try wait { !observed.changes.isEmpty }
        #expect(observed.changes.last?.isCurrent == true)
    }

    @Test func aDirectoryThatGoesAndComesBackIsWatchedAgain() throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/resources"
        let source = try source(path)
        defer { source.stop() }
        #expect(try source.start().isCurrent == false)
        mkdir(path, 0o755)
        directory.write("resources/nodes.yaml", Sample.node("a", "10.0.0.1") + Sample.workload("one"))
        source.reload()
        #expect(names(observed.changes.last) == ["one"])
        rename(path, path + ".old")
        try wait { observed.changes.count == 2 }
        #expect(observed.changes.last?.isCurrent == false && names(observed.changes.last) == ["one"])
        rename(path + ".old", path)
        source.reload()
        #expect(observed.changes.last?.isCurrent == true)
        directory.write("resources/w.yaml", Sample.workload("two"))
        try wait { names(observed.changes.last).count == 2 }
        #expect(names(observed.changes.last) == ["one", "two"])
    }
}
