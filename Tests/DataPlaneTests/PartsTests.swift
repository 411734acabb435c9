import CLinux
import Glibc
import HBONE
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// The parts that loops are made of, one by one.
@Suite struct PartsTests {
    @Test func byteQueueKeepsOrderAndGivesMemoryBack() {
        let budget = MemoryBudget(limit: 1 << 30)
        var pool = ChunkPool(budget: budget)
        var queue = ByteQueue()
        var random = SplitMix(state: 7)
        var expected: [UInt8] = []
        var got: [UInt8] = []
        var next: UInt8 = 0
        for _ in 0..<400 {
            let bytes = (0..<Int(random.next() % 40_000)).map { _ in
                next &+= 1
                return next
            }
            bytes.withUnsafeBytes { if let base = $0.baseAddress { queue.append(base, count: $0.count, pool: &pool) } }
            expected += bytes
            var out = [UInt8](repeating: 0, count: Int(random.next() % 50_000))
            let count = out.withUnsafeMutableBytes { out in
                out.baseAddress.map { queue.take(into: $0, room: out.count, pool: &pool) } ?? 0
            }
            got += out[..<count]
            #expect(budget.held >= queue.count)
        }
        var rest = [UInt8](repeating: 0, count: queue.count)
        let count = rest.withUnsafeMutableBytes { rest in
            rest.baseAddress.map { queue.take(into: $0, room: rest.count, pool: &pool) } ?? 0
        }
        got += rest[..<count]
        #expect(got == expected)
        #expect(queue.isEmpty && budget.held == 0)
    }

    @Test func windowsStopGrowingBeforeTheyCouldFillTheBudget() {
        let budget = MemoryBudget(limit: 64 << 20)
        var windows: [ReceiveWindow] = []
        // Every reader keeps up, so that nothing is held: only what was granted can stop the growth.
        for _ in 0..<100 {
            var window = ReceiveWindow()
            _ = window.start(budget.room)
            for _ in 0..<20 {
                let (before, count) = (window.grown, window.remaining)
                #expect(window.receive(count) == nil)
                window.consume(count)
                _ = window.credit(budget.roomToGrow)
                budget.grow(by: window.grown - before)
            }
            windows.append(window)
        }
        #expect(windows[0].size == ReceiveWindow.sizeMax && windows[99].size == ReceiveWindow.sizeAtStart)
        #expect(windows.reduce(0) { $0 + $1.grown } <= 36 << 20)
        for window in windows { budget.shrink(by: window.grown) }
        #expect(budget.roomToGrow == .ample)
    }

    @Test func timersFireInTimeAndNeverEarly() {
        var wheel = TimerWheel(now: 1_000_000_000)
        var random = SplitMix(state: 3)
        let owner = UnsafeMutableRawPointer.allocate(byteCount: 8 * 2_000, alignment: 8)
        defer { owner.deallocate() }
        var deadlines: [UnsafeMutableRawPointer: UInt64] = [:]
        for index in 0..<2_000 {
            let deadline = 1_000_000_000 + random.next() % 60_000_000_000
            let node = wheel.arm(deadline: deadline, owner: owner + 8 * index)
            if index % 5 == 0 { wheel.disarm(node) } else { deadlines[owner + 8 * index] = deadline }
        }
        var now: UInt64 = 1_000_000_000
        while !deadlines.isEmpty && now < 70_000_000_000 {
            guard let wait = wheel.waitMilliseconds(now: now) else { break }
            now += UInt64(max(wait, 1)) * 1_000_000
            while let fired = wheel.popDue(now: now) {
                guard let deadline = deadlines.removeValue(forKey: fired) else {
                    Issue.record("a timer that was disarmed or fired twice")
                    continue
                }
                #expect(deadline <= now && now - deadline < 80_000_000)
            }
        }
        #expect(deadlines.isEmpty && wheel.isEmpty)
    }

    @Test func aTimerThatIsArmedLaterCanBeTheNext() {
        let start: UInt64 = 1_000_000_000
        var wheel = TimerWheel(now: start)
        var random = SplitMix(state: 7)
        let owner = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
        defer { owner.deallocate() }
        var armed: [(node: TimerPointer, deadline: UInt64)] = []
        var now = start
        for _ in 0..<5_000 {
            if armed.count < 3 || random.next() % 3 == 0 {
                // Some of them further away than a turn of the wheel, some past already.
                let deadline = now - 50_000_000 + random.next() % (1 << (20 + random.next() % 16))
                armed.append((wheel.arm(deadline: deadline, owner: owner), deadline))
            } else if random.next() % 2 == 0 {
                wheel.disarm(armed.remove(at: Int(random.next() % UInt64(armed.count))).node)
            } else {
                now += random.next() % 300_000_000
                while wheel.popDue(now: now) != nil {}
                armed.removeAll { $0.deadline <= now }
            }
            guard let next = armed.map(\.deadline).min() else {
                #expect(wheel.waitMilliseconds(now: now) == nil)
                continue
            }
            let wait = UInt64(wheel.waitMilliseconds(now: now) ?? 1_000_000) * 1_000_000
            #expect(now + wait <= max(next, now) + 70_000_000)
        }
    }

    @Test func timersSurviveALongSleep() {
        var wheel = TimerWheel(now: 0)
        let owner = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
        defer { owner.deallocate() }
        for second in 1...100 { _ = wheel.arm(deadline: UInt64(second) * 1_000_000_000, owner: owner) }
        var fired = 0
        while wheel.popDue(now: 3_600_000_000_000) != nil { fired += 1 }
        #expect(fired == 100)
    }

    private func streams(_ count: Int, _ body: ([StreamPointer]) -> Void) {
        let loop = UnsafeMutablePointer<LoopState>.allocate(capacity: 1)
        defer { loop.deallocate() }
        let memory = StreamPointer.allocate(capacity: count)
        defer { memory.deallocate() }
        for index in 0..<count {
            (memory + index).initialize(
                to: Stream(.open, descriptor: -1, state: .client(), loop: loop, now: 0))
            memory[index].id = UInt32(index) * 2 + 1
        }
        body((0..<count).map { memory + $0 })
    }

    @Test func tableFindsWhatIsInItThroughAnyHistory() {
        streams(3_000) { streams in
            var table = StreamTable()
            var inside: Set<UInt32> = []
            var random = SplitMix(state: 11)
            for _ in 0..<30_000 {
                let stream = streams[Int(random.next() % 3_000)]
                if inside.remove(stream.pointee.id) != nil {
                    table.remove(stream)
                } else {
                    table.insert(stream)
                    inside.insert(stream.pointee.id)
                }
            }
            for stream in streams {
                #expect((table.find(stream.pointee.id) == stream) == inside.contains(stream.pointee.id))
            }
            #expect(table.count == inside.count)
            table.free()
        }
    }

    @Test func shortStreamsGoFirstAndBulkIsNotStarved() {
        streams(60) { streams in
            var scheduler = StreamScheduler()
            let bulk = streams[0]
            scheduler.add(bulk)
            // Its first turn as a short one makes it bulk.
            #expect(scheduler.next(quantum: 65_536) == bulk)
            scheduler.served(bulk, bytes: 16_384, hasMore: true)
            for stream in streams[1...] { scheduler.add(stream) }
            var order: [StreamPointer] = []
            for _ in 0..<60 {
                guard let stream = scheduler.next(quantum: 65_536) else { break }
                order.append(stream)
                scheduler.served(stream, bytes: stream == bulk ? 65_536 : 16_384, hasMore: stream == bulk)
            }
            #expect(order.first != bulk)
            let place = order.firstIndex(of: bulk)
            // Its own first turn counts among the short ones.
            #expect(place == StreamScheduler.freshBytesMax / 16_384 - 1)
        }
    }

    @Test func bulkStreamsShareEvenly() {
        streams(4) { streams in
            var scheduler = StreamScheduler()
            var sent: [StreamPointer: Int] = [:]
            for stream in streams { scheduler.add(stream) }
            for _ in 0..<4_000 {
                guard let stream = scheduler.next(quantum: 20_000) else { break }
                // Reads are never as long as was allowed: the rest is kept as deficit.
                let bytes = min(Int(stream.pointee.deficit), 7_000 + Int(stream.pointee.id) * 1_000)
                sent[stream, default: 0] += max(bytes, 0)
                scheduler.served(stream, bytes: max(bytes, 0), hasMore: true)
            }
            let least = sent.values.min() ?? 0
            #expect(least > 0)
            scheduler.remove(streams[2])
            #expect(scheduler.count == 3)
        }
    }

    @Test func directoryHandsAKeyToItsOwnerUntilThatIsBusy() {
        let directory = TunnelDirectory()
        let key = TunnelKey(
            client: PrincipalID(rawValue: 1), server: PrincipalID(rawValue: 2), node: NodeID(rawValue: 3))
        #expect(directory.owner(of: key, for: 0) == 0)
        #expect(directory.owner(of: key, for: 1) == 0)
        directory.setBusy(key, true, loop: 0)
        #expect(directory.owner(of: key, for: 1) == 1)
        #expect(directory.owner(of: key, for: 0) == 0)
        directory.leave(key, loop: 0)
        #expect(directory.owner(of: key, for: 0) == 1)
        directory.leave(key, loop: 1)
        #expect(directory.owner(of: key, for: 2) == 2)
    }

    @Test func dialStoreAsksOnceAndAgainWhenNothingComes() {
        let store = DialSockets(descriptors: DescriptorCount(limit: 10_000))
        let pool = DialPool(purpose: .application, networkNamespace: NetworkNamespaceID(rawValue: 4), isIPv6: false)
        #expect(store.take(pool, now: 1).need == 32)
        #expect(store.take(pool, now: 2).need == 0)
        #expect(store.overdue(now: 500_000_000).isEmpty)
        #expect(store.overdue(now: 2_000_000_000).first?.count == 32)
        store.add((0..<32).map { _ in dup(0) }, to: pool)
        var taken = 0
        while case (.socket(let descriptor), _) = store.take(pool, now: 3_000_000_000) {
            close(descriptor)
            taken += 1
        }
        #expect(taken == 32)
    }

    @Test func idleStreamIsSmall() {
        #expect(MemoryLayout<Stream>.stride <= 376)
        #expect(MemoryLayout<RelayEnd>.stride <= 248)
    }
}
