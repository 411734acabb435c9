import CMeshABI
import HBONE
import HTTP2Framing
import Testing

@Suite struct WindowTests {
    @Test func aSendWindowSpendsWhatItIsGranted() {
        var window = SendWindow(initial: 100)
        window.spend(100)
        #expect(window.available == 0)
        #expect(window.grant(7) == nil && window.available == 7)
        #expect(window.adjust(by: -50) == nil && window.available == 0)
        #expect(window.grant(43) == nil && window.available == 0)
        #expect(window.grant(1) == nil && window.available == 1)
    }

    @Test func aSendWindowNeverPassesTwoGiB() {
        var window = SendWindow(initial: 1)
        #expect(window.grant(0x7fff_fffe) == nil)
        #expect(window.available == 0x7fff_ffff)
        #expect(window.grant(1) == .flowControl && window.available == 0x7fff_ffff)
        #expect(window.adjust(by: 1) == .flowControl)
        #expect(window.adjust(by: -0x7fff_ffff) == nil && window.available == 0)
        #expect(SendWindow(initial: .max).available == 0x7fff_ffff)
    }

    @Test func loweredInitialWindowsNeverTrap() {
        // RFC 9113 section 6.9.2: the lowest that a lawful peer can bring a window to.
        var window = SendWindow(initial: 0x7fff_ffff)
        window.spend(0x7fff_ffff)
        #expect(window.adjust(by: -0x7fff_ffff) == nil && window.available == 0)
        #expect(window.adjust(by: 0x7fff_ffff) == nil && window.available == 0)
        #expect(window.grant(5) == nil && window.available == 5)
    }

    @Test func aReceiveWindowStartsAt64KiBAndIsRaisedWhereThereIsRoom() {
        for (room, expected) in [(BudgetRoom.ample, UInt32(196_608)), (.scarce, 0), (.none, 0)] {
            var window = ReceiveWindow()
            #expect(window.remaining == 65_536)
            #expect(window.start(room) == expected && window.remaining == 65_536 + expected)
            #expect(window.start(room) == 0)
        }
    }

    @Test func aPeerThatSendsTooMuchIsFound() {
        var window = ReceiveWindow()
        #expect(window.receive(65_536) == nil)
        #expect(window.receive(1) == .flowControl)
        #expect(HTTP2Fault.flowControl.reason == .MESH_REASON_FLOW_CONTROL_ERROR)
        var connection = ConnectionReceiveWindow()
        #expect(connection.receive(65_535) == nil)
        #expect(connection.receive(1) == .flowControl)
    }

    @Test func aWindowDoublesWhileTheReaderKeepsUp() {
        var window = ReceiveWindow()
        _ = window.start(.ample)
        var sizes: Set<UInt32> = []
        for _ in 0..<10_000 {
            #expect(window.receive(16_000) == nil)
            window.consume(16_000)
            _ = window.credit(.ample)
            sizes.insert(window.size)
        }
        #expect(sizes.sorted() == [262_144, 524_288, 1_048_576, 2_097_152, 4_194_304])
    }

    @Test func aWindowStaysWhereItsReaderIsSlowOrTheBudgetScarce() {
        var slow = ReceiveWindow()
        _ = slow.start(.ample)
        _ = slow.receive(200_000)
        for _ in 0..<1_000 {
            _ = slow.receive(min(slow.remaining, 8_000))
            slow.consume(min(slow.held, 8_000))
            _ = slow.credit(.ample)
            #expect(slow.size == 262_144)
            _ = slow.receive(slow.remaining)
        }
        var scarce = ReceiveWindow()
        for _ in 0..<1_000 {
            _ = scarce.receive(16_000)
            scarce.consume(16_000)
            _ = scarce.credit(.scarce)
        }
        #expect(scarce.size == 65_536)
    }

    @Test func withoutRoomNoCreditIsGivenAndNoneIsLost() {
        var window = ReceiveWindow()
        _ = window.receive(60_000)
        window.consume(60_000)
        #expect(window.credit(.none) == 0 && window.remaining == 5_536 && window.owed == 60_000)
        #expect(window.credit(.scarce) == 60_000 && window.remaining == 65_536)
    }

    /// One stream: what the peer may send, what is under way, what is held and what is owed are always the window.
    @Test(arguments: 0..<40)
    func noSequenceOfEventsLosesOrInventsStreamCredit(_ round: Int) {
        var random = SystemRandomNumberGenerator()
        var window = ReceiveWindow()
        var peer = SendWindow(initial: ReceiveWindow.sizeInitial)
        var dataUnderWay: UInt32 = 0
        var creditUnderWay = window.start(round % 3 == 0 ? .scarce : .ample)
        for _ in 0..<2_000 {
            switch Int.random(in: 0...4, using: &random) {
            case 0:
                let count = Int.random(in: 0...min(peer.available, 100_000))
                peer.spend(count)
                dataUnderWay += UInt32(count)
            case 1:
                let count = UInt32.random(in: 0...dataUnderWay)
                #expect(window.receive(count) == nil)
                dataUnderWay -= count
            case 2: window.consume(UInt32.random(in: 0...window.held))
            case 3: creditUnderWay += window.credit([.ample, .scarce, .none].randomElement() ?? .none)
            default:
                #expect(peer.grant(creditUnderWay) == nil)
                creditUnderWay = 0
            }
            #expect(UInt32(peer.available) + dataUnderWay + creditUnderWay == window.remaining)
            #expect(window.remaining + window.held + window.owed == window.size)
            #expect(window.size <= ReceiveWindow.sizeMax)
        }
        _ = window.receive(dataUnderWay)
        window.consume(window.held)
        let rest = window.credit(.scarce)
        #expect(peer.grant(creditUnderWay + rest) == nil)
        #expect(UInt32(peer.available) > window.size / 4 * 3, "the peer is stalled with nothing held")
    }

    /// A tunnel whose streams open, stall and die with bytes held: the connection's credit all comes back.
    @Test(arguments: 0..<20)
    func dyingStreamsNeverStallTheTunnel(_ round: Int) {
        var random = SystemRandomNumberGenerator()
        var connection = ConnectionReceiveWindow(size: 1 << 20)
        var peer = SendWindow(initial: SendWindow.connectionInitial)
        #expect(peer.grant(connection.start()) == nil)
        var streams: [UInt32: (window: ReceiveWindow, peer: SendWindow)] = [:]
        var underWay: [(streamID: UInt32, count: UInt32)] = []
        for step in 0..<5_000 {
            let streamID = UInt32.random(in: 0..<20, using: &random) * 2 + 1
            switch Int.random(in: 0...5, using: &random) {
            case 0:
                streams[streamID] = (ReceiveWindow(), SendWindow(initial: ReceiveWindow.sizeInitial))
            case 1:
                // The stream dies with what it holds; DATA under way to it is still to come.
                streams[streamID] = nil
            case 2:
                guard var stream = streams[streamID] else { continue }
                let count = Int.random(in: 0...min(stream.peer.available, peer.available, 16_384))
                stream.peer.spend(count)
                peer.spend(count)
                streams[streamID] = stream
                underWay.append((streamID, UInt32(count)))
            case 3, 4:
                guard !underWay.isEmpty else { continue }
                let (streamID, count) = underWay.removeFirst()
                #expect(connection.receive(count) == nil, "step \(step)")
                // A later stream of the same number stands for "unknown stream": the bytes are dropped.
                if streams[streamID]?.window.receive(count) != nil { continue }
            default:
                #expect(peer.grant(connection.credit()) == nil)
            }
            let inFlight = underWay.reduce(UInt32(0)) { $0 + $1.count }
            #expect(connection.remaining + connection.owed == 1 << 20)
            #expect(UInt32(peer.available) + inFlight == connection.remaining)
        }
        for (_, count) in underWay { #expect(connection.receive(count) == nil) }
        #expect(peer.grant(connection.credit()) == nil)
        #expect(peer.available > (1 << 20) / 8 * 7)
    }

    @Test func sendWindowsFollowSettingsLikeUnboundedArithmetic() throws {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<200 {
            var settings = PeerSettings()
            var window = SendWindow(initial: settings.initialWindowSize)
            var model = Int64(settings.initialWindowSize)
            for _ in 0..<200 {
                switch Int.random(in: 0...2, using: &random) {
                case 0:
                    let count = Int.random(in: 0...window.available)
                    window.spend(count)
                    model -= Int64(count)
                case 1:
                    let increment = UInt32.random(in: 1...0x0fff_ffff, using: &random)
                    let fault = window.grant(increment)
                    #expect((fault == nil) == (model + Int64(increment) <= 0x7fff_ffff))
                    if fault == nil { model += Int64(increment) }
                default:
                    let size = UInt32.random(in: 0...0x7fff_ffff, using: &random)
                    let before = settings
                    let change = try settings.apply(entries: [Setting(.initialWindowSize, size)])
                    let fault = window.adjust(by: change.windowDelta)
                    #expect((fault == nil) == (model + change.windowDelta <= 0x7fff_ffff))
                    if fault == nil { model += change.windowDelta } else { settings = before }
                }
                #expect(Int64(window.available) == max(0, model))
            }
        }
    }
}
