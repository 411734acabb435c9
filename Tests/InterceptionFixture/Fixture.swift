import CMeshABI
import Glibc
import LinuxIO
import MeshModel
import ProxyControl

/// Stands in for `meshd proxy`: connects, says hello, counts what it is sent and tells on `report`, comes back when
/// meshd goes, and ends on `drain`. `closeListener` makes it misbehave, by the listener's number.
@main
enum Fixture {
    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 4, arguments[1] == "proxy" else { exit(64) }
        var state = State()
        while true {
            if let socket = try? SeqpacketSocket.connect(path: arguments[3]) {
                try? serve(socket, &state)
            }
            usleep(20_000)
        }
    }

    struct State {
        var messages: UInt32 = 0
        var descriptors: UInt32 = 0
        var connects: UInt32 = 0
        var snapshot: UInt64 = 0
        var listeners: [ListenerDescription] = []
        /// Kept open, as a proxy would: listeners and dial sockets.
        var held: [Held] = []
    }

    final class Held {
        let descriptor: FileDescriptor
        let namespace: UInt32
        var isListener = false
        init(_ descriptor: consuming FileDescriptor, namespace: UInt32) {
            self.descriptor = descriptor
            self.namespace = namespace
        }
    }

    static func serve(_ socket: borrowing SeqpacketSocket, _ state: inout State) throws(IOError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 200_000, alignment: 8)
        defer { buffer.deallocate() }
        state.connects += 1
        let hello = ProxyHello(
            pid: getpid(), loops: 1, snapshotVersion: state.snapshot, listeners: state.listeners, principals: [],
            connections: state.connects - 1)
        _ = try socket.send(ProxyMessage.hello(hello).encode())
        while true {
            var poll = pollfd(fd: socket.descriptor.number, events: Int16(POLLIN), revents: 0)
            _ = Glibc.poll(&poll, 1, 200)
            Capture.beat(state)
            switch try socket.receive(into: buffer) {
            case .nothing: continue
            case .closed: return
            case .message(let count, var descriptors):
                state.messages += 1
                state.descriptors += UInt32(descriptors.count)
                let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
                guard let message = try? SupervisorMessage(decoding: bytes) else { exit(65) }
                keep(message, &descriptors, &state)
                if try !answer(message, on: socket, state) { return }
            }
        }
    }

    static func keep(_ message: SupervisorMessage, _ descriptors: inout DescriptorBatch, _ state: inout State) {
        switch message {
        case .listener(let listener):
            state.listeners.append(listener)
            hold(&descriptors, listener.networkNamespace.rawValue, &state)
            if let listening = state.held.last { listening.isListener = true }
            Capture.beat(state)
        case .dialSockets(let pool): hold(&descriptors, pool.networkNamespace.rawValue, &state)
        case .networkNamespaceGone(let gone):
            state.listeners.removeAll { $0.networkNamespace == gone }
            state.held.removeAll { $0.namespace == gone.rawValue }
        case .snapshot(let version, _): state.snapshot = version
        default: break
        }
    }

    static func hold(_ descriptors: inout DescriptorBatch, _ namespace: UInt32, _ state: inout State) {
        while let descriptor = descriptors.takeFirst() {
            state.held.append(Held(descriptor, namespace: namespace))
        }
    }

    /// False to connect anew.
    static func answer(
        _ message: SupervisorMessage, on socket: borrowing SeqpacketSocket, _ state: State
    ) throws(IOError) -> Bool {
        switch message {
        case .report:
            var counters = ProxyCounters()
            counters.connections = state.messages
            counters.descriptors = state.descriptors
            (counters.connectionsTotal, counters.bytesToTunnels) = Capture.accept(state)
            counters.tunnels = UInt32(state.held.count)
            counters.handshakesTotal = UInt64(state.listeners.count)
            _ = try socket.send(ProxyMessage.counters(counters).encode())
        case .snapshot(let version, _): _ = try socket.send(ProxyMessage.snapshotInUse(version: version).encode())
        case .retireCertificate(let text): try act(text, on: socket)
        case .giveListeners: try give(state, on: socket)
        case .drain: exit(0)
        case .closeListener(1): _ = try socket.send([255, 255, 255])
        case .closeListener(2): return false
        case .closeListener(3): usleep(600_000_000)
        default: break
        }
        return true
    }

    /// Listeners and their sockets were kept in the same order.
    static func give(_ state: State, on socket: borrowing SeqpacketSocket) throws(IOError) {
        for (listener, held) in zip(state.listeners, state.held.filter(\.isListener)) {
            let copy = DescriptorBatch(try held.descriptor.duplicate())
            _ = try socket.send(ProxyMessage.listener(listener).encode(), descriptors: copy)
        }
    }

    /// Says what a test wants to hear, named by a certificate's principal.
    static func act(_ text: String, on socket: borrowing SeqpacketSocket) throws(IOError) {
        let words = text.split(separator: " ")
        guard words.count == 2, let number = UInt32(words[1]) else { return }
        let message: ProxyMessage
        switch words[0] {
        case "unreachable":
            message = .nodeUnreachable(NodeID(rawValue: number), errno: EHOSTUNREACH, reason: .MESH_REASON_PING_TIMEOUT)
        case "reachable": message = .nodeReachable(NodeID(rawValue: number))
        case "need":
            let pool = DialPool(
                purpose: .application, networkNamespace: NetworkNamespaceID(rawValue: number), isIPv6: false)
            message = .needDialSockets(pool: pool, count: 200)
        default: return
        }
        _ = try socket.send(message.encode())
    }
}
