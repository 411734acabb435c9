import CLinux
import CMeshABI
import Glibc
import MeshModel
import ProxyControl
import Synchronization

/// What the control thread, or another loop, tells a loop.
enum LoopMessage: Sendable {
    case settings(LoopSettings)
    case snapshot(Snapshot)
    case identities(IdentitySet)
    /// The descriptor is the loop's from now on.
    case listener(ListenerDescription, descriptor: Int32)
    case closeListener(id: UInt32)
    case dialSocketsArrived
    /// An accepted connection whose tunnel this loop has.
    case handOver(descriptor: Int32, captured: mesh_socket)
    case workloadGone(WorkloadID)
    case networkNamespaceGone(NetworkNamespaceID)
    case nodeReachable(NodeID)
    /// meshd knows the addresses that an answer holds: see `NameAdmission`.
    case nameAdmitted(token: UInt64)
    /// `listenersStay`: another process serves the same sockets already.
    case drain(deadline: UInt64, listenersStay: Bool)
    /// Report every listener, its socket beside it.
    case giveListeners
    case report
    /// A meshd is there that has not heard of the connections that are open.
    case announce
    case stop
}

/// Messages to one loop from other threads: a locked array and an eventfd. Connection set-up and control only.
final class Mailbox: Sendable {
    let wake: Int32
    private let messages = Mutex<[LoopMessage]>([])

    init() { wake = clinux_eventfd() }
    deinit { _ = close(wake) }

    func post(_ message: LoopMessage) {
        let isFirst = messages.withLock { messages in
            messages.append(message)
            return messages.count == 1
        }
        guard isFirst else { return }
        var one: UInt64 = 1
        _ = write(wake, &one, 8)
    }

    func takeAll() -> [LoopMessage] {
        var count: UInt64 = 0
        _ = read(wake, &count, 8)
        return messages.withLock { messages in
            let all = messages
            messages = []
            return all
        }
    }
}
