import CMeshABI
import Glibc
import Testing

/// What the programs of bpf/ do, on the running kernel, to real sockets.
@Suite(.serialized) struct KernelTests {
    // Made once, read only afterwards.
    nonisolated(unsafe) private static let scene = Result { try KernelScene() }
    let scene: KernelScene

    init() throws { scene = try Self.scene.get() }

    @Test(arguments: [
        ("ipv4", "10.96.0.1", "10.96.0.1"), ("ipv6", "fd96::1", "fd96::1"), ("ipv6_only", "fd96::1", "fd96::1"),
        ("mapped", "10.96.0.1", "::ffff:10.96.0.1"),
    ])
    func capturedConnectionBringsItsOriginalDestination(_ kind: (String, String, String)) throws {
        let facts = try #require(scene.facts(kind.0))
        #expect(facts.errno == 0)
        #expect(facts.role == UInt8(mesh_socket_role.MESH_ROLE_ACCEPTED.rawValue))
        #expect(facts.destination == kind.1)
        #expect(facts.port == 80)
        #expect(facts.workload == 1)
        #expect(facts.pid_is_mine == true)
        #expect(facts.command?.hasPrefix("python3") == true)
    }

    @Test func nonBlockingConnectIsCapturedToo() throws {
        let facts = try #require(scene.facts("non_blocking"))
        #expect(facts.errno == Int(EINPROGRESS))
        #expect(facts.destination == "10.96.0.1")
    }

    @Test(arguments: [
        ("ipv4", "10.96.0.1", "10.9.0.1"), ("ipv6", "fd96::1", "fd99::1"), ("ipv6_only", "fd96::1", "fd99::1"),
        ("mapped", "::ffff:10.96.0.1", "::ffff:10.9.0.1"),
    ])
    func clientSeesWhatItDialledAndItsOwnAddress(_ kind: (String, String, String)) throws {
        let facts = try #require(scene.facts(kind.0))
        #expect(facts.peer == .address(kind.1))
        #expect(facts.own == .address(kind.2))
    }

    @Test(arguments: [
        ("unreachable", EHOSTUNREACH, mesh_reason.MESH_REASON_ENDPOINT_UNREACHABLE),
        ("no_service_port", ECONNREFUSED, .MESH_REASON_NO_SERVICE_PORT),
        ("own_listener_dialled", ECONNREFUSED, .MESH_REASON_MESH_PORT_RESERVED),
        ("bound_to_device", ECONNREFUSED, .MESH_REASON_BOUND_TO_DEVICE),
        ("mesh_port_bound", EPERM, .MESH_REASON_MESH_PORT_RESERVED),
        ("service_port_bound", EPERM, .MESH_REASON_MESH_PORT_RESERVED),
        ("socket_of_another", ECONNREFUSED, .MESH_REASON_SOCKET_OWNER_MISMATCH),
        ("not_ready", ECONNREFUSED, .MESH_REASON_WORKLOAD_NOT_READY),
        ("overloaded", ECONNREFUSED, .MESH_REASON_PROXY_OVERLOADED),
        ("stale", ECONNREFUSED, .MESH_REASON_PROXY_STALE),
        ("dial_elsewhere", EPERM, .MESH_REASON_DIAL_OUT_OF_SCOPE),
        ("dial_no_purpose", EPERM, .MESH_REASON_DIAL_OUT_OF_SCOPE),
        ("tunnel_elsewhere", EPERM, .MESH_REASON_DIAL_OUT_OF_SCOPE),
        ("present_loopback", EPERM, .MESH_REASON_PRESENTATION_FAILED),
        ("present_multicast", EPERM, .MESH_REASON_PRESENTATION_FAILED),
        ("present_link_local", EPERM, .MESH_REASON_PRESENTATION_FAILED),
        ("present_unspecified", EPERM, .MESH_REASON_PRESENTATION_FAILED),
        ("no_hand_over", ENOENT, .MESH_REASON_HANDOVER_MISSING),
        ("no_listener", ECONNREFUSED, .MESH_REASON_NO_LISTENER),
        ("accepted_used_to_dial", EPERM, .MESH_REASON_DIAL_OUT_OF_SCOPE),
        ("failed_open_service", ECONNREFUSED, .MESH_REASON_PROXY_STALE),
    ])
    func refusalGivesItsErrnoAndCountsItsReason(_ refusal: (String, Int32, mesh_reason)) {
        #expect(scene.code(refusal.0) == refusal.1, "\(refusal.0)")
        #expect(scene.counted(refusal.2) > 0, "\(refusal.0)")
    }

    @Test func whatIsAllowedIsNotRefused() {
        #expect(scene.code("other_port_bound") == 0)
        #expect(scene.code("fresh_again") == 0)
        // Nothing listens there: the kernel's own answer, not ours.
        #expect(scene.code("tunnel_to_node") == ECONNREFUSED)
        #expect(scene.code("unknown_passes") == ECONNREFUSED)
    }

    @Test func refusedConnectIsAnEventWithReasonAndCaller() throws {
        let refused = try #require(
            scene.events.first { $0.reason == UInt16(mesh_reason.MESH_REASON_ENDPOINT_UNREACHABLE.rawValue) })
        #expect(UInt32(refused.kind) == mesh_event_kind.MESH_EVENT_REFUSED.rawValue)
        #expect(refused.errno_value == UInt32(EHOSTUNREACH))
        #expect(refused.socket.workload == 1)
        #expect(refused.socket.destination.port_be == UInt16(80).bigEndian)
    }

    @Test func purposeIsWrittenOnce() { #expect(scene.code("purpose_twice") == EEXIST) }

    @Test func onlyTheSocketMakerGivesAPurpose() { #expect(scene.code("accepted_given_a_purpose") == EPERM) }

    @Test func socketOptionsDoNotExistOutsideTheMesh() {
        #expect(
            scene.code("option_outside_the_mesh") == ENOPROTOOPT || scene.code("option_outside_the_mesh") == EOPNOTSUPP)
    }

    @Test func applicationSeesThePresentedClient() throws {
        let facts = try #require(scene.facts("presented"))
        #expect(facts.accept == .endpoint("10.9.0.7", 5555))
        #expect(facts.peer == .endpoint("10.9.0.7", 5555))
        #expect(facts.own == .endpoint("10.9.0.2", 8080))
        let facts6 = try #require(scene.facts("presented6"))
        #expect(facts6.accept == .endpoint("fd99::7", 6666))
        #expect(facts6.peer == .endpoint("fd99::7", 6666))
    }

    @Test func servedFlowNamesWorkloadPeerAndProcess() throws {
        let closed = try #require(servedClose(presentedPort: 5555))
        #expect(closed.socket.workload == 2)
        #expect(closed.socket.peer_principal == 7)
        #expect(closed.socket.peer_cookie != 0)
        #expect(closed.socket.pid != 0)
    }

    @Test func bytesAreExactAfterAnOrderlyClose() throws {
        let closed = try #require(closeEvent(port: "live_port"))
        #expect(closed.bytes_sent == 100_000)
        #expect(closed.bytes_received == 501)
        #expect(closed.approximate == 0)
    }

    @Test(arguments: [(UInt16(5555), UInt64(777), UInt64(333)), (6666, 55, 16)])
    func bytesOfTheServerAreExactWhoeverClosesFirst(_ flow: (UInt16, UInt64, UInt64)) throws {
        let closed = try #require(servedClose(presentedPort: flow.0))
        #expect(closed.bytes_sent == flow.1)
        #expect(closed.bytes_received == flow.2)
        #expect(closed.approximate == 0)
    }

    @Test func bytesAreMarkedApproximateAfterAReset() throws {
        let closed = try #require(closeEvent(port: "reset_port"))
        #expect(closed.bytes_sent == 10)
        #expect(closed.approximate == 1)
    }

    @Test func liveCountersAreReadFromTheKernel() throws {
        let port = UInt16(try #require(scene.code("live_port"))).bigEndian
        let flow = try #require(scene.live.first { $0.socket.source.port_be == port })
        #expect(flow.bytes_sent == 100_000)
        #expect(flow.bytes_received == 501)
        #expect(flow.socket.role == UInt8(mesh_socket_role.MESH_ROLE_CAPTURED.rawValue))
    }

    @Test func handOversAreDeletedAndUncounted() {
        #expect(scene.handoversLeft == 0)
        #expect(scene.vouchesLeft == 0)
        #expect(scene.workloadHandovers == 0)
    }

    @Test func newCgroupOfASelectorIsRefusedFromTheStart() {
        #expect(scene.code("made_later") == ECONNREFUSED)
        #expect(
            scene.marks.keys.sorted() == ["made-later", "pod-q-x1b/leaf", KernelWorld.longGroup + "/leaf"].sorted())
        #expect(scene.marks.values.allSatisfy { $0 == UInt8(mesh_cgroup_state.MESH_CGROUP_NOT_READY.rawValue) })
        // Others' hierarchies have cgroups of these names too.
        #expect(
            scene.events.count { UInt32($0.kind) == mesh_event_kind.MESH_EVENT_CGROUP_MADE.rawValue } == 3)
    }

    @Test func uninstallingLeavesNoPin() { #expect(!scene.pinsLeft) }

    private func servedClose(presentedPort: UInt16) -> mesh_event? {
        let role = UInt8(mesh_socket_role.MESH_ROLE_SERVED.rawValue)
        return scene.events.first {
            $0.socket.role == role && $0.socket.source.port_be == presentedPort.bigEndian
                && UInt32($0.kind) == mesh_event_kind.MESH_EVENT_CLOSE.rawValue
        }
    }

    private func closeEvent(port name: String) -> mesh_event? {
        guard let port = scene.code(name) else { return nil }
        return scene.events.first {
            UInt32($0.kind) == mesh_event_kind.MESH_EVENT_CLOSE.rawValue
                && $0.socket.source.port_be == UInt16(port).bigEndian
        }
    }
}
