import CLinux
import CMeshABI
import CRelayGuard
import DataPlane
import Glibc
import LinuxIO
import MeshModel
import ProxyControl
import Synchronization

/// A proxy with a small meshd in front of it: settings, certificates, a snapshot, listeners, and dial sockets on demand.
final class GuardNode: @unchecked Sendable {
    /// Where the proxy runs.
    enum Place {
        case threads(captured: mesh_socket)
        case process(executable: String, interposer: String, shared: String)
    }

    let name: String
    /// Of its capture listener.
    let capture: SocketAddress
    private let controlPath: String
    private let messages: [SupervisorMessage]
    private let listeners: [(ListenerDescription, Int32)]
    private let isServing = Atomic<Bool>(false)
    private let isEnded = Atomic<Bool>(false)
    private var process: pid_t = 0

    init(_ name: String, mesh: GuardMesh, place: Place) throws {
        self.name = name
        controlPath = "@culvert-guard-\(getpid())-\(name)"
        let capture = try GuardSocket.listening(SocketAddress(IPAddress(ipv4: 0x7f00_0001), 0))
        let tunnelEnd = SocketAddress(GuardMesh.tunnelAddress(name), GuardMesh.tunnelPort)
        let tunnel = try GuardSocket.listening(tunnelEnd)
        self.capture = GuardSocket.local(of: capture)
        listeners = [
            (ListenerDescription(id: 1, kind: .tunnel, networkNamespace: .node, address: tunnelEnd, loop: 0), tunnel),
            (
                ListenerDescription(id: 2, kind: .outbound, networkNamespace: .node, address: self.capture, loop: 0),
                capture
            ),
        ]
        var settings = ProxySettings()
        settings.tunnelPort = GuardMesh.tunnelPort
        settings.node = name
        settings.trustDomain = GuardMesh.trustDomain
        messages = [
            .welcome(settings), .certificate(try mesh.certificate(for: name)),
            .trust(trustDomain: GuardMesh.trustDomain, bundle: mesh.trustBundle),
        ]
        let snapshot = try mesh.snapshot(for: name)
        let memory = try SealedMemory(name: "snapshot", bytes: snapshot.withBytes { Array($0) })
        let order = SupervisorMessage.snapshot(version: snapshot.version, length: UInt64(memory.count))
        let control = Control(
            try SeqpacketSocket.listen(path: controlPath), snapshot: order, memory: memory.release())
        GuardThread.start { [self] in supervise(control) }
        try start(place)
        for _ in 0..<2_000 where !isServing.load(ordering: .relaxed) { usleep(10_000) }
        guard isServing.load(ordering: .relaxed) else { throw GuardFailure("the proxy of \(name) is not ready") }
    }

    func stop() {
        isEnded.store(true, ordering: .relaxed)
        guard process > 0 else { return }
        kill(process, SIGKILL)
        var status: Int32 = 0
        waitpid(process, &status, 0)
    }

    // MARK: the proxy

    private func start(_ place: Place) throws {
        switch place {
        case .threads(let captured):
            let kernel = KernelInterface(
                accepted: { descriptor in
                    var captured = captured
                    var peer = clinux_endpoint()
                    guard clinux_peer_endpoint(descriptor, &peer) == 0 else { return nil }
                    captured.source.port_be = peer.port.bigEndian
                    return captured
                },
                present: { _, _ in 0 }, beat: { _, _ in 0 })
            let path = controlPath
            GuardThread.start {
                do { try Proxy(controlPath: path, kernel: kernel, isConfined: false).run() } catch { print(error) }
            }
        case .process(let executable, let interposer, let shared):
            let variables = [
                "LD_PRELOAD=\(interposer)", "RELAY_GUARD_SHARED=\(shared)", "RELAY_GUARD_SLOT=\(name == "a" ? 0 : 1)",
            ]
            let words = [executable, "proxy", "--control", controlPath]
            var arguments: [UnsafeMutablePointer<CChar>?] = words.map { text in strdup(text) } + [nil]
            var environment: [UnsafeMutablePointer<CChar>?] = variables.map { text in strdup(text) } + [nil]
            let code = posix_spawn(&process, executable, nil, nil, &arguments, &environment)
            guard code == 0 else { throw GuardFailure("cannot start \(executable): error \(code)") }
        }
    }

    // MARK: meshd

    private final class Control: @unchecked Sendable {
        let listener: SeqpacketSocket
        let snapshot: SupervisorMessage
        let memory: Int32
        var connection: SeqpacketSocket?
        init(_ listener: consuming SeqpacketSocket, snapshot: SupervisorMessage, memory: Int32) {
            self.listener = listener
            self.snapshot = snapshot
            self.memory = memory
        }
    }

    private static let recordKinds = [ProxyMessage.opened([]).encode()[0], ProxyMessage.closed([]).encode()[0]]

    private func supervise(_ control: Control) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ControlLimits.bodyBytesMax, alignment: 16)
        defer { buffer.deallocate() }
        do {
            while !isEnded.load(ordering: .relaxed) {
                let descriptor = control.connection?.descriptor.number ?? control.listener.descriptor.number
                var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                guard Glibc.poll(&poll, 1, 200) > 0 else { continue }
                if control.connection == nil {
                    control.connection = try control.listener.accept()
                } else if !(try receive(control, buffer)) {
                    return
                }
            }
        } catch {
            print("guard: control of \(name): \(error)")
        }
    }

    private func receive(_ control: Control, _ buffer: UnsafeMutableRawBufferPointer) throws -> Bool {
        guard let reception = try control.connection?.receive(into: buffer) else { return false }
        switch consume reception {
        case .nothing: return true
        case .closed: return false
        case .message(let count, _):
            // What reading records costs is meshd's, and does not count as the proxy's.
            if Self.recordKinds.contains(buffer[0]) { return true }
            switch try ProxyMessage(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count])) {
            case .hello:
                for message in messages { try send(message, [], control) }
                try send(control.snapshot, [control.memory], control)
                for (description, descriptor) in listeners { try send(.listener(description), [descriptor], control) }
            case .needDialSockets(let pool, let count):
                let sockets = try (0..<min(count, 64)).map { _ in try dialSocket(pool) }
                try send(.dialSockets(pool: pool), sockets, control)
            case .snapshotInUse: isServing.store(true, ordering: .relaxed)
            default: break
            }
            return true
        }
    }

    private func send(_ message: SupervisorMessage, _ descriptors: [Int32], _ control: Control) throws {
        var batch = DescriptorBatch()
        for descriptor in descriptors { batch.append(FileDescriptor(owning: descriptor)) }
        let bytes = message.encode()
        guard try control.connection?.send(bytes, descriptors: batch) ?? false else {
            throw GuardFailure("the control socket is full")
        }
    }

    private func dialSocket(_ pool: DialPool) throws -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard pool.purpose == .tunnel else { return descriptor }
        var endpoint = GuardSocket.endpoint(SocketAddress(GuardMesh.tunnelAddress(name), 0))
        guard clinux_bind_endpoint(descriptor, &endpoint, 0) == 0 else { throw GuardFailure("bind: \(errno)") }
        return descriptor
    }
}

/// A thread that nobody waits for.
enum GuardThread {
    fileprivate final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    static func start(_ body: @escaping @Sendable () -> Void) {
        var thread = pthread_t()
        pthread_create(&thread, nil, guardThreadMain, Unmanaged.passRetained(Box(body)).toOpaque())
        pthread_detach(thread)
    }
}

private func guardThreadMain(_ box: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let box { Unmanaged<GuardThread.Box>.fromOpaque(box).takeRetainedValue().body() }
    return nil
}
