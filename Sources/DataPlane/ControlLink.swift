import Glibc
import LinuxIO
import MeshModel
import ProxyControl

/// The proxy's end of the socket to meshd: connects, comes back after a while when meshd goes away, sends what it can
/// and keeps what it can't, within bounds. What the messages mean is `ProxyController`'s.
final class ControlLink {
    struct Callbacks {
        /// The first message of a connection to meshd.
        var hello: () -> ProxyMessage?
        /// The connection is there; hello, and what the last meshd did not take any more, are on their way.
        var connected: () -> Void
        var received: (SupervisorMessage, consuming DescriptorBatch) -> Void
    }

    private static let pauseFirstMilliseconds: UInt64 = 100
    private static let pauseMaxMilliseconds: UInt64 = 1_000
    private static let receivesPerTurn = 64
    /// What waits for a meshd that is slow; beyond it, records are lost.
    private static let queuedBytesMax = 8 << 20

    private let path: String
    private let reactor: Reactor
    private var callbacks: Callbacks?
    private var socket: SocketBox?
    private var watch: Reactor.WatchID?
    private var queue: [Pending] = []
    private var queuedBytes = 0
    /// Records that the last meshd did not take any more.
    private var unsent: [Pending] = []
    private var pauseMilliseconds = ControlLink.pauseFirstMilliseconds
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ControlLimits.bodyBytesMax, alignment: 16)

    /// A class around the descriptor, so that a callback that ends the link doesn't close it under its caller.
    private final class SocketBox {
        let socket: SeqpacketSocket
        init(_ socket: consuming SeqpacketSocket) { self.socket = socket }
    }

    private final class Pending {
        let bytes: [UInt8]
        let descriptors: DescriptorBatch
        /// The next meshd is told too; the rest is said anew.
        let isRecord: Bool

        init(bytes: [UInt8], isRecord: Bool, descriptors: consuming DescriptorBatch) {
            self.bytes = bytes
            self.isRecord = isRecord
            self.descriptors = descriptors
        }
    }

    init(path: String, reactor: Reactor) {
        self.path = path
        self.reactor = reactor
    }

    deinit { buffer.deallocate() }

    var isConnected: Bool { socket != nil }
    /// Messages wait for a meshd that is slow.
    var isBehind: Bool { !queue.isEmpty }

    func start(_ callbacks: Callbacks) {
        self.callbacks = callbacks
        connect()
    }

    /// False when it can't be sent: the link is down or too far behind.
    @discardableResult
    func send(_ message: ProxyMessage) -> Bool {
        guard isConnected else { return false }
        for part in message.encodeParts() {
            if !isConnected, message.isRecord {
                unsent.append(Pending(bytes: part, isRecord: true, descriptors: .init()))
            } else if !send(part, isRecord: message.isRecord, .init()) {
                return false
            }
        }
        return true
    }

    /// The same with descriptors beside it.
    @discardableResult
    func send(_ message: ProxyMessage, _ descriptors: consuming DescriptorBatch) -> Bool {
        guard isConnected else { return false }
        return send(message.encode(), isRecord: false, descriptors)
    }

    // MARK: private

    /// True also for a record that is sent once meshd is back.
    private func send(_ bytes: [UInt8], isRecord: Bool, _ descriptors: consuming DescriptorBatch) -> Bool {
        guard let box = socket else { return false }
        if queue.isEmpty {
            do throws(IOError) {
                if try box.socket.send(bytes, descriptors: descriptors) { return true }
            } catch {
                disconnect()
                if isRecord { unsent.append(Pending(bytes: bytes, isRecord: true, descriptors: descriptors)) }
                return isRecord
            }
        }
        guard queuedBytes + bytes.count <= Self.queuedBytesMax else { return false }
        queue.append(Pending(bytes: bytes, isRecord: isRecord, descriptors: descriptors))
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
            let again = unsent
            unsent = []
            if let hello = callbacks?.hello() { send(hello) }
            // Before anything newer: a connection's end must not overtake its beginning. Records have no descriptors.
            for message in again {
                if !isConnected {
                    unsent.append(message)
                } else {
                    _ = send(message.bytes, isRecord: true, .init())
                }
            }
            if isConnected { callbacks?.connected() }
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
        unsent += queue.filter(\.isRecord)
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
        var isBroken = false
        do throws(IOError) {
            while sent < queue.count {
                guard try box.socket.send(queue[sent].bytes, descriptors: queue[sent].descriptors) else { break }
                queuedBytes -= queue[sent].bytes.count
                sent += 1
            }
        } catch { isBroken = true }
        // What was taken is not said again.
        queue.removeFirst(sent)
        if isBroken { return disconnect() }
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
                    // It may have held a key, which the message has a copy of.
                    defer { SecretBytes.cleanse(UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])) }
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

extension ProxyMessage {
    /// What tells of connections: it must not be lost with a meshd that is being replaced.
    fileprivate var isRecord: Bool {
        switch self {
        case .opened, .closed, .refused: true
        default: false
        }
    }
}
