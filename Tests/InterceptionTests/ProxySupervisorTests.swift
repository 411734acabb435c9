import Glibc
@testable import Interception
import LinuxIO
import MeshModel
import ProxyControl
import Testing

/// A supervisor on a reactor of its own, with the fixture as its proxy.
private final class Stage {
    let cgroup: TestCgroup
    let directory: String
    let executable: String
    let reactor: Reactor
    var supervisor: ProxySupervisor?
    var hellos: [ProxyHello] = []
    var messages: [ProxyMessage] = []
    var reports: [String] = []
    var ends = 0
    var replacements: [(Int32?, Int32)] = []

    init(_ suffix: String) throws {
        cgroup = try TestCgroup(suffix)
        directory = "/tmp/culvert-i\(getpid())-\(suffix)"
        executable = try meshdPath().split(separator: "/").dropLast().joined(separator: "/")
        reactor = try Reactor()
    }

    deinit {
        supervisor?.endProxy()
        unlink(directory + "/control.sock")
        rmdir(directory)
        for path in copies { unlink(path) }
    }

    private var copies: [String] = []

    func start(uid: UInt32 = 65_534, change: (inout ProxySupervisor.Configuration) -> Void = { _ in }) throws {
        var configuration = ProxySupervisor.Configuration(
            executable: "/\(executable)/interception-fixture", controlDirectory: directory, uid: uid, gid: 65_534,
            cgroup: cgroup.path + "/culvert/proxy", hierarchy: cgroup.hierarchy)
        configuration.reconnectMilliseconds = 1_000
        change(&configuration)
        let next = ProxySupervisor(
            configuration, reactor: reactor,
            callbacks: .init(
                connected: { [unowned self] hello, process in
                    hellos.append(hello)
                    // Here nothing more is needed to serve.
                    if process.role == .next { supervisor?.confirm(process) }
                },
                message: { [unowned self] message, _ in messages.append(message) },
                replaced: { [unowned self] old, new in
                    replacements.append((old?.pid, new.pid))
                    return true
                },
                ended: { [unowned self] _ in ends += 1 },
                report: { [unowned self] in reports.append($0.text) }))
        supervisor = next
        try next.start()
    }

    /// A program that is the fixture, at a path of its own.
    func copyFixture() throws -> String {
        let path = directory + "-proxy"
        try command("/bin/cp", "--remove-destination", "/\(executable)/interception-fixture", path)
        copies.append(path)
        return path
    }

    func run(until isDone: () -> Bool, milliseconds: UInt64 = 5_000) throws -> Bool {
        let deadline = BootClock.nanoseconds() + milliseconds * 1_000_000
        while !isDone(), BootClock.nanoseconds() < deadline { try reactor.turn(limitMilliseconds: 50) }
        return isDone()
    }
}

@Suite struct ProxySupervisorTests {
    @Test func theProxyIsUnprivilegedInItsCgroupAndSaysHello() throws {
        let stage = try Stage("start")
        try stage.start()
        #expect(try stage.run { stage.hellos.count == 1 })
        let pid = try #require(stage.supervisor?.pid)
        #expect(stage.hellos.first?.pid == pid)
        let status = try TextFile.read("/proc/\(pid)/status")
        #expect(status.contains("Uid:\t65534\t65534\t65534\t65534") && status.contains("NoNewPrivs:\t1"))
        #expect(try CgroupHierarchy.path(ofProcess: pid) == stage.cgroup.path + "/culvert/proxy")
        let line = try TextFile.read("/proc/\(pid)/cmdline").split(separator: "\0")
        #expect(line.count == 4 && line[1] == "proxy" && line[2] == "--control")
    }

    @Test func onlyTheProxysGroupReachesTheControlSocket() throws {
        let stage = try Stage("modes")
        try stage.start()
        var status = stat()
        #expect(stat(stage.directory, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o750 && status.st_uid == 0 && status.st_gid == 65_534)
        #expect(stat(stage.directory + "/control.sock", &status) == 0)
        #expect(status.st_mode & 0o777 == 0o660 && status.st_uid == 0 && status.st_gid == 65_534)
    }

    @Test func messagesAndDescriptorsArriveInOrder() throws {
        let stage = try Stage("send")
        try stage.start()
        #expect(try stage.run { stage.hellos.count == 1 })
        let channel = try #require(stage.supervisor?.channel)
        // More than the socket takes at once: the rest waits in the queue.
        let certificate = WorkloadCertificate(
            principal: "p", chain: Array(repeating: 1, count: 100_000), key: SecretBytes(copying: [1]))
        for _ in 0..<20 { #expect(channel.send(.certificate(certificate))) }
        let memory = try SealedMemory(name: "snapshot", bytes: [1, 2, 3])
        #expect(channel.send(.snapshot(version: 1, length: 3), DescriptorBatch(try memory.descriptor.duplicate())))
        #expect(channel.send(.report))
        #expect(try stage.run { stage.messages.count == 2 })
        #expect(stage.messages.first == .snapshotInUse(version: 1))
        guard case .counters(let counters) = stage.messages.last else {
            Issue.record("\(stage.messages)")
            return
        }
        #expect(counters.connections == 22 && counters.descriptors == 1)
    }

    @Test func aKilledProxyIsReplacedWithinASecond() throws {
        let stage = try Stage("kill")
        try stage.start()
        #expect(try stage.run { stage.hellos.count == 1 })
        let first = try #require(stage.supervisor?.pid)
        kill(first, SIGKILL)
        #expect(try stage.run(until: { stage.hellos.count == 2 }, milliseconds: 1_000))
        #expect(stage.supervisor?.pid != first && stage.ends == 1)
        // Reaped: no zombie is left of it.
        #expect(access("/proc/\(first)", F_OK) != 0)
    }

    @Test func aRunningProxyIsAdoptedByANewSupervisor() throws {
        let stage = try Stage("adopt")
        try stage.start()
        #expect(try stage.run { stage.hellos.count == 1 })
        let pid = try #require(stage.supervisor?.pid)
        stage.supervisor?.stop()
        try stage.start()
        #expect(try stage.run { stage.hellos.count == 2 })
        #expect(stage.supervisor?.pid == pid && stage.supervisor?.startCount == 0)
        #expect(stage.hellos.last?.connections == 1)
    }

    @Test func nonsenseCutsTheChannelAndTheProxyComesBack() throws {
        let stage = try Stage("nonsense")
        try stage.start()
        #expect(try stage.run { stage.hellos.count == 1 })
        let pid = stage.supervisor?.pid
        stage.supervisor?.channel?.send(.closeListener(id: 1))
        #expect(try stage.run { stage.hellos.count == 2 })
        #expect(stage.supervisor?.pid == pid && stage.reports.contains { $0.contains("nonsense") })
    }

    @Test func aProxyThatStopsReadingIsCutOffAndReplaced() throws {
        let stage = try Stage("hang")
        try stage.start()
        #expect(try stage.run { stage.hellos.count == 1 })
        let pid = try #require(stage.supervisor?.pid)
        let channel = try #require(stage.supervisor?.channel)
        channel.send(.closeListener(id: 3))
        var sent = 0
        while channel.send(.closeListener(id: 9)) { sent += 1 }
        #expect(sent >= 4_096)
        #expect(try stage.run { stage.hellos.count == 2 && stage.supervisor?.pid != pid })
    }

    @Test func aStrangerInAnotherCgroupIsRefused() throws {
        let stage = try Stage("stranger")
        // The same user, but the test's own cgroup.
        try stage.start(uid: 0) { $0.startsProxy = false }
        let stranger = try SeqpacketSocket.connect(path: stage.directory + "/control.sock")
        #expect(try stage.run { stage.reports.contains { $0.hasPrefix("refused a control connection") } })
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 8)
        defer { buffer.deallocate() }
        guard case .closed = try stranger.receive(into: buffer) else {
            Issue.record("still open")
            return
        }
    }

    @Test func aProxyOfAnotherBinaryIsReplacedOnceItsSuccessorIsThere() throws {
        let stage = try Stage("binary")
        let path = try stage.copyFixture()
        try stage.start { $0.executable = path }
        #expect(try stage.run { stage.hellos.count == 1 })
        let old = try #require(stage.supervisor?.pid)
        stage.supervisor?.stop()
        // Another file at the same path: that is what an upgrade leaves.
        _ = try stage.copyFixture()
        try stage.start { $0.executable = path }
        #expect(try stage.run { stage.replacements.count == 1 && stage.ends == 1 })
        let new = try #require(stage.supervisor?.pid)
        #expect(stage.replacements.first?.0 == old && stage.replacements.first?.1 == new && new != old)
        #expect(stage.supervisor?.replacementReason == nil && stage.supervisor?.drainingCount == 0)
        #expect(access("/proc/\(old)", F_OK) != 0, "it was told to finish and had nothing open")
        // The next meshd finds that everything is as it should be.
        stage.supervisor?.stop()
        try stage.start { $0.executable = path }
        #expect(try stage.run { stage.hellos.count == 4 })
        #expect(stage.supervisor?.pid == new && stage.replacements.count == 1)
    }

    @Test func aSuccessorThatDoesNotStartLeavesTheProxyAtWork() throws {
        let stage = try Stage("broken")
        let path = try stage.copyFixture()
        try stage.start { $0.executable = path }
        #expect(try stage.run { stage.hellos.count == 1 })
        let old = try #require(stage.supervisor?.pid)
        stage.supervisor?.stop()
        try command("/bin/cp", "--remove-destination", "/bin/false", path)
        try stage.start { $0.executable = path }
        #expect(try stage.run { stage.ends >= 2 })
        #expect(stage.supervisor?.pid == old && stage.supervisor?.channel != nil && stage.replacements.isEmpty)
        #expect(stage.supervisor?.replacementReason != nil)
        // And once there is one that does:
        _ = try stage.copyFixture()
        #expect(try stage.run { stage.replacements.count == 1 })
    }

    @Test func aStoppedProxyIsReplacedAndFinishesWhenItGoesOn() throws {
        let stage = try Stage("stopped")
        try stage.start()
        #expect(try stage.run { stage.hellos.count == 1 })
        let old = try #require(stage.supervisor?.pid)
        kill(old, SIGSTOP)
        for _ in 0..<5 { stage.supervisor?.askAll() }
        #expect(try stage.run { stage.replacements.count == 1 })
        #expect(stage.supervisor?.pid != old && stage.supervisor?.drainingCount == 1)
        kill(old, SIGCONT)
        #expect(try stage.run { stage.ends == 1 })
        // Asked as often, one that answers stays.
        let new = stage.supervisor?.pid
        for _ in 0..<20 {
            stage.supervisor?.askAll()
            _ = try stage.run(until: { false }, milliseconds: 30)
        }
        #expect(stage.supervisor?.pid == new && stage.replacements.count == 1)
    }

    @Test func aStoppedProxyThatDrainsIsEndedAfterAWhile() throws {
        let stage = try Stage("silent")
        try stage.start()
        #expect(try stage.run { stage.hellos.count == 1 })
        let old = try #require(stage.supervisor?.pid)
        kill(old, SIGSTOP)
        for _ in 0..<5 { stage.supervisor?.askAll() }
        #expect(try stage.run { stage.replacements.count == 1 })
        for _ in 0..<70 { stage.supervisor?.askAll() }
        #expect(try stage.run { stage.ends == 1 })
        #expect(access("/proc/\(old)", F_OK) != 0 && stage.supervisor?.pid != nil)
    }

    @Test func unitsAreNamedSoThatNoneIsStartedTwice() {
        let unit = { (name: String) in "/system.slice/x.slice/culvert-proxy@\(name).service" }
        #expect(ProxyLauncher.instance(taken: []) == "main")
        #expect(ProxyLauncher.instance(taken: [unit("main")]) == "2")
        #expect(ProxyLauncher.instance(taken: [unit("2"), unit("main"), unit("4")]) == "3")
        #expect(ProxyLauncher.instance(taken: [unit("2")]) == "main")
    }

    @Test func aProgramThatCannotStartIsReportedAndTriedAgain() throws {
        let stage = try Stage("missing")
        try stage.start { $0.executable = "/nonexistent" }
        #expect(try stage.run { stage.reports.filter { $0.hasPrefix("can't start the proxy: execve") }.count == 3 })
    }
}
