import HBONE
import MeshModel

/// What an application said before its CONNECT was answered, kept so that it can be said again in another tunnel: a peer
/// that drains refuses streams that it has not looked at (RFC 9113 section 6.8). At most `TunnelSettings.earlyDataBytesMax`
/// of a stream, and nothing while the budget has no room.
struct EarlyData {
    /// Sent in the present tunnel.
    private var sent = ByteQueue()
    /// Sent in one that refused the stream: goes out again before what the application says next.
    private var again = ByteQueue()
    /// False once something went out that was not kept.
    private(set) var isComplete = true

    var hasMoreAgain: Bool { !again.isEmpty }

    mutating func keep(_ bytes: UnsafeRawPointer, _ count: Int, _ room: BudgetRoom, pool: inout ChunkPool) {
        guard isComplete else { return }
        guard room == .ample else {
            isComplete = false
            return sent.removeAll(pool: &pool)
        }
        sent.append(bytes, count: count, pool: &pool)
    }

    /// The next of what goes out again; kept once more, as this tunnel may refuse it too.
    mutating func take(into target: UnsafeMutableRawPointer, room: Int, isOpen: Bool, pool: inout ChunkPool) -> Int {
        let count = again.take(into: target, room: room, pool: &pool)
        if !isOpen { sent.append(target, count: count, pool: &pool) }
        return count
    }

    /// The stream goes to another tunnel.
    mutating func rewind() {
        sent.append(taking: &again)
        swap(&sent, &again)
    }

    mutating func removeAll(pool: inout ChunkPool) {
        sent.removeAll(pool: &pool)
        again.removeAll(pool: &pool)
    }
}

extension UnsafeMutablePointer<Stream> {
    /// Whether there is, or may be, something to send.
    var hasInput: Bool { !pointee.flags.isDisjoint(with: .input) }

    /// Keeps what is sent before the answer.
    func keepEarly(_ bytes: UnsafeRawPointer, _ count: Int) {
        let loop = pointee.loop
        let room = loop.pointee.withBudget { $0.room }
        pointee.opening?.pointee.early.keep(bytes, count, room, pool: &loop.pointee.chunks)
    }

    /// Copies what is to be said again, at most `room` bytes of it.
    func takeEarly(into target: UnsafeMutableRawPointer, room: Int) -> Int {
        guard let opening = pointee.opening else { return 0 }
        let loop = pointee.loop
        let count = opening.pointee.early.take(
            into: target, room: room, isOpen: pointee.state.isOpen, pool: &loop.pointee.chunks)
        if !opening.pointee.early.hasMoreAgain {
            pointee.flags.remove(.repeats)
            if pointee.phase == .open { freeOpening() }
        }
        return count
    }

    /// Before the stream goes to another tunnel: all that was said, its end included, is to be said again.
    func rewindEarly() {
        guard let opening = pointee.opening else { return }
        opening.pointee.early.rewind()
        if opening.pointee.early.hasMoreAgain { pointee.flags.insert(.repeats) }
        // The kernel tells an end that was read once more.
        if pointee.state.isLocalEnded { pointee.flags.insert(.readable) }
        pointee.bytesToTunnel = 0
    }

    func freeOpening() {
        if let opening = pointee.opening { pointee.loop.free(opening) }
        pointee.opening = nil
    }
}
