package import BPFRuntime
package import CMeshABI
import Glibc
package import LinuxIO

/// The kernel side of this node as meshd holds it: programs loaded (or taken over from an earlier meshd), attached and
/// pinned; its maps for `Interceptor`, its events and counters for who shows flows.
package final class NodeKernel {
    private let programs: KernelPrograms
    private var watch: Reactor.WatchID?
    /// Where the node's workloads live.
    package weak var namespaces: NamespaceTable?

    /// Creates the mesh's cgroups, moves meshd into its own (`movesCaller`, not where a service manager keeps it in a
    /// unit), then loads. What was pinned before stays in force until its successor is in place.
    package init(_ configuration: Interceptor.Configuration, movesCaller: Bool) throws {
        let hierarchy = try CgroupHierarchy.locate()
        let cgroups = MeshCgroups(root: configuration.cgroupRoot, hierarchy)
        try cgroups.prepare(hierarchy, movesCaller: movesCaller)
        programs = try KernelPrograms(
            pinDirectory: configuration.pinDirectory, cgroupRoot: hierarchy.directory(cgroups.root),
            socketsCgroup: hierarchy.directory(cgroups.sockets))
    }

    package var tables: KernelTables { KernelTables(programs) }

    /// Calls `body` for every event from now on, those of `Interceptor.handle` among them.
    package func watchEvents(on reactor: Reactor, body: @escaping (mesh_event) -> Void) throws(IOError) {
        watch = try reactor.watch(programs.events.descriptor) { [weak self] _ in self?.programs.events.read(body) }
    }

    /// Programs that are not in their place any more, one sentence each. Some system calls.
    package func faults() -> [String] { programs.faults() }

    /// How often each reason was counted, by its number.
    package func counters() throws(IOError) -> [UInt64] { try programs.counters() }

    /// One event of kind open for each observed socket, with its counters as of now.
    package func readLiveFlows(_ body: (mesh_event) -> Void) throws {
        guard programs.live.isPerNamespace else { return try programs.live.read(body) }
        for id in namespaces?.ids ?? [] {
            var failure: BPFError?
            do throws(IOError) {
                try namespaces?.open(id).inside {
                    do throws(BPFError) { try programs.live.read(body) } catch { failure = error }
                }
            } catch {
                // Nobody has a connection in a namespace that is gone.
                if error.code != ENOENT { throw error }
            }
            if let failure { throw failure }
        }
    }

    /// One event of kind open for each pair of a UDP socket and its peer, with its counters as of now: datagrams sent in
    /// `value`, received in the socket's `peer_cookie`. Of kind close for those that have been idle, which are then
    /// forgotten. Where `body` says false the workload does not answer its peer any more; what still goes there is no
    /// beginning of its own, so that nothing comes back.
    package func readDatagramFlows(now: UInt64, _ body: (mesh_event) -> Bool) throws(IOError) {
        for key in try programs.datagrams.keys() {
            guard var flow = try programs.datagrams.get(key) else { continue }
            let isIdle = now > flow.last_ns + Self.datagramIdleNanoseconds
            if isIdle { try programs.datagrams.remove(key) }
            // Connected only, as resolver libraries do to sort addresses.
            if flow.datagrams_sent == 0 && flow.datagrams_received == 0 { continue }
            let kind = isIdle ? mesh_event_kind.MESH_EVENT_CLOSE : .MESH_EVENT_OPEN
            var event = mesh_event()
            event.version = UInt8(MESH_ABI_VERSION)
            event.kind = UInt8(truncatingIfNeeded: kind.rawValue)
            event.at_ns = flow.last_ns
            event.socket = flow.socket
            // A socket may have many peers, and each is a flow of its own.
            event.socket.cookie = Self.mixed(key)
            event.bytes_sent = flow.bytes_sent
            event.bytes_received = flow.bytes_received
            event.value = flow.datagrams_sent
            event.socket.peer_cookie = flow.datagrams_received
            if body(event) || isIdle { continue }
            flow.socket.flags |= UInt8(MESH_SOCKET_DENIED)
            try programs.datagrams.put(key, flow)
        }
    }

    /// As long as connection trackers keep a UDP stream.
    private static let datagramIdleNanoseconds: UInt64 = 60_000_000_000

    private static func mixed(_ key: mesh_datagram_key) -> UInt64 {
        let hash = withUnsafeBytes(of: key) { bytes in
            bytes.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        }
        // Apart from the cookies of sockets, which count up from 1.
        return hash | 1 << 63
    }

    /// Whether the workload behind a listening socket is known, for `meshctl check`: who listens where, by TCP.
    package func owners() throws(IOError) -> [(key: mesh_owner_key, owner: mesh_owner)] {
        var owners: [(key: mesh_owner_key, owner: mesh_owner)] = []
        for key in try programs.owners.keys() {
            guard key.protocol == 0, let owner = try programs.owners.get(key) else { continue }
            owners.append((key, owner))
        }
        return owners
    }

    /// Detaches everything and removes the pins.
    package static func uninstall(_ configuration: Interceptor.Configuration) throws(BPFError) {
        try KernelPrograms.uninstall(pinDirectory: configuration.pinDirectory)
    }
}
