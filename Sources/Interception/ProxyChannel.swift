import Glibc
package import LinuxIO
import MeshModel
package import ProxyControl

/// One connection to a proxy: messages with descriptors, both ways, on meshd's reactor. What the proxy sends is
/// decoded as coming from a less trusted process; what it does not take is queued up to a bound, and a proxy that
/// stays behind it is cut off: it reconnects and is told everything again, which is cheaper than to repair a gap.
package final class ProxyChannel {
    /// Why a channel ended, for the log.
    package enum End: Equatable, CustomStringConvertible {
        case closedByProxy
        case queueFull
        case badMessage(ControlError)
        case failed(IOError)
        case closedByUs

        package var description: String {
            switch self {
            case .closedByProxy: "the proxy closed its control socket"
            case .queueFull: "the proxy does not read its control socket"
            case .badMessage(let error): "the proxy sent nonsense: \(error)"
            case .failed(let error): "the proxy's control socket failed: \(error)"
            case .closedByUs: "closed"
            }
        }
    }

    /// Keys travel in messages: no copy of them is left in freed memory.
    private final class Pending {
        private(set) var bytes: [UInt8]
        let descriptors: DescriptorBatch

        deinit { SecretBytes.cleanse(&bytes) }

        init(bytes: [UInt8], descriptors: consuming DescriptorBatch) {
            self.bytes = bytes
            self.descriptors = descriptors
        }
    }

    /// Messages and bytes that wait for the proxy.
    static let queuedMessagesMax = 4_096
    static let queuedBytesMax = 32 << 20
    /// Beyond this, what can wait (dial sockets) is better not sent.
    static let queuedMessagesBusy = 64
    private static let receivesPerTurn = 64

    private let socket: SeqpacketSocket
    private let reactor: Reactor
    private let buffer = UnsafeMutableRawBufferPointer.allocate(
        byteCount: ControlLimits.bodyBytesMax, alignment: 16)
    private var watch: Reactor.WatchID?
    private var queue: [Pending] = []
    private var queueStart = 0
    private var queuedBytes = 0
    private var isPeerGone = false
    private var onMessage: ((ProxyMessage, consuming DescriptorBatch) -> Void)?
    private var onEnd: ((End) -> Void)?

    /// Both are called on the reactor's thread; `onEnd` once, nothing after it.
    package init(
        _ socket: consuming SeqpacketSocket, reactor: Reactor,
        onMessage: @escaping (ProxyMessage, consuming DescriptorBatch) -> Void,
        onEnd: @escaping (End) -> Void
    ) throws(IOError) {
        self.socket = socket
        self.reactor = reactor
        self.onMessage = onMessage
        self.onEnd = onEnd
        watch = try reactor.watch(self.socket.descriptor) { [weak self] interest in self?.ready(interest) }
    }

    deinit {
        if let watch { reactor.remove(watch) }
        buffer.deallocate()
    }

    package var isOpen: Bool { watch != nil }
    /// Whether it is better to send nothing that can wait.
    package var isBusy: Bool { queue.count - queueStart > ProxyChannel.queuedMessagesBusy }

    /// Sends or queues; false when the channel is closed, or was closed over this message.
    @discardableResult
    package func send(_ message: SupervisorMessage, _ descriptors: consuming DescriptorBatch = .init()) -> Bool {
        guard isOpen, !isPeerGone else { return false }
        let next = Pending(bytes: message.encode(), descriptors: descriptors)
        let count = next.bytes.count
        guard count <= ControlLimits.bodyBytesMax, next.descriptors.count <= ControlLimits.descriptorsMax else {
            end(.failed(IOError("sendmsg", code: EMSGSIZE)))
            return false
        }
        if queue.isEmpty {
            do throws(IOError) {
                if try socket.send(next.bytes, descriptors: next.descriptors) { return true }
            } catch {
                sendFailed(error)
                return false
            }
        }
        guard queue.count - queueStart < ProxyChannel.queuedMessagesMax,
            queuedBytes + count <= ProxyChannel.queuedBytesMax
        else {
            end(.queueFull)
            return false
        }
        queue.append(next)
        queuedBytes += count
        if let watch { try? reactor.change(watch, to: [.read, .write]) }
        return true
    }

    package func close() { end(.closedByUs) }

    /// Takes what the process has said; what it says from now on, it is told, did not arrive.
    package func readRest() {
        if isOpen { shutdown(socket.descriptor.number, Int32(SHUT_RD)) }
        while isOpen, receive() {}
    }

    // MARK: private

    private func ready(_ interest: Reactor.Interest) {
        if interest.contains(.write) { flush() }
        if interest.contains(.read) { receive() }
    }

    private func flush() {
        while queueStart < queue.count {
            let pending = queue[queueStart]
            do throws(IOError) {
                guard try socket.send(pending.bytes, descriptors: pending.descriptors) else { return compact() }
            } catch {
                return sendFailed(error)
            }
            queuedBytes -= pending.bytes.count
            queueStart += 1
        }
        queue.removeAll()
        queueStart = 0
        if let watch { try? reactor.change(watch, to: .read) }
    }

    /// A proxy that is gone may have said something before: reading finds the end behind it.
    private func sendFailed(_ error: IOError) {
        guard error.code == EPIPE || error.code == ECONNRESET else { return end(.failed(error)) }
        isPeerGone = true
        queue.removeAll()
        queueStart = 0
        if let watch { try? reactor.change(watch, to: .read) }
    }

    private func compact() {
        guard queueStart > 256 else { return }
        queue.removeFirst(queueStart)
        queueStart = 0
    }

    /// False when nothing more is there.
    @discardableResult
    private func receive() -> Bool {
        for _ in 0..<ProxyChannel.receivesPerTurn {
            guard isOpen else { return false }
            do {
                switch try socket.receive(into: buffer) {
                case .nothing: return false
                case .closed:
                    end(.closedByProxy)
                    return false
                case .message(let count, let descriptors):
                    let message = try ProxyMessage(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                    // Descriptors that a message should not have close with the batch.
                    onMessage?(message, descriptors)
                }
            } catch let error as ControlError {
                end(.badMessage(error))
                return false
            } catch let error as IOError {
                end(.failed(error))
                return false
            } catch {
                end(.closedByProxy)
                return false
            }
        }
        return true
    }

    private func end(_ reason: End) {
        guard let watch else { return }
        reactor.remove(watch)
        self.watch = nil
        queue.removeAll()
        queueStart = 0
        shutdown(socket.descriptor.number, Int32(2))
        let onEnd = onEnd
        self.onEnd = nil
        onMessage = nil
        onEnd?(reason)
    }
}
