import BPFRuntime
import CMeshABI
import FoundationEssentials
import Glibc
import MeshModel
import Testing

/// Which datagrams come to workloads, on the running kernel; driver/datagrams.py plays. Port 9103 of workload 1 takes plain
/// text but from 10.9.0.6, port 9109 of workload 7 takes it, no other port does.
@Suite(.serialized) struct DatagramTests {
    private final class Scene {
        let answers: [String: KernelScene.Answer]
        let events: [mesh_event]
        let counters: [UInt64]
        let flows: [mesh_datagram_flow]
        let ownersLeft: Int

        init() throws {
            let world = try KernelWorld("datagram")
            defer { world.remove() }
            let programs = try world.load()
            try world.describe(programs)
            try world.describeDatagrams(programs)
            try world.captureInbound(programs)
            let driver = try world.startDriver("datagrams.py")
            _ = try driver.line()
            try world.addWorkload5(programs)
            try world.closePort9103(programs)
            try world.setAlone(true, programs)
            driver.go()
            let text = try driver.line()
            try driver.awaitSuccess()
            answers = try JSONDecoder().decode([String: KernelScene.Answer].self, from: Data(text.utf8))
            var events: [mesh_event] = []
            programs.events.read { events.append($0) }
            self.events = events
            counters = try programs.counters()
            flows = try programs.datagrams.keys().compactMap { try programs.datagrams.get($0) }
            ownersLeft = try programs.owners.keys().count { $0.protocol == UInt16(IPPROTO_UDP) }
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

    /// From whom a datagram came.
    private func sender(_ name: String) -> KernelScene.Peer? {
        if case .facts(let facts)? = scene.answers[name] { return facts.accept }
        return nil
    }

    private func counted(_ reason: mesh_reason) -> UInt64 { scene.counters[Int(reason.rawValue)] }

    private func refusals(_ reason: mesh_reason, port: UInt16) -> [mesh_event] {
        scene.events.filter {
            UInt32($0.kind) == mesh_event_kind.MESH_EVENT_REFUSED.rawValue && UInt32($0.reason) == reason.rawValue
                && $0.socket.destination.port_be == port.bigEndian
        }
    }

    @Test(arguments: [
        "strict", "strict6", "options_strict", "loopback_outside", "marked_cgroup", "denied_source",
        "address_of_one_alone",
        "unbound_port",
    ])
    func senderHearsThatNobodyTakesIt(_ name: String) { #expect(code(name) == ECONNREFUSED, "\(name)") }

    /// Of sockets that are not connected, which hear nothing.
    @Test(arguments: ["neighbour", "loopback_neighbour"])
    func neighbourIsAStranger(_ name: String) { #expect(code(name) == -1, "\(name)") }

    @Test(arguments: ["open", "open6", "open_answer", "options_open"])
    func whatTakesPlainTextGetsItAndAnswers(_ name: String) { #expect(code(name) == 0, "\(name)") }

    @Test func refusalIsToldWithItsSourceAndWhatItWas() throws {
        let strict = try #require(refusals(.MESH_REASON_PLAINTEXT_REFUSED, port: 9101).first)
        #expect(strict.socket.workload == 1 && strict.socket.source.port_be != 0)
        #expect(strict.socket.role == UInt8(mesh_socket_role.MESH_ROLE_INBOUND_PLAIN.rawValue))
        #expect(strict.socket.flags == UInt8(MESH_SOCKET_DATAGRAM))
        let denied = try #require(refusals(.MESH_REASON_POLICY_DENIED, port: 9103).first)
        #expect(IPAddress(denied.socket.source.address) == IPAddress(parsing: "10.9.0.6"))
        #expect(counted(.MESH_REASON_POLICY_DENIED) == 1)
    }

    @Test(arguments: ["unbound_answer", "bound_answer", "connected_answer"])
    func answerToAQuestionComes(_ name: String) { #expect(sender(name) == .endpoint("10.9.0.3", 9104), "\(name)") }

    @Test(arguments: ["unbound_unasked", "bound_unasked"])
    func strangerDoesNotComeBehindAQuestion(_ name: String) { #expect(code(name) == 0, "\(name)") }

    @Test(arguments: ["itself", "loopback_itself", "loopback_of_one_alone", "older_before"])
    func workloadReachesItself(_ name: String) { #expect(code(name) == 0, "\(name)") }

    @Test func multicastIsJudgedAtEachSocket() {
        #expect(code("multicast_strict") == 0)
        #expect(sender("multicast_open") != nil)
    }

    @Test func fencedWorkloadAnswersWhomItMayNotCall() {
        #expect(code("fenced_answers") == 0 && code("fenced_answer") == 0)
        #expect(code("fenced_begins") == ECONNREFUSED)
    }

    @Test func socketOlderThanItsWorkloadIsJudgedToo() { #expect(code("older_after") == 0) }

    @Test func whoIsShutOutDoesNotComeBehindWhatTheServerStillSends() {
        #expect(code("pushed") == 0 && code("closed") == ECONNREFUSED)
        #expect(code("push") == 0 && code("push_comes") == 0)
        #expect(code("closed_after_push") == ECONNREFUSED)
    }

    @Test func flowSaysWhoBegan() throws {
        let served = scene.flows.filter { $0.socket.flags & UInt8(MESH_SOCKET_SERVES) != 0 }
        // Two of a stranger's sockets asked there; one had an answer, the other news of the server's own.
        let open = served.filter {
            $0.socket.workload == 1 && $0.socket.source.port_be == UInt16(9103).bigEndian
                && IPAddress($0.socket.destination.address) == IPAddress(parsing: "10.9.0.3")
        }
        #expect(open.allSatisfy { $0.datagrams_received == 1 && $0.datagrams_sent == 1 && $0.bytes_received == 8 })
        #expect(open.map(\.bytes_sent).sorted() == [4, 6])
        let asked = scene.flows.filter { $0.socket.destination.port_be == UInt16(9104).bigEndian }
        #expect(asked.count >= 3 && asked.allSatisfy { $0.socket.flags & UInt8(MESH_SOCKET_SERVES) == 0 })
    }

    @Test func closedSocketsOwnNothing() { #expect(scene.ownersLeft == 0) }
}
