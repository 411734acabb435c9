import CLinux
import CMeshABI
import Glibc
import LinuxIO
import MeshModel

// A turn of the loop: wait, note what is ready, run timers, then serve every tunnel that has something to do: read all
// that came, write once. Records that ended are freed last, because events of the same batch may point to them.

extension UnsafeMutablePointer<LoopState> {
    /// Serves until the mailbox says stop.
    func run() {
        watch(mailboxDescriptor, .input, nil)
        while !pointee.isStopped { turn() }
        closeAll()
    }

    private var mailboxDescriptor: Int32 { pointee.mailbox.wake }

    func watch(_ descriptor: Int32, _ events: SocketEvents, _ record: UnsafeMutableRawPointer?) {
        _ = clinux_epoll_control(
            pointee.epoll, EPOLL_CTL_ADD, descriptor, events.rawValue, UInt64(UInt(bitPattern: record)))
    }

    /// For sockets of connections: every change is told once.
    func watchEdges(_ descriptor: Int32, _ record: UnsafeMutableRawPointer) {
        watch(descriptor, .connection, record)
    }

    func unwatch(_ descriptor: Int32) {
        _ = clinux_epoll_control(pointee.epoll, EPOLL_CTL_DEL, descriptor, 0, 0)
    }

    func turn() {
        wait()
        while let owner = pointee.timers.popDue(now: pointee.now) { timerFired(owner) }
        if pointee.now >= pointee.nextBeat { beat() }
        if pointee.now >= pointee.nextSweep { sweep() }
        serveTunnels()
        if !pointee.busyRelays.isEmpty { serveRelays() }
        reap()
        flushReports()
    }

    // MARK: parts of a turn

    private func wait() {
        let events = pointee.events
        let count = epoll_wait(pointee.epoll, events.baseAddress, Int32(events.count), waitMilliseconds)
        pointee.now = BootClock.nanoseconds()
        guard count > 0, let base = events.baseAddress else { return }
        for index in 0..<Int(count) {
            dispatch(clinux_event_data(base + index), SocketEvents(rawValue: clinux_event_mask(base + index)))
        }
    }

    private var waitMilliseconds: Int32 {
        if pointee.dirty != nil || !pointee.busyRelays.isEmpty { return 0 }
        let next = min(pointee.nextSweep, pointee.nextBeat)
        let now = pointee.now
        let wait = next <= now ? 0 : Int32(truncatingIfNeeded: min((next - now) / 1_000_000 + 1, 10_000))
        guard let timer = pointee.timers.waitMilliseconds(now: now) else { return wait }
        return min(wait, timer)
    }

    private func dispatch(_ data: UInt64, _ events: SocketEvents) {
        guard let record = UnsafeMutableRawPointer(bitPattern: UInt(data)) else { return readMailbox() }
        switch record.load(as: ObjectKind.self) {
        case .listener: serve(record.assumingMemoryBound(to: Listener.self))
        case .tunnel: record.assumingMemoryBound(to: Tunnel.self).socketReady(events)
        case .stream: record.assumingMemoryBound(to: Stream.self).socketReady(events)
        case .relayEnd: record.assumingMemoryBound(to: RelayEnd.self).socketReady(events)
        case .mailbox: readMailbox()
        case .forwardedQuestion: record.assumingMemoryBound(to: ForwardedQuestion.self).socketReady()
        case .conversationEnd: record.assumingMemoryBound(to: ConversationEnd.self).socketReady(events)
        }
    }

    /// The timer has left the wheel: its owner forgets it first.
    private func timerFired(_ record: UnsafeMutableRawPointer) {
        switch record.load(as: ObjectKind.self) {
        case .tunnel: record.assumingMemoryBound(to: Tunnel.self).timerFired()
        case .stream: record.assumingMemoryBound(to: Stream.self).timerFired()
        case .relayEnd: record.assumingMemoryBound(to: RelayEnd.self).timerFired()
        case .forwardedQuestion: record.assumingMemoryBound(to: ForwardedQuestion.self).timerFired()
        case .conversationEnd: record.assumingMemoryBound(to: ConversationEnd.self).timerFired()
        case .listener, .mailbox: break
        }
    }

    private func serveTunnels() {
        var next = pointee.dirty
        pointee.dirty = nil
        while let tunnel = next {
            next = tunnel.pointee.dirtyNext
            tunnel.pointee.dirtyNext = nil
            tunnel.pointee.flags.remove(.dirty)
            tunnel.serve()
        }
    }

    private func reap() {
        while let stream = pointee.endedStreams.popLast() {
            stream.deinitialize(count: 1)
            pointee.streams.give(stream)
        }
        while let tunnel = pointee.endedTunnels.popLast() {
            // It may have been marked once more on its way out.
            if tunnel.pointee.flags.contains(.dirty) { forgetDirty(tunnel) }
            tunnel.deinitialize(count: 1)
            pointee.tunnels.give(tunnel)
        }
        while let end = pointee.endedRelayEnds.popLast() {
            end.deinitialize(count: 1)
            pointee.relayEnds.give(end)
        }
        reapNames()
        while let listener = pointee.endedListeners.popLast() {
            listener.deinitialize(count: 1)
            listener.deallocate()
        }
    }

    private func forgetDirty(_ ended: TunnelPointer) {
        guard pointee.dirty != ended else {
            pointee.dirty = ended.pointee.dirtyNext
            return
        }
        var next = pointee.dirty
        while let tunnel = next {
            if tunnel.pointee.dirtyNext == ended { tunnel.pointee.dirtyNext = ended.pointee.dirtyNext }
            next = tunnel.pointee.dirtyNext
        }
    }

    private func flushReports() {
        guard !pointee.reports.isEmpty else { return }
        pointee.shared.reports.post(pointee.reports)
        pointee.reports.removeAll(keepingCapacity: pointee.reports.capacity <= 4_096)
    }

    /// The end of the loop: nothing is finished any more, everything is reset.
    private func closeAll() {
        closeEverything(.MESH_REASON_DRAIN_DEADLINE)
        for listener in pointee.listeners { close(listener) }
        pointee.listeners = []
        reap()
        flushReports()
    }
}

/// A loop and its thread.
final class EventLoop: Sendable {
    let index: Int
    let mailbox = Mailbox()
    private let shared: ProxyShared
    private let settings: LoopSettings

    init(index: Int, shared: ProxyShared, settings: LoopSettings) {
        self.index = index
        self.shared = shared
        self.settings = settings
        shared.addLoop(mailbox)
    }

    /// Starts the thread; nil, or why there is none. It ends after `LoopMessage.stop`.
    func start() -> IOError? {
        var thread = pthread_t()
        let box = Unmanaged.passRetained(self)
        let code = pthread_create(&thread, nil, eventLoopMain, box.toOpaque())
        guard code == 0 else {
            box.release()
            return IOError("pthread_create", code: code)
        }
        pthread_detach(thread)
        return nil
    }

    fileprivate func main() {
        let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        precondition(epoll >= 0, "a loop can't work without epoll")
        let loop = LoopPointer.allocate(capacity: 1)
        loop.initialize(
            to: LoopState(
                index: index, epoll: epoll, shared: shared, mailbox: mailbox, settings: settings,
                now: BootClock.nanoseconds()))
        loop.run()
        loop.deinitialize(count: 1)
        loop.deallocate()
    }
}

/// At top level: a closure would take over the isolation of where it is written.
private func eventLoopMain(_ box: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let box else { return nil }
    Unmanaged<EventLoop>.fromOpaque(box).takeRetainedValue().main()
    return nil
}
