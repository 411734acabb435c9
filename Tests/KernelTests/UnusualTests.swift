import BPFRuntime
import CMeshABI
import Glibc
import Testing

/// The programs off the straight way; the scene is that of KernelTests.
extension KernelTests {
    @Test func disconnectedSocketIsJudgedAnew() throws {
        let facts = try #require(scene.facts("used_again"))
        #expect(facts.peer == .endpoint("127.0.0.1", 7777))
        #expect(facts.own == .address("127.0.0.1"))
    }

    @Test func unspecifiedAddressDoesNotReachTheListener() {
        #expect(scene.code("unspecified_dialled") == ECONNREFUSED)
        let refused = scene.events.filter {
            UInt32($0.reason) == mesh_reason.MESH_REASON_MESH_PORT_RESERVED.rawValue
                && $0.socket.destination.port_be == UInt16(15001).bigEndian
                && $0.socket.destination.address.word.2 == UInt32(0xffff).bigEndian
                && $0.socket.destination.address.word.3 == 0
        }
        #expect(refused.count == 1)
    }

    @Test func clientBoundToIPv6LoopbackIsCaptured() throws {
        let facts = try #require(scene.facts("bound_to_loopback6"))
        #expect(facts.errno == 0)
        #expect(facts.destination == "fd96::1")
    }

    @Test(arguments: [("bound4", "10.9.0.1", "10.96.0.1"), ("bound6", "fd99::1", "fd96::1")])
    func boundClientKeepsItsAddress(_ kind: (String, String, String)) throws {
        let facts = try #require(scene.facts(kind.0))
        #expect(facts.errno == 0)
        #expect(facts.source == kind.1)
        #expect(facts.own == .address(kind.1))
        #expect(facts.destination == kind.2)
    }

    @Test(arguments: ["mptcp", "fast_open"])
    func otherWaysToConnectAreCapturedToo(_ kind: String) throws {
        let facts = try #require(scene.facts(kind))
        #expect(facts.errno == 0)
        #expect(facts.destination == "10.96.0.1")
    }

    @Test func connectionsThatWaitForTheProxyAreBounded() throws {
        // 64 wait, and 17 are in the listener's queue with their entry handed over.
        let refused = try #require(scene.code("crowd_refused"))
        #expect((36...40).contains(refused))
        #expect(scene.counted(.MESH_REASON_HANDOVER_FULL) == UInt64(refused))
    }

    @Test func foreignListenerInTheMeshsPlaceGetsNothing() {
        #expect(scene.code("foreign_listener") == ECONNREFUSED)
        #expect(scene.code("foreign_accepts") == EAGAIN)
        let refused = scene.events.last { UInt32($0.kind) == mesh_event_kind.MESH_EVENT_REFUSED.rawValue }
        #expect(refused?.reason == UInt16(mesh_reason.MESH_REASON_NO_LISTENER.rawValue))
    }

    @Test func everyHandOverGoesToItsOwnConnection() { #expect(scene.code("handed_to_the_wrong") == 0) }

    @Test func nearestCgroupDecides() throws {
        #expect(scene.facts("cgroup_child")?.workload == 1)
        #expect(scene.facts("cgroup_nested")?.workload == 2)
        #expect(scene.code("cgroup_outside") == ENETUNREACH)
    }

    @Test func networkNamespaceWithoutListenersIsRefusedAndReported() {
        #expect(scene.code("other_namespace") == 1)
        let asked = scene.events.filter {
            UInt32($0.kind) == mesh_event_kind.MESH_EVENT_NEEDS_LISTENER.rawValue
        }
        #expect(asked.count == 1)
        #expect(asked.allSatisfy { $0.socket.workload == 1 && $0.value != 0 })
    }

    @Test func failureModeOpenPassesToWorkloadsOnly() {
        #expect(scene.code("failed_open") == 0)
        // The other is a query to its resolver.
        #expect(scene.counted(.MESH_REASON_FAIL_OPEN) == 2)
        let opened = scene.events.filter {
            UInt32($0.kind) == mesh_event_kind.MESH_EVENT_OPEN.rawValue && $0.socket.workload == 4
                && UInt32($0.socket.role) == mesh_socket_role.MESH_ROLE_PASSTHROUGH.rawValue
        }
        // No egress policy was asked, so none will end it.
        #expect(opened.count == 1 && opened.allSatisfy { $0.socket.flags & UInt8(MESH_SOCKET_FAILED_OPEN) != 0 })
    }

    @Test func listenersAreNotedConflictsReportedAndClosedOnesForgotten() {
        #expect(scene.owners[0] == [.init(port: 8081, isAnyAddress: false, workload: 2, listeners: 1)])
        #expect(scene.counted(.MESH_REASON_PORT_CONFLICT) == 1)
        #expect(scene.owners.last == [])
    }

    @Test func listenersOlderThanTheirWorkloadAreFoundOnceAndForgottenWhenTheyClose() {
        let shared = KernelScene.Owner(port: 8084, isAnyAddress: true, workload: 5, listeners: 2)
        let found: [KernelScene.Owner] = [
            .init(port: 8081, isAnyAddress: false, workload: 2, listeners: 1),
            .init(port: 8082, isAnyAddress: false, workload: 5, listeners: 1),
            .init(port: 8083, isAnyAddress: true, workload: 5, listeners: 1), shared,
        ]
        #expect(scene.owners[1] == found)
        #expect(scene.owners[2] == found)
        #expect(scene.owners[3] == [shared])
    }

    @Test func nothingIsLostFromTheRing() { #expect(scene.counted(.MESH_REASON_EVENT_LOST) == 0) }

    @Test func pinDirectoryElsewhereIsAnErrorThatSaysWhatToDo() throws {
        let error = try #require(scene.otherFileSystem)
        #expect(error.description.contains("mount -t bpf"))
    }
}
