import CLinux
import CMeshABI
import Glibc
import LinuxIO
import MeshModel
import ProxyControl
import Synchronization

@testable import DataPlane

/// A proxy inside the test process with a small meshd in front of it: it makes sockets, hands out a snapshot and
/// certificates, and collects what the proxy reports. No BPF: original destinations come from a table.
final class TestNode: @unchecked Sendable {
    struct Seen {
        var opened: [ConnectionOpened] = []
        var closed: [ConnectionClosed] = []
        var refused: [PeerRefusal] = []
        var unreachable: [NodeID] = []
        var reachable: [NodeID] = []
        var tunnels: [TunnelStatus] = []
        var counters: ProxyCounters?
        var snapshotVersion: UInt64 = 0
        var snapshotsTaken = 0
        var hellos: [ProxyHello] = []
        var isDrained = false
        var given: [ListenerDescription] = []
        var resolved: [NameResolution] = []
    }

    private struct Orders {
        var messages: [(SupervisorMessage, Int32)] = []
        var captured: [UInt16: mesh_socket] = [:]
        var questions: [UInt16: mesh_question] = [:]
        var presented: [mesh_present] = []
        var acceptedOptions: [ApplicationOptions] = []
        var beats: [UInt32] = []
        var isStopped = false
        var givesDialSockets = true
        var dropsConnection = false
        var losses: UInt32 = 0
        var paths: [Int32: clinux_tcp_statistics] = [:]
    }

    let name: String
    let mesh: TestMesh
    let address: IPAddress
    /// Of its capture listeners, one for each loop.
    let outbound: [SocketAddress]
    /// Of its names listener.
    let names: SocketAddress
    private let seen = Mutex(Seen())
    private let orders = Mutex(Orders())
    private let controlPath: String
    private var threads: [TestThread] = []
    private let proxyBox = Mutex<ProxyBox?>(nil)
    private static let serial = Atomic<Int>(0)

    private struct ProxyBox: @unchecked Sendable { let reactor: StopFlag }
    final class StopFlag: @unchecked Sendable { let isSet = Atomic<Bool>(false) }
    private let stopFlag = StopFlag()

    /// Of `meshd proxy`, when that is what runs.
    private(set) var process: pid_t = 0

    /// `executable`: run this as a process of its own, confined as in production, in place of a proxy in this one.
    init(_ name: String, mesh: TestMesh, settings: ProxySettings, executable: String? = nil) throws {
        self.name = name
        self.mesh = mesh
        address = mesh.tunnelAddress(name)
        controlPath = "@culvert-dataplane-\(getpid())-\(Self.serial.add(1, ordering: .relaxed).newValue)"
        let captures = (0..<settings.loops).map { _ in TestSocket() }
        for capture in captures { try capture.listen(SocketAddress(IPAddress(ipv4: 0x7f00_0001), 0)) }
        outbound = captures.map(\.local)
        let asked = TestSocket.datagram()
        try asked.bind(SocketAddress(IPAddress(ipv4: 0x7f00_0001), 0))
        names = asked.local
        let tunnel = TestSocket()
        try tunnel.listen(SocketAddress(address, mesh.tunnelPort))
        var settings = settings
        settings.tunnelPort = mesh.tunnelPort
        settings.node = name
        settings.trustDomain = TestMesh.trustDomain
        let listener = try SeqpacketSocket.listen(path: controlPath)
        order(.welcome(settings))
        for certificate in try mesh.certificates(of: name) { order(.certificate(certificate)) }
        order(.trust(trustDomain: TestMesh.trustDomain, bundle: mesh.trustBundle))
        try giveSnapshot()
        order(
            .listener(
                ListenerDescription(
                    id: 1, kind: .tunnel, networkNamespace: .node,
                    address: SocketAddress(address, mesh.tunnelPort), loop: 0)),
            dup(tunnel.descriptor))
        for (loop, capture) in captures.enumerated() {
            let description = ListenerDescription(
                id: UInt32(loop + 2), kind: .outbound, networkNamespace: .node, address: capture.local,
                loop: UInt16(loop))
            order(.listener(description), dup(capture.descriptor))
        }
        let description = ListenerDescription(
            id: 99, kind: .names, networkNamespace: .node, address: names, loop: 0)
        order(.listener(description), dup(asked.descriptor))
        let box = SocketBox(listener)
        threads.append(TestThread { [self] in supervise(box) })
        if let executable {
            process = try spawn(executable)
        } else {
            threads.append(TestThread { [self] in runProxy() })
        }
        try wait("snapshot in use") { $0.snapshotVersion > 0 }
    }

    private final class SocketBox: @unchecked Sendable {
        let socket: SeqpacketSocket
        init(_ socket: consuming SeqpacketSocket) { self.socket = socket }
    }

    /// Ends the proxy and waits for its threads.
    func stop() {
        stopFlag.isSet.store(true, ordering: .relaxed)
        orders.withLock { $0.isStopped = true }
        if process > 0 {
            kill(process, SIGKILL)
            var status: Int32 = 0
            waitpid(process, &status, 0)
            process = 0
        }
        for thread in threads { thread.join() }
        threads = []
        // The loops end by themselves after the stop message.
        usleep(50_000)
    }

    // MARK: what tests do

    func order(_ message: SupervisorMessage, _ descriptor: Int32 = -1) {
        orders.withLock { $0.messages.append((message, descriptor)) }
    }

    func giveSnapshot() throws {
        let snapshot = try mesh.snapshot(for: name)
        let bytes: [UInt8] = snapshot.withBytes { Array($0) }
        let memory = try SealedMemory(name: "snapshot", bytes: bytes)
        order(.snapshot(version: snapshot.version, length: UInt64(memory.count)), dup(memory.descriptor.number))
    }

    func setGivesDialSockets(_ gives: Bool) { orders.withLock { $0.givesDialSockets = gives } }
    /// So many of each thousand packets count as lost, 20 ms away; 0: what the kernel says.
    func setLosses(_ perThousand: UInt32) { orders.withLock { $0.losses = perThousand } }
    func dropConnection() { orders.withLock { $0.dropsConnection = true } }
    /// Of each captured connection as the proxy accepted it.
    var acceptedOptions: [ApplicationOptions] { orders.withLock { $0.acceptedOptions } }
    var presented: [mesh_present] { orders.withLock { $0.presented } }
    var beats: [UInt32] { orders.withLock { $0.beats } }

    /// A connection of the workload to `destination`, as capture would bring it.
    func connect(
        as workload: String = "client", to destination: SocketAddress, loop: Int = 0
    ) throws -> TestSocket {
        let socket = TestSocket()
        try socket.bind(SocketAddress(IPAddress(ipv4: 0x7f00_0001), 0))
        var captured = mesh_socket()
        captured.workload = mesh.instance(workload).rawValue
        captured.cookie = Socket.cookie(of: socket.descriptor)
        captured.source = SocketAddress(mesh.address(workload), socket.local.port).meshEndpoint
        captured.destination = destination.meshEndpoint
        let port = socket.local.port
        orders.withLock { $0.captured[port] = captured }
        try socket.connect(outbound[loop])
        return socket
    }

    /// A UDP socket of the workload that asks `resolver`, as the kernel side would bring it.
    func asker(as workload: String = "client", of resolver: SocketAddress) throws -> TestSocket {
        let socket = TestSocket.datagram()
        try socket.bind(SocketAddress(IPAddress(ipv4: 0x7f00_0001), 0))
        var question = mesh_question()
        question.workload = mesh.instance(workload).rawValue
        question.resolver = resolver.meshEndpoint
        let port = socket.local.port
        orders.withLock { $0.questions[port] = question }
        try socket.connect(names)
        return socket
    }

    func report() -> (tunnels: [TunnelStatus], counters: ProxyCounters) {
        seen.withLock { $0.counters = nil }
        order(.report)
        try? wait("counters") { $0.counters != nil }
        return seen.withLock { ($0.tunnels, $0.counters ?? ProxyCounters()) }
    }

    var seenNow: Seen { seen.withLock { $0 } }

    struct Timeout: Error { var what: String }

    func wait(_ what: String, seconds: Int = 10, until condition: (Seen) -> Bool) throws {
        for _ in 0..<seconds * 200 {
            if condition(seenNow) { return }
            usleep(5_000)
        }
        throw Timeout(what: what)
    }

    // MARK: the proxy

    private func spawn(_ executable: String) throws -> pid_t {
        var pid: pid_t = 0
        let texts = [executable, "proxy", "--control", controlPath]
        var arguments: [UnsafeMutablePointer<CChar>?] = texts.map { text in strdup(text) } + [nil]
        defer { for argument in arguments { free(argument) } }
        let code = posix_spawn(&pid, executable, nil, nil, &arguments, environ)
        guard code == 0 else { throw TestSocket.Failure(call: "posix_spawn \(executable)", code: code) }
        return pid
    }

    private func runProxy() {
        let kernel = KernelInterface(
            accepted: { [self] descriptor in
                guard let peer = Socket.peer(of: descriptor) else { return nil }
                orders.withLock { $0.acceptedOptions.append(ApplicationOptions(of: descriptor)) }
                return orders.withLock { $0.captured.removeValue(forKey: peer.port) }
            },
            present: { [self] _, presentation in
                orders.withLock { $0.presented.append(presentation) }
                return 0
            },
            beat: { [self] _, state in
                orders.withLock { $0.beats.append(state.rawValue) }
                return 0
            },
            question: { [self] _, client, _ in
                orders.withLock { $0.questions[UInt16(bigEndian: client.port_be)] }
            },
            path: { [self] descriptor in
                orders.withLock { orders in
                    guard orders.losses > 0 else { return Socket.statistics(of: descriptor) }
                    var path = orders.paths[descriptor] ?? clinux_tcp_statistics()
                    (path.rtt_us, path.segment_size) = (20_000, 1_448)
                    path.segments_sent += 1_000
                    path.retransmits += orders.losses
                    orders.paths[descriptor] = path
                    return path
                }
            })
        do {
            let proxy = try Proxy(controlPath: controlPath, kernel: kernel, isConfined: false)
            proxy.start()
            while !stopFlag.isSet.load(ordering: .relaxed) { try proxy.turn(limitMilliseconds: 20) }
            proxy.stop()
        } catch {
            print("proxy of \(name): \(error)")
        }
    }

    // MARK: meshd

    private func supervise(_ listener: SocketBox) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ControlLimits.bodyBytesMax, alignment: 16)
        defer { buffer.deallocate() }
        var connection: SocketBox?
        while !orders.withLock({ $0.isStopped }) {
            if orders.withLock({ orders in
                defer { orders.dropsConnection = false }
                return orders.dropsConnection
            }) {
                connection = nil
            }
            guard let current = connection else {
                if let accepted = try? listener.socket.accept() { connection = SocketBox(accepted) }
                usleep(2_000)
                continue
            }
            if !serve(current, buffer) { connection = nil }
        }
    }

    private func serve(_ connection: SocketBox, _ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        if seenNow.hellos.isEmpty == false {
            for (message, descriptor) in orders.withLock({ orders in
                defer { orders.messages = [] }
                return orders.messages
            }) {
                var batch = DescriptorBatch()
                if descriptor >= 0 { batch.append(FileDescriptor(owning: descriptor)) }
                _ = try? connection.socket.send(message.encode(), descriptors: batch)
            }
        }
        var isIdle = true
        while true {
            guard let reception = try? connection.socket.receive(into: buffer) else { return false }
            switch consume reception {
            case .nothing:
                if isIdle { usleep(1_000) }
                return true
            case .closed: return false
            case .message(let count, _):
                isIdle = false
                if let message = try? ProxyMessage(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count])) {
                    take(message, connection)
                }
            }
        }
    }

    private func take(_ message: ProxyMessage, _ connection: SocketBox) {
        if case .needDialSockets(let pool, let count) = message {
            if orders.withLock({ $0.givesDialSockets }) { giveDialSockets(pool, count, connection) }
            return
        }
        seen.withLock { seen in
            switch message {
            case .hello(let hello): seen.hellos.append(hello)
            case .snapshotInUse(let version):
                seen.snapshotVersion = version
                seen.snapshotsTaken += 1
            case .needDialSockets: break
            case .nodeUnreachable(let node, _, _): seen.unreachable.append(node)
            case .nodeReachable(let node): seen.reachable.append(node)
            case .opened(let records): seen.opened += records
            case .closed(let records): seen.closed += records
            case .refused(let records): seen.refused += records
            case .tunnels(let tunnels): seen.tunnels = tunnels
            case .counters(let counters): seen.counters = counters
            case .listener(let listener): seen.given.append(listener)
            case .drained: seen.isDrained = true
            case .nameResolved(let resolution): seen.resolved.append(resolution)
            }
        }
    }

    private func giveDialSockets(_ pool: DialPool, _ count: UInt32, _ connection: SocketBox) {
        var left = Int(count)
        while left > 0 {
            var batch = DescriptorBatch()
            let step = min(left, 64)
            for _ in 0..<step {
                let family = pool.isIPv6 ? AF_INET6 : AF_INET
                let type = pool.purpose == .namesDatagram ? SOCK_DGRAM : SOCK_STREAM
                let descriptor = socket(family, Int32(type.rawValue | SOCK_CLOEXEC.rawValue), 0)
                // IP_BIND_ADDRESS_NO_PORT: the tunnel comes from the node's address.
                _ = clinux_tcp_set_option(descriptor, Int32(IPPROTO_IP), 24, 1)
                if pool.purpose == .tunnel, !pool.isIPv6 {
                    var endpoint = SocketAddress(address, 0).endpoint
                    _ = clinux_bind_endpoint(descriptor, &endpoint, 0)
                }
                batch.append(FileDescriptor(owning: descriptor))
            }
            _ = try? connection.socket.send(SupervisorMessage.dialSockets(pool: pool).encode(), descriptors: batch)
            left -= step
        }
    }
}
