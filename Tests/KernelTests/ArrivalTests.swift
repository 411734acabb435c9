import BPFRuntime
import CMeshABI
import FoundationEssentials
import Glibc
import Testing

/// What capture_inbound does with connections that come to workloads, on the running kernel; driver/arrivals.py plays.
@Suite(.serialized) struct ArrivalTests {
    private final class Scene {
        let answers: [String: KernelScene.Answer]
        let events: [mesh_event]
        let counters: [UInt64]
        let vouchesLeft: Int
        let pinnedAgain: Set<UInt64>
        let pinnedAtLast: Set<UInt64>
        let cookie: UInt64

        init() throws {
            let world = try KernelWorld("arrival")
            defer { world.remove() }
            let programs = try world.load()
            try world.describe(programs)
            try world.describeInbound(programs)
            cookie = try world.captureInbound(programs)
            let driver = try world.startDriver("arrivals.py")
            _ = try driver.line()
            // As of a meshd that starts again: its instance replaces the one that is at work.
            let reloaded = try world.load()
            try world.captureInbound(reloaded)
            pinnedAgain = reloaded.inbound.pinned()
            try world.setAlone(true, reloaded)
            driver.go()
            let text = try driver.line()
            try driver.awaitSuccess()
            answers = try JSONDecoder().decode([String: KernelScene.Answer].self, from: Data(text.utf8))
            var events: [mesh_event] = []
            programs.events.read { events.append($0) }
            self.events = events
            counters = try reloaded.counters()
            vouchesLeft = try reloaded.vouches.keys().count
            reloaded.inbound.detach(cookie: cookie)
            pinnedAtLast = reloaded.inbound.pinned()
        }
    }

    // Made once, read only afterwards.
    nonisolated(unsafe) private static let scene = Result { try Scene() }
    private let scene: Scene

    init() throws { scene = try Self.scene.get() }

    private func code(_ name: String) -> Int32? {
        if case .code(let code)? = scene.answers[name] { return Int32(code) }
        return nil
    }

    private func facts(_ name: String) -> KernelScene.Facts? {
        if case .facts(let facts)? = scene.answers[name] { return facts }
        return nil
    }

    private func counted(_ reason: mesh_reason) -> UInt64 { scene.counters[Int(reason.rawValue)] }

    private func refusals(_ reason: mesh_reason) -> [mesh_event] {
        scene.events.filter {
            UInt32($0.kind) == mesh_event_kind.MESH_EVENT_REFUSED.rawValue && UInt32($0.reason) == reason.rawValue
        }
    }

    @Test(arguments: ["strict", "strict6"])
    func plainTextToAStrictWorkloadIsRefused(_ name: String) { #expect(code(name) == ECONNREFUSED) }

    @Test func refusalComesAtOnce() throws { #expect(try #require(code("strict_milliseconds")) < 1_000) }

    @Test func refusedPlainTextIsToldWithItsSource() throws {
        let told = refusals(.MESH_REASON_PLAINTEXT_REFUSED).first
        #expect(told?.socket.workload == 2)
        #expect(told?.socket.source.address.word.3 == UInt32(0x0a09_0002).bigEndian)
        #expect(told?.socket.source.port_be != 0)
        #expect(told?.socket.destination.port_be == UInt16(9001).bigEndian)
    }

    @Test func portWithoutAListenerIsTheKernelsBusiness() {
        #expect(code("closed_port") == ECONNREFUSED)
        #expect(!scene.events.contains { $0.socket.destination.port_be == UInt16(9999).bigEndian })
    }

    @Test func listenerOfNoWorkloadIsReached() { #expect(code("not_a_workloads") == 0) }

    @Test(arguments: ["loopback_outside", "loopback_neighbour"])
    func loopbackOfASharedNamespaceIsJudged(_ name: String) { #expect(code(name) == ECONNREFUSED) }

    @Test(arguments: ["loopback_itself", "own_address", "own_address6"])
    func workloadReachesItself(_ name: String) { #expect(code(name) == 0) }

    @Test func loopbackOfAWorkloadAloneIsItsOwnBusiness() {
        #expect(code("loopback_of_one_alone") == 0)
        #expect(code("address_of_one_alone") == ECONNREFUSED)
    }

    @Test func declaredProbePassesFromItsSourceToItsPortOnly() {
        #expect(code("probe") == 0)
        #expect(counted(.MESH_REASON_PLAINTEXT_EXEMPT) == 1)
        #expect(code("probe_from_elsewhere") == ECONNREFUSED)
        #expect(code("probe_of_another_port") == ECONNREFUSED)
    }

    @Test func probeThatPassedIsAFlow() throws {
        let opened = try #require(
            scene.events.first {
                UInt32($0.kind) == mesh_event_kind.MESH_EVENT_OPEN.rawValue
                    && $0.socket.destination.port_be == UInt16(9004).bigEndian
            })
        #expect(opened.socket.role == UInt8(mesh_socket_role.MESH_ROLE_INBOUND_PLAIN.rawValue))
        #expect(opened.socket.workload == 2)
        #expect(opened.socket.source.address.word.3 == UInt32(0x0a09_0003).bigEndian)
    }

    @Test func permissivePortIsHandedToTheProxyWithBothAddresses() throws {
        let facts = try #require(self.facts("permissive"))
        #expect(facts.errno == 0)
        #expect(facts.role == UInt8(mesh_socket_role.MESH_ROLE_INBOUND_PLAIN.rawValue))
        #expect(facts.workload == 1)
        #expect(facts.destination == "10.9.0.1" && facts.port == 9003)
        #expect(facts.source == "10.9.0.1")
        #expect(facts.source_port.map(Int32.init) == code("permissive_client_port"))
        #expect(facts.own == .endpoint("10.9.0.1", 9003))
        #expect(code("other_port_strict") == ECONNREFUSED)
    }

    @Test func proxyReachesAPermissivePortAndNoOther() {
        #expect(facts("permissive_dial")?.accept == .endpoint("10.9.0.3", 7777))
        #expect(code("strict_dial") == EPERM)
    }

    @Test func withoutAProxyPermissiveRefusesUnlessFailureModeIsOpen() {
        #expect(code("no_inbound_listener") == ECONNREFUSED)
        #expect(code("overloaded") == ECONNREFUSED)
        #expect(code("stale") == ECONNREFUSED)
        #expect(counted(.MESH_REASON_PROXY_STALE) == 2)
        #expect(counted(.MESH_REASON_PROXY_OVERLOADED) == 1)
        #expect(code("stale_open") == 0)
        #expect(counted(.MESH_REASON_FAIL_OPEN) == 1)
    }

    @Test(arguments: [
        ("asks_its_own", 0), ("asks_a_neighbours", ECONNREFUSED), ("asks_for_nobody", ECONNREFUSED),
        ("asks_for_one_unknown", ECONNREFUSED), ("asks_with_another_purpose", EPERM),
        ("asks_where_nobody_asked", EPERM), ("asks_without_a_resolver", ECONNREFUSED), ("asks_the_nodes", 0),
    ])
    func aWorkloadsOwnResolverHearsItsQuestionsAndNoNeighbours(_ kind: (String, Int32)) {
        #expect(code(kind.0) == kind.1, "\(kind.0)")
    }

    @Test func vouchedConnectionDoesNotReachAnotherWorkloadsListener() {
        #expect(code("listener_of_another") == ECONNREFUSED)
        #expect(counted(.MESH_REASON_LISTENER_MISMATCH) == 1)
        #expect(code("listener_meant") == 0)
    }

    @Test func listenerOfACgroupThatIsOnlyMarkedIsRefused() {
        #expect(code("marked_cgroup") == ECONNREFUSED)
        #expect(counted(.MESH_REASON_WORKLOAD_NOT_READY) == 1)
    }

    @Test func floodOfRefusalsIsCountedWholeAndToldInPart() {
        #expect(code("flood_refused") == 600)
        #expect(counted(.MESH_REASON_PLAINTEXT_REFUSED) >= 600)
        #expect(refusals(.MESH_REASON_PLAINTEXT_REFUSED).count < 600)
        #expect(counted(.MESH_REASON_EVENT_LOST) == 0)
    }

    @Test func vouchesAreDeleted() { #expect(scene.vouchesLeft == 0) }

    @Test func instanceIsAdoptedAndDetached() {
        #expect(scene.pinnedAgain == [scene.cookie])
        #expect(scene.pinnedAtLast == [])
    }
}
