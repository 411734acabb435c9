import CMeshABI
import Glibc
import MeshModel
import Testing

/// What leaves for destinations outside the mesh; the scene is that of KernelTests.
extension KernelTests {
    @Test(arguments: [
        "denied", "denied_mapped", "denied_ipv6", "denied_mptcp", "denied_fast_open", "denied_mark", "denied_device",
        "not_listed", "not_listed_ipv6_port", "not_listed_ipv4", "expired",
    ])
    func whatEgressPolicyDoesNotListIsRefused(_ attempt: String) { #expect(scene.code(attempt) == ECONNREFUSED) }

    @Test func refusedEgressIsCountedAndAnEventEach() {
        #expect(scene.counted(.MESH_REASON_EGRESS_DENIED) == 14)
        let refused = scene.events.filter { $0.reason == UInt16(mesh_reason.MESH_REASON_EGRESS_DENIED.rawValue) }
        #expect(refused.count == 14)
        #expect(refused.allSatisfy { [6, 7].contains($0.socket.workload) && $0.errno_value == UInt32(ECONNREFUSED) })
    }

    @Test(arguments: [
        "listed_any_port", "listed_longer_prefix", "listed_ipv6_port", "listed_everything6", "listed_mapped",
        "not_expired", "listed_bytes",
        "denied_loopback", "own_address", "from_outside",
    ])
    func whatIsListedOrTheWorkloadsOwnPasses(_ attempt: String) { #expect(scene.code(attempt) == 0) }

    /// By which meshd judges it again: the generation of the policies that let it out, and the name that did.
    @Test func whatLetAConnectionOutIsKeptWithItsSocket() throws {
        let opened = scene.events.filter {
            $0.kind == UInt8(mesh_event_kind.MESH_EVENT_OPEN.rawValue)
                && $0.socket.role == UInt8(mesh_socket_role.MESH_ROLE_PASSTHROUGH.rawValue) && $0.socket.workload == 6
        }
        let named = opened.filter { $0.socket.egress_name != 0 }
        #expect(opened.count > 1 && named.count == 1)
        let one = try #require(named.first).socket
        #expect(one.egress_name == 77 && SocketAddress(one.destination).description == "10.7.0.7:9000")
        #expect(opened.allSatisfy { $0.socket.policy_generation == KernelWorld.policyGeneration })
        #expect(opened.allSatisfy { $0.socket.flags & UInt8(MESH_SOCKET_FAILED_OPEN) == 0 })
    }

    @Test(arguments: [
        ("listed_datagram", 0), ("listed_datagram_ipv6_port", 0), ("denied_loopback_datagram", 0),
        ("denied_datagram", ECONNREFUSED), ("not_listed_datagram", ECONNREFUSED),
        ("not_listed_datagram_ipv6", ECONNREFUSED),
    ])
    func datagramsAreJudgedByTheirDestination(_ attempt: (String, Int32)) {
        #expect(scene.code(attempt.0) == attempt.1, "\(attempt.0)")
    }

    @Test func connectionsOlderThanTheirWorkloadAreFoundWhileTheyLiveAndCountedOnce() throws {
        let found = scene.older[0].sorted { $0.event.socket.destination.port_be < $1.event.socket.destination.port_be }
        let ports = found.map { UInt16(bigEndian: $0.event.socket.destination.port_be) }
        try #require(Set(ports) == [9100, 9101, 9102] && ports.count == 3)
        #expect(found.allSatisfy { $0.event.socket.workload == 5 && (6...7).contains($0.event.bytes_sent) })
        for (port, older) in zip(ports, found) {
            let reason: mesh_reason =
                port == 9102 ? .MESH_REASON_SOCKET_FROM_OUTSIDE : .MESH_REASON_PLAINTEXT_PREEXISTING
            #expect(older.event.reason == UInt16(reason.rawValue), "\(port)")
        }
        #expect(Set(scene.older[1].map(\.event.socket.cookie)) == Set(found.map(\.event.socket.cookie)))
        #expect(scene.counted(.MESH_REASON_PLAINTEXT_PREEXISTING) == 2)
        #expect(scene.counted(.MESH_REASON_SOCKET_FROM_OUTSIDE) == 1)
    }

    @Test func listenerThatWasGivenToAWorkloadIsItsOwnFromThenOn() {
        let given = KernelScene.Owner(port: 8089, isAnyAddress: false, workload: 5, listeners: 1)
        #expect(!scene.owners[2].contains(given))
        #expect(scene.heldOwners.contains(given))
        #expect(!scene.owners[3].contains { $0.port == 8089 })
    }

    @Test func connectionThatIsEndedFromOutsideFailsAtOnce() {
        #expect(scene.code("older_before_9101") == 0 && scene.code("older_before_9102") == 0)
        #expect(scene.code("older_ended_9101") == ECONNABORTED)
        #expect(scene.code("older_ended_9102") == ECONNABORTED)
        #expect(scene.code("older_peer_9101") == ECONNRESET && scene.code("older_peer_9102") == ECONNRESET)
    }

    @Test func connectionOlderThanItsWorkloadSendsNothingThroughTheFence() {
        #expect(scene.code("older_before_9100") == 0)
        #expect(scene.code("older_after") == 0)
        // Retransmissions count again, and the event comes once.
        let dropped = scene.events.filter {
            $0.reason == UInt16(mesh_reason.MESH_REASON_EGRESS_WITHOUT_VERDICT.rawValue)
        }
        #expect(dropped.count { $0.socket.workload == 5 } == 1)
        #expect(scene.counted(.MESH_REASON_EGRESS_WITHOUT_VERDICT) > UInt64(dropped.count))
    }

    @Test(arguments: [
        ("raw_w1", 0), ("raw_w3", EPERM), ("raw_w6", EPERM), ("raw_w8", 0), ("ping_w1", 0), ("ping_w6", EPERM),
        ("lite_w1", EPROTONOSUPPORT), ("lite_w3", EPERM), ("lite_w6", EPROTONOSUPPORT), ("lite_w8", 0),
        // Where the kernel knows SCTP it is the hook that says so, elsewhere the kernel.
        ("sctp_w1", EPROTONOSUPPORT), ("sctp_w6", EPROTONOSUPPORT),
    ])
    func socketsThatNoHookCouldJudgeAreRefusedOrTheWorkloadsOwn(_ attempt: (String, Int32)) {
        #expect(scene.code(attempt.0) == attempt.1, "\(attempt.0)")
    }

    @Test func refusedSocketsAreCounted() {
        #expect(scene.counted(.MESH_REASON_RAW_SOCKET_DENIED) == 2)
        #expect(scene.counted(.MESH_REASON_PROTOCOL_NOT_JUDGED) >= 2)
    }

    @Test func socketCarriedOutOfItsWorkloadIsRefused() { #expect(scene.code("carried_out") == ECONNREFUSED) }

    @Test func clientWithMPTCPSeesWhatItDialledAndItsOwnAddress() throws {
        let names = try #require(scene.facts("mptcp_names"))
        #expect(names.destination == "10.96.0.1")
        #expect(names.peer == .endpoint("10.96.0.1", 80))
        #expect(names.own == .address("10.9.0.1"))
    }
}
