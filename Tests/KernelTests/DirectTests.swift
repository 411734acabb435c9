import BPFRuntime
import CMeshABI
import FoundationEssentials
import Glibc
import LinuxIO
import Testing

/// The direct path on the running kernel; driver/direct.py plays workload 1, which has a verdict for the service whose
/// endpoint is workload 2, workload 4, which has none, and the proxy.
@Suite(.serialized) struct DirectTests {
    private final class Scene {
        let answers: [String: KernelScene.Answer]
        let events: [mesh_event]
        let counters: [UInt64]
        let vouches: [(key: mesh_tuple, vouch: mesh_vouch)]
        let cookie: UInt64

        init() throws {
            let world = try KernelWorld("direct")
            defer { world.remove() }
            let programs = try world.load()
            try world.describe(programs)
            cookie = try world.captureInbound(programs)
            try world.describeDirect(programs, cookie: cookie)
            let driver = try world.startDriver("direct.py")
            let elsewhere = try world.makeNamespaceWithEqualAddress()
            for (generation, second) in [(6, cookie), (0, cookie), (5, elsewhere), (5, cookie)] as [(UInt32, UInt64)] {
                _ = try driver.line()
                try world.setDirect(programs, generation: generation, secondLivesIn: second)
                driver.go()
            }
            let text = try driver.line()
            try driver.awaitSuccess()
            answers = try JSONDecoder().decode([String: KernelScene.Answer].self, from: Data(text.utf8))
            var events: [mesh_event] = []
            programs.events.read { events.append($0) }
            self.events = events
            counters = try programs.counters()
            vouches = try programs.vouches.keys().compactMap { key in
                try programs.vouches.get(key).map { (key, $0) }
            }
        }
    }

    // Made once, read only afterwards.
    nonisolated(unsafe) private static let scene = Result { try Scene() }
    private let scene: Scene

    init() throws { scene = try Self.scene.get() }

    private func code(_ name: String) -> Int32? {
        switch scene.answers[name] {
        case .code(let code): Int32(code)
        case .facts(let facts): facts.errno.map { Int32($0) }
        case nil: nil
        }
    }

    private func facts(_ name: String) -> KernelScene.Facts? {
        if case .facts(let facts)? = scene.answers[name] { return facts }
        return nil
    }

    private func counted(_ reason: mesh_reason) -> UInt64 { scene.counters[Int(reason.rawValue)] }

    private func direct(_ kind: mesh_event_kind, serves: Bool) -> [mesh_event] {
        scene.events.filter {
            UInt32($0.kind) == kind.rawValue && $0.socket.role == UInt8(mesh_socket_role.MESH_ROLE_DIRECT.rawValue)
                && ($0.socket.flags & UInt8(MESH_SOCKET_SERVES) != 0) == serves
        }
    }

    @Test(arguments: [
        ("direct", "10.96.0.1", "10.9.0.1"), ("bound", "10.96.0.1", "10.9.0.1"), ("direct6", "fd96::1", "fd99::1"),
    ])
    func verdictLeadsToTheApplicationAndBothSeeEachOther(_ scene: (String, String, String)) throws {
        let facts = try #require(self.facts(scene.0))
        #expect(facts.errno == 0)
        #expect(facts.peer == .endpoint(scene.1, 80))
        guard case .endpoint(let address, _)? = facts.accept else {
            Issue.record("no accepted address")
            return
        }
        #expect(address == scene.2)
        #expect(facts.own == facts.accept)
        #expect(code("proxy_called") == 0)
    }

    @Test func mappedAddressHasTheSameVerdict() {
        #expect(facts("mapped")?.errno == 0)
        #expect(facts("mapped")?.peer == .endpoint("::ffff:10.96.0.1", 80))
    }

    @Test func manyAtOnceAndReusedSocketsGoTheSameWay() {
        #expect(code("many") == 50)
        #expect(code("reused") == 0)
    }

    @Test(arguments: ["bound_elsewhere", "bound_port", "other_workload", "other_generation", "no_generation"])
    func withoutAVerdictTheProxyGetsIt(_ name: String) {
        #expect(code(name) == 0)
        #expect(code("\(name)_proxy") == 1)
        #expect(code("application_called") == 0)
    }

    @Test func listenerOfAnotherWorkloadIsNotReached() {
        #expect(code("impostor") == ECONNREFUSED)
        #expect(code("impostor_called") == 0)
        #expect(counted(.MESH_REASON_LISTENER_MISMATCH) == 1)
    }

    /// The same addresses in another network namespace, where the verdict's workload lives: what arrives here, at the
    /// listener of a workload with that number, is not what was vouched for.
    @Test func equalAddressElsewhereIsNotVouchedFor() {
        #expect(code("equal_addresses") == ECONNREFUSED)
        #expect(code("equal_addresses_called") == 0)
        #expect(counted(.MESH_REASON_PLAINTEXT_REFUSED) == 1)
    }

    @Test func withoutALivingProxyNothingGoesDirect() {
        #expect(code("stale") == ECONNREFUSED)
        #expect(code("stale_called") == 0)
        #expect(counted(.MESH_REASON_PROXY_STALE) == 1)
    }

    @Test func whatIsNotAcceptedIsCountedAndToldWithItsDestination() throws {
        #expect(code("no_listener") == ECONNREFUSED)
        let failed = direct(.MESH_EVENT_REFUSED, serves: false)
        #expect(failed.count == 3 && counted(.MESH_REASON_DIRECT_FAILED) == 3)
        let first = try #require(failed.first)
        #expect(first.reason == UInt16(mesh_reason.MESH_REASON_DIRECT_FAILED.rawValue))
        #expect(first.socket.workload == 1 && first.socket.destination.port_be == UInt16(80).bigEndian)
    }

    @Test func bothEndsAreSeenWithWorkloadsAndPayload() throws {
        let opened = direct(.MESH_EVENT_OPEN, serves: false)
        let accepted = direct(.MESH_EVENT_OPEN, serves: true)
        #expect(opened.count == 56 && accepted.count == 56)
        #expect(opened.allSatisfy { $0.socket.workload == 1 && $0.socket.peer_workload == 2 })
        #expect(accepted.allSatisfy { $0.socket.workload == 2 && $0.socket.peer_workload == 1 })
        #expect(accepted.allSatisfy { $0.socket.peer_principal == 17 && $0.socket.policy_generation == 5 })
        #expect(Set(accepted.map(\.socket.peer_cookie)) == Set(opened.map(\.socket.cookie)))
        let closed = try #require(direct(.MESH_EVENT_CLOSE, serves: false).first)
        #expect(closed.bytes_sent == 333 && closed.bytes_received == 777)
        let served = try #require(direct(.MESH_EVENT_CLOSE, serves: true).first)
        #expect(served.bytes_sent == 777 && served.bytes_received == 333)
    }

    @Test func probeIsNotedRefusedAndHeardByNobody() {
        #expect(code("probe") == ECONNREFUSED && code("probe_of_impostor") == ECONNREFUSED)
        #expect(code("probe_heard") == 0)
        let probes = scene.vouches.filter { $0.vouch.kind == UInt8(mesh_vouch_kind.MESH_VOUCH_PROBE.rawValue) }
        #expect(probes.count == 2 && probes.count { $0.vouch.has_arrived == 1 } == 1)
    }

    @Test func noVouchRemainsButTheProbes() { #expect(scene.vouches.count == 2) }
}

extension KernelWorld {
    /// Workload 1 may reach the service, and so workload 2, without the proxy, as of policy generation 5.
    fileprivate func describeDirect(_ programs: KernelPrograms, cookie: UInt64) throws {
        try setDirect(programs, generation: 5, secondLivesIn: cookie)
        let service6 = mesh_address(word: (UInt32(0xfd96_0000).bigEndian, 0, 0, UInt32(1).bigEndian))
        let application6 = mesh_address(word: (UInt32(0xfd99_0000).bigEndian, 0, 0, UInt32(1).bigEndian))
        for (service, application) in [
            (Self.address(10, 96, 0, 1), Self.address(10, 9, 0, 2)), (service6, application6),
        ] {
            let key = mesh_verdict_key(
                netns_cookie: cookie, address: service, workload: 1, policy_generation: 5,
                port_be: UInt16(80).bigEndian, pad: (0, 0, 0))
            var verdict = mesh_verdict()
            verdict.count = 1
            let endpoint = mesh_endpoint(address: application, port_be: UInt16(8080).bigEndian, reserved: 0)
            verdict.target.0 = mesh_verdict_target(endpoint: endpoint, workload: 2)
            try programs.verdicts.put(key, verdict)
        }
    }

    /// `generation` of the policies in force; `secondLivesIn`: where workload 2 is, as meshd has it.
    fileprivate func setDirect(
        _ programs: KernelPrograms, generation: UInt32, secondLivesIn cookie: UInt64
    ) throws {
        var settings = try #require(try programs.settings.get(0))
        settings.policy_generation = generation
        try programs.settings.put(0, settings)
        for (id, principal) in [(1, 17), (2, 18)] as [(UInt32, UInt32)] {
            var workload = try #require(try programs.workloads.get(id))
            workload.principal = principal
            workload.netns_cookie = cookie
            try programs.workloads.put(id, workload)
        }
    }
}
