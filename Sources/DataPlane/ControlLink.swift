import Glibc
import LinuxIO
import MeshModel
import ProxyControl

/// The proxy's end of the socket to meshd: connects, comes back after a while when meshd goes away, sends what it can
/// and keeps what it can't, within bounds. What the messages mean is `ProxyController`'s.
final class ControlLink {
    struct Callbacks {
        /// A connection to meshd is there: say hello.
        var connected: () -> Void
        var received: (SupervisorMessage, consuming DescriptorBatch) -> Void
    }

    private static let pauseFirstMilliseconds: UInt64 = 100
    private static let pauseMaxMilliseconds: UInt64 = 5_000
    private static let receivesPerTurn = 64
    /// What waits for a meshd that is slow; beyond it, records are lost.
    private static let queuedBytesMax = 8 << 20

    private let path: String
    private let reactor: Reactor
    private var callbacks: Callbacks?
    private var socket: SocketBox?
    private var watch: Reactor.WatchID?
    private var queue: [[UInt8]] = []
    private var queuedBytes = 0
    private var pauseMilliseconds = ControlLink.pauseFirstMilliseconds
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ControlLimits.bodyBytesMax, alignment: 16)

    /// A class around the descriptor, so that a callback that ends the link doesn't close it under its caller.
    private final class SocketBox {
        let socket: SeqpacketSocket
        init(_ socket: consuming SeqpacketSocket) { self.socket = socket }
    }

    init(path: String, reactor: Reactor) {
        self.path = path
        self.reactor = reactor
    }

    deinit { buffer.deallocate() }

    var isConnected: Bool { socket != nil }

    func start(_ callbacks: Callbacks) {
        self.callbacks = callbacks
        connect()
    }

    /// False when it can't be sent: the link is down or too far behind.
    @discardableResult
    func send(_ message: ProxyMessage) -> Bool {
        guard socket != nil else { return false }
        for part in message.encodeParts() {
            guard send(part) else { return false }
        }
        return true
    }

    // MARK: private

    private func send(_ bytes: [UInt8]) -> Bool {
        guard let box = socket else { return false }
        if queue.isEmpty {
            do throws(IOError) {
                if try box.socket.send(bytes) { return true }
            } catch {
                disconnect()
                return false
            }
        }
        guard queuedBytes + bytes.count <= Self.queuedBytesMax else { return false }
        queue.append(bytes)
        queuedBytes += bytes.count
        if let watch { try? reactor.change(watch, to: [.read, .write]) }
        return true
    }

    private func connect() {
        do throws(IOError) {
            let box = SocketBox(try SeqpacketSocket.connect(path: path))
            watch = try reactor.watch(box.socket.descriptor) { [weak self] interest in self?.ready(interest) }
            socket = box
            pauseMilliseconds = Self.pauseFirstMilliseconds
            callbacks?.connected()
        } catch {
            _ = reactor.schedule(afterMilliseconds: pauseMilliseconds) { [weak self] in self?.connect() }
            pauseMilliseconds = min(pauseMilliseconds * 2, Self.pauseMaxMilliseconds)
        }
    }

    private func disconnect() {
        guard socket != nil else { return }
        if let watch { reactor.remove(watch) }
        watch = nil
        socket = nil
        queue = []
        queuedBytes = 0
        _ = reactor.schedule(afterMilliseconds: pauseMilliseconds) { [weak self] in self?.connect() }
    }

    private func ready(_ interest: Reactor.Interest) {
        if interest.contains(.write) { flush() }
        if interest.contains(.read) { receive() }
    }

    private func flush() {
        guard let box = socket else { return }
        var sent = 0
        do throws(IOError) {
            while sent < queue.count {
                guard try box.socket.send(queue[sent]) else { break }
                queuedBytes -= queue[sent].count
                sent += 1
            }
        } catch {
            return disconnect()
        }
        queue.removeFirst(sent)
        if queue.isEmpty, let watch { try? reactor.change(watch, to: .read) }
    }

    private func receive() {
        for _ in 0..<Self.receivesPerTurn {
            guard let box = socket else { return }
            do {
                switch try box.socket.receive(into: buffer) {
                case .nothing: return
                case .closed: return disconnect()
                case .message(let count, let descriptors):
                    let message = try SupervisorMessage(
                        decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                    callbacks?.received(message, descriptors)
                }
            } catch {
                // A meshd that speaks another language: start over with it.
                return disconnect()
            }
        }
    }
}
