import CMeshABI
import Glibc
import Testing

/// UDP sockets that ask resolvers, and that mean addresses of the mesh; the scene is that of KernelTests.
extension KernelTests {
    @Test(arguments: [
        ("asks", "192.0.2.53"), ("asks_unconnected", "192.0.2.53"), ("asks_ipv6", "2001:db8::53"),
        ("asks_ipv6_unconnected", "2001:db8::53"), ("asks_ipv6_only", "2001:db8::53"),
        ("asks_ipv6_only_unconnected", "2001:db8::53"), ("asks_mapped", "192.0.2.53"),
        ("asks_loopback", "127.0.0.53"), ("asks_loopback_unconnected", "127.0.0.53"),
    ])
    func questionBringsWhoAsksWhomAndItsAnswerComesFromThere(_ kind: (String, String)) throws {
        let facts = try #require(scene.facts(kind.0))
        #expect(facts.errno == 0 && facts.workload == 1)
        #expect(facts.destination == kind.1 && facts.port == 53)
        let shown = kind.0 == "asks_mapped" ? "::ffff:192.0.2.53" : kind.1
        #expect(facts.accept == .endpoint(shown, 53), "recvfrom")
        if !kind.0.hasSuffix("unconnected") { #expect(facts.peer == .endpoint(shown, 53), "getpeername") }
    }

    @Test func askerSeesItsOwnAddressUnlessItsResolverIsOnLoopback() {
        #expect(scene.facts("asks")?.own == .address("10.9.0.1"))
        #expect(scene.facts("asks_ipv6")?.own == .address("fd99::1"))
        #expect(scene.facts("asks_loopback")?.own == .address("127.0.0.1"))
    }

    @Test(arguments: [
        ("names_dial_elsewhere", EPERM, mesh_reason.MESH_REASON_DIAL_OUT_OF_SCOPE),
        ("names_dial_other_port", EPERM, .MESH_REASON_DIAL_OUT_OF_SCOPE),
        ("names_stream_elsewhere", EPERM, .MESH_REASON_DIAL_OUT_OF_SCOPE),
        ("listener_to_stranger", EPERM, .MESH_REASON_DIAL_OUT_OF_SCOPE),
        ("names_socket_of_another", ECONNREFUSED, .MESH_REASON_SOCKET_OWNER_MISMATCH),
        ("names_listener_called", ECONNREFUSED, .MESH_REASON_MESH_PORT_RESERVED),
        ("names_port_bound", EPERM, .MESH_REASON_MESH_PORT_RESERVED),
        ("datagram_to_service", ECONNREFUSED, .MESH_REASON_DATAGRAM_NOT_CARRIED),
        ("names_not_ready", ECONNREFUSED, .MESH_REASON_WORKLOAD_NOT_READY),
        ("names_stale", ECONNREFUSED, .MESH_REASON_PROXY_STALE),
        ("names_no_listener", ECONNREFUSED, .MESH_REASON_NO_LISTENER),
        // The scene has one listener, so that a socket has room for one resolver at a time.
        ("names_resolver_1", ECONNREFUSED, .MESH_REASON_WORKLOAD_NOT_READY),
    ])
    func refusedDatagramGivesItsErrnoAndCountsItsReason(_ refusal: (String, Int32, mesh_reason)) {
        #expect(scene.code(refusal.0) == refusal.1, "\(refusal.0)")
        #expect(scene.counted(refusal.2) > 0, "\(refusal.0)")
    }

    @Test func dialSocketForNamesReachesWhomAWorkloadAsked() {
        #expect(scene.code("names_dial") == 0)
        #expect(scene.code("names_stream") == ECONNREFUSED)
    }

    @Test func datagramThatNoHookSentToTheListenerDoesNotCome() {
        #expect(scene.code("unasked_came") == 0)
        #expect(scene.counted(.MESH_REASON_NAMES_QUESTION_UNKNOWN) == 1)
    }

    @Test(arguments: [("virtual", "10.96.0.1", "10.9.0.1"), ("virtual_ipv6", "fd96::1", "fd99::1")])
    func virtualAddressIsConnectedToAndAnswersNothing(_ kind: (String, String, String)) throws {
        let facts = try #require(scene.facts(kind.0))
        #expect(facts.errno == 0)
        #expect(facts.peer == .endpoint(kind.1, 80) && facts.own == .address(kind.2))
        #expect(scene.code(kind.0 + "_answer") == ECONNREFUSED)
    }

    @Test func tcpToAResolverOnLoopbackIsCaptured() throws {
        let facts = try #require(scene.facts("asks_tcp"))
        #expect(facts.errno == 0 && facts.destination == "127.0.0.53" && facts.port == 53)
        #expect(facts.peer == .address("127.0.0.53"))
    }

    @Test func failureModeOpenLetsAQueryGoToItsResolver() throws {
        let facts = try #require(scene.facts("names_failed_open"))
        #expect(facts.errno == 0 && facts.peer == .address("10.9.0.1"))
    }
}
