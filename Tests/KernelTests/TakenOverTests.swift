import BPFRuntime
import CMeshABI
import FoundationEssentials
import Glibc
import Testing

/// The proxy fully taken over: code with its user, its filter and its sockets, and what it can do with them. Each attempt is a
/// process of its own, which driver/taken_over.py starts; docs/THREAT_MODEL.md has a line for each test.
@Suite(.serialized) struct TakenOverTests {
    private struct Scene {
        let answers: [String: Int32]
        let counters: [UInt64]

        init() throws {
            let world = try KernelWorld("taken")
            defer { world.remove() }
            let programs = try world.load()
            try world.describe(programs)
            try world.captureInbound(programs)
            let driver = try world.startDriver("taken_over.py", try Scene.fixture)
            let text = try driver.line()
            try driver.awaitSuccess()
            answers = try JSONDecoder().decode([String: Int32].self, from: Data(text.utf8))
            counters = try programs.counters()
        }

        /// Beside the test bundle.
        private static var fixture: String {
            get throws {
                let bundle = try #require(CommandLine.arguments.first { $0.hasSuffix(".xctest") })
                return bundle.split(separator: "/", omittingEmptySubsequences: false).dropLast()
                    .joined(separator: "/") + "/confinement-fixture"
            }
        }
    }

    // Made once, read only afterwards.
    private static let scene = Result { try Scene() }
    private let scene: Scene

    init() throws { scene = try Self.scene.get() }

    private func expect(_ name: String, _ code: Int32, _ location: SourceLocation = #_sourceLocation) {
        #expect(scene.answers[name] == code, "\(name)", sourceLocation: location)
    }

    @Test(arguments: [
        "open", "create", "inet", "inet6", "packet", "netlink", "unix-stream", "kill", "clone", "pidfd", "open memory",
    ])
    func opensNoFileMakesNoSocketAndNoProcess(_ call: String) { expect(call, EPERM) }

    @Test(arguments: [
        "execve", "bpf", "setns", "unshare", "ptrace", "mount", "io-uring", "pidfd-getfd", "read-memory",
        "write-memory",
        "mesh_verdicts", "mesh_egress", "mesh_vouches",
    ])
    func isEndedWhenItTriesToLeaveItsCage(_ call: String) { expect(call, -SIGSYS) }

    /// Its user alone would not do either.
    @Test(arguments: [
        "mesh_verdicts unfiltered", "mesh_egress unfiltered", "mesh_vouches unfiltered", "packet unfiltered",
        "setns unfiltered", "mount unfiltered", "read-memory unfiltered", "write-memory unfiltered",
        "open memory unfiltered",
    ])
    func hasNoRightBehindItsFilter(_ call: String) throws {
        let code = try #require(scene.answers[call])
        #expect([EPERM, EACCES].contains(code), "\(call): \(code)")
    }

    @Test func reachesTheApplicationThatADialSocketWasMadeFor() { expect("application meant", 0) }

    @Test(arguments: [
        "application to strict port", "application to loopback", "application to outside", "application to tunnel port",
        "application to mesh's listener", "application to resolver", "application to outside by fast open",
        "application to outside by IPv6", "tunnel to another port of a node", "tunnel to no node",
        "names to whom nobody asked", "names to another port", "datagram to outside", "accepted dials",
        "listener dials",
    ])
    func dialsNothingElseWithAnySocket(_ attempt: String) {
        // A listening socket can't connect, whatever hooks say.
        expect(attempt, attempt == "listener dials" ? EISCONN : EPERM)
    }

    @Test func dialsOutOfScopeAreCounted() {
        #expect(scene.counters[Int(mesh_reason.MESH_REASON_DIAL_OUT_OF_SCOPE.rawValue)] == 14)
    }

    @Test(arguments: [
        "dial bound", "dial listens", "tunnel bound", "tunnel listens", "accepted given a purpose", "accepted beats",
        "dial given another purpose", "dial beats", "tunnel given another purpose", "tunnel beats",
        "listener given a purpose",
    ])
    func makesNoSocketIntoAListenerNorIntoAnother(_ attempt: String) { expect(attempt, EPERM) }

    @Test(arguments: ["dial presents loopback", "tunnel presents", "dial asks", "tunnel asks"])
    func presentsNobodyWhereItMayNot(_ attempt: String) { expect(attempt, EPERM) }

    @Test func keepsItsOwnListenerAlive() { expect("listener beats", 0) }
}
