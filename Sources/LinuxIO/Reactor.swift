import CLinux
import Glibc

/// The control side's event loop: one thread, level-triggered readiness, timers on CLOCK_BOOTTIME. meshd runs on one;
/// the proxy's byte path does not use it.
///
/// Callbacks run on the thread that calls `run`, and may add and remove watches, their own included.
package final class Reactor {
    package struct Interest: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }
        package static let read = Interest(rawValue: EPOLLIN.rawValue | EPOLLRDHUP.rawValue)
        package static let write = Interest(rawValue: EPOLLOUT.rawValue)
        /// Each change once, instead of as long as it lasts: what is only a wake-up need not be read.
        package static let edges = Interest(rawValue: 1 << 31)
    }

    /// Names a watch; never reused.
    package struct WatchID: Hashable, Sendable {
        fileprivate var value: UInt64
    }

    package struct TimerID: Hashable, Sendable {
        fileprivate var value: UInt64
    }

    private struct Watch {
        var descriptor: Int32
        var body: (Interest) -> Void
    }

    private struct Timer {
        var deadline: UInt64
        var interval: UInt64?
        var body: () -> Void
    }

    private let epoll: FileDescriptor
    private var watches: [UInt64: Watch] = [:]
    private var timers: [UInt64: Timer] = [:]
    private var nextID: UInt64 = 1
    private var isStopped = false
    /// Memory of `turn`, kept between turns.
    private var ready: [(id: UInt64, mask: UInt32)] = []

    package init() throws(IOError) {
        let number = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard number >= 0 else { throw .last("epoll_create1") }
        epoll = FileDescriptor(owning: number)
    }

    /// Calls `body` while `descriptor` is ready. The caller keeps the descriptor open until `remove`.
    /// Errors and hang-ups are reported as `read`.
    package func watch(
        _ descriptor: borrowing FileDescriptor, for interest: Interest = .read, body: @escaping (Interest) -> Void
    ) throws(IOError) -> WatchID {
        let id = takeID()
        guard clinux_epoll_control(epoll.number, EPOLL_CTL_ADD, descriptor.number, interest.rawValue, id) == 0 else {
            throw .last("epoll_ctl")
        }
        watches[id] = Watch(descriptor: descriptor.number, body: body)
        return WatchID(value: id)
    }

    package func change(_ id: WatchID, to interest: Interest) throws(IOError) {
        guard let watch = watches[id.value] else { return }
        guard clinux_epoll_control(epoll.number, EPOLL_CTL_MOD, watch.descriptor, interest.rawValue, id.value) == 0
        else { throw .last("epoll_ctl") }
    }

    package func remove(_ id: WatchID) {
        guard let watch = watches.removeValue(forKey: id.value) else { return }
        _ = clinux_epoll_control(epoll.number, EPOLL_CTL_DEL, watch.descriptor, 0, 0)
    }

    package func schedule(
        afterMilliseconds delay: UInt64, every interval: UInt64? = nil, body: @escaping () -> Void
    ) -> TimerID {
        let id = takeID()
        timers[id] = Timer(
            deadline: BootClock.nanoseconds() + delay * 1_000_000, interval: interval.map { $0 * 1_000_000 },
            body: body)
        return TimerID(value: id)
    }

    package func cancel(_ id: TimerID) { timers[id.value] = nil }

    package func stop() { isStopped = true }

    /// Serves until `stop`.
    package func run() throws(IOError) {
        isStopped = false
        while !isStopped { try turn() }
    }

    /// Waits for at most `limitMilliseconds` and serves what is ready then.
    package func turn(limitMilliseconds: Int32 = -1) throws(IOError) {
        // Taken out: a callback may have a turn of its own.
        var ready: [(id: UInt64, mask: UInt32)] = []
        swap(&ready, &self.ready)
        defer {
            ready.removeAll(keepingCapacity: true)
            self.ready = ready
        }
        var failure: IOError?
        withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 64) { events in
            let count = epoll_wait(
                epoll.number, events.baseAddress, Int32(events.count), waitMilliseconds(limit: limitMilliseconds))
            if count < 0 {
                if errno != EINTR { failure = .last("epoll_wait") }
                return
            }
            for index in 0..<Int(count) {
                let event = events.baseAddress! + index
                ready.append((clinux_event_data(event), clinux_event_mask(event)))
            }
        }
        if let failure { throw failure }
        for event in ready {
            guard let watch = watches[event.id] else { continue }
            var interest: Interest = []
            if event.mask & ~EPOLLOUT.rawValue != 0 { interest.insert(.read) }
            if event.mask & EPOLLOUT.rawValue != 0 { interest.insert(.write) }
            watch.body(interest)
        }
        runTimers()
    }

    // MARK: private

    private func takeID() -> UInt64 {
        defer { nextID += 1 }
        return nextID
    }

    private func waitMilliseconds(limit: Int32) -> Int32 {
        guard let next = nextDeadline else { return limit }
        let now = BootClock.nanoseconds()
        let wait = next <= now ? 0 : Int32(min((next - now + 999_999) / 1_000_000, 60_000))
        return limit < 0 ? wait : min(wait, limit)
    }

    /// Found without making a list: it is looked for twice a turn.
    private var nextDeadline: UInt64? {
        var next: UInt64?
        for timer in timers.values where timer.deadline < next ?? .max { next = timer.deadline }
        return next
    }

    private func runTimers() {
        guard let next = nextDeadline else { return }
        let now = BootClock.nanoseconds()
        guard next <= now else { return }
        let due = timers.filter { $0.value.deadline <= now }.sorted { $0.value.deadline < $1.value.deadline }
        for (id, timer) in due where timers[id] != nil {
            if let interval = timer.interval {
                timers[id]?.deadline = now + interval
            } else {
                timers[id] = nil
            }
            timer.body()
        }
    }
}
