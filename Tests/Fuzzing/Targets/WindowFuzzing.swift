import CMeshABI
import HBONE
import HTTP2Framing

/// Input: steps of a tunnel with one stream at a time. Credit is neither lost nor invented, windows never pass their
/// maximum, and a stream that is dead stays so.
func fuzzWindows(_ input: UnsafeRawBufferPointer) {
    var reader = FuzzInput(input)
    var model = TunnelModel()
    while !reader.isEmpty { model.step(reader.byte(), reader.word()) }
}

private struct TunnelModel {
    private var settings = PeerSettings()
    private var connection = ConnectionReceiveWindow()
    private var window = ReceiveWindow()
    private var send = SendWindow(initial: 65_535)
    private var sendModel: Int64 = 65_535
    private var state = StreamState.server(endsStream: false)
    private var isEndDue = false

    init() { _ = connection.start() }

    mutating func step(_ kind: UInt8, _ number: UInt32) {
        switch kind % 10 {
        case 0:
            let count = number % (min(window.remaining, connection.remaining) + 1)
            precondition(window.receive(count) == nil && connection.receive(count) == nil)
        case 1: window.consume(number % (window.held + 1))
        case 2: _ = window.credit([.ample, .scarce, .none][Int(number % 3)])
        case 3: _ = connection.credit()
        case 4: precondition((window.receive(number) == nil) == (number <= windowBefore))
        case 5: grant(number)
        case 6: spend(number)
        case 7: change(number)
        case 8: event(number)
        default:
            // Another stream: what the last one held is gone, the connection's credit is not.
            window = ReceiveWindow()
            _ = window.start(.ample)
            state = number & 1 == 1 ? .client() : .server(endsStream: number & 2 == 2)
            isEndDue = false
        }
        check()
        windowBefore = window.remaining
    }

    private var windowBefore = ReceiveWindow.sizeInitial

    private func check() {
        precondition(window.remaining + window.held + window.owed == window.size)
        precondition(window.size <= ReceiveWindow.sizeMax)
        precondition(connection.remaining + connection.owed == ConnectionReceiveWindow.sizeDefault)
        precondition(Int64(send.available) == max(0, sendModel))
    }

    private mutating func grant(_ increment: UInt32) {
        let fault = send.grant(increment & 0x7fff_ffff)
        let sum = sendModel + Int64(increment & 0x7fff_ffff)
        precondition((fault == nil) == (sum <= 0x7fff_ffff))
        if fault == nil { sendModel = sum }
    }

    private mutating func spend(_ number: UInt32) {
        let count = Int(number) % (send.available + 1)
        send.spend(count)
        sendModel -= Int64(count)
    }

    private mutating func change(_ size: UInt32) {
        let entry =
            withUnsafeBytes(of: UInt16(4).bigEndian, Array.init) + withUnsafeBytes(of: size.bigEndian, Array.init)
        let before = settings
        let change = entry.withUnsafeBytes { try? settings.apply(SettingsList(payload: $0)) }
        guard let change else {
            precondition(size > 0x7fff_ffff)
            return
        }
        if send.adjust(by: change.windowDelta) == nil {
            sendModel += change.windowDelta
        } else {
            precondition(sendModel + change.windowDelta > 0x7fff_ffff)
            settings = before
        }
    }

    private mutating func event(_ number: UInt32) {
        let wasDead = state.isDead
        let events: [StreamState.Event] = [
            .accepted(endsStream: state.role == .client && number & 256 != 0), .data(endsStream: number & 256 != 0),
            .trailers, .reset(ErrorCode(rawValue: number >> 16)), .tunnelLost, .applicationFinished, .applicationReset,
            .abort(.flowControl), .refused(.MESH_REASON_CONNECT_FAILED), .endSent,
        ]
        let event = events[Int(number % 10)]
        if case .endSent = event, !isEndDue { return }
        let action = state.event(event)
        if case .endSent = event { isEndDue = false }
        if action == .sendEnd { isEndDue = true }
        precondition(!wasDead || action == .none || action == .discard)
        precondition(!wasDead || state.isDead)
        if state.isDead { isEndDue = false }
    }
}
