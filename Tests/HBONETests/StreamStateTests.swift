import CMeshABI
import HBONE
import HTTP2Framing
import Testing

@Suite struct StreamStateTests {
    private func open(_ role: StreamState.Role) -> StreamState {
        var state = role == .client ? StreamState.client() : .server(endsStream: false)
        #expect(state.event(.accepted(endsStream: false)) == .none)
        return state
    }

    @Test func anOrderlyExchangeEndsOnBothSides() {
        for role in [StreamState.Role.client, .server] {
            var state = open(role)
            #expect(state.event(.data(endsStream: false)) == .deliver)
            #expect(state.event(.applicationFinished) == .sendEnd)
            #expect(!state.isLocalEnded)
            #expect(state.event(.endSent) == .none)
            #expect(state.event(.data(endsStream: false)) == .deliver)
            #expect(!state.isClosed)
            #expect(state.event(.data(endsStream: true)) == .deliverAndFinish)
            #expect(state.isClosed && !state.isDead)
            #expect(state.event(.tunnelLost) == .none)
            #expect(state.event(.reset(.cancel)) == .none)
        }
    }

    @Test func aPeersResetBeforeItsEndIsATCPReset() {
        for code in [ErrorCode.noError, .cancel, .connectError, ErrorCode(rawValue: 0xffff)] {
            var state = open(.client)
            #expect(state.event(.reset(code)) == .resetApplication(.MESH_REASON_PEER_RESET))
            #expect(state.isDead)
        }
    }

    @Test func noErrorAfterTheEndIsOrderly() {
        var state = open(.client)
        _ = state.event(.data(endsStream: true))
        #expect(state.event(.reset(.noError)) == .closeApplication)
        var other = open(.client)
        _ = other.event(.data(endsStream: true))
        #expect(other.event(.reset(.connectError)) == .resetApplication(.MESH_REASON_PEER_RESET))
    }

    @Test func aLostTunnelIsATCPReset() {
        var state = open(.server)
        #expect(state.event(.tunnelLost) == .resetApplication(.MESH_REASON_TUNNEL_LOST))
        var half = open(.server)
        _ = half.event(.data(endsStream: true))
        #expect(half.event(.tunnelLost) == .resetApplication(.MESH_REASON_TUNNEL_LOST))
    }

    @Test func anApplicationsResetIsCONNECT_ERROR() {
        var state = open(.server)
        #expect(state.event(.applicationReset) == .sendReset(.connectError, .MESH_REASON_APPLICATION_RESET))
        #expect(state.event(.data(endsStream: true)) == .discard)
        #expect(state.event(.reset(.cancel)) == .none)
        // After its FIN as well, while the peer still sends.
        var half = open(.client)
        _ = half.event(.applicationFinished)
        _ = half.event(.endSent)
        #expect(half.event(.applicationReset) == .sendReset(.connectError, .MESH_REASON_APPLICATION_RESET))
    }

    @Test func aRefusalIsATCPResetAtTheClientAndAnAnswerAtTheServer() {
        var client = StreamState.client()
        #expect(
            client.event(.refused(.MESH_REASON_PEER_REFUSED)) == .resetBoth(.cancel, .MESH_REASON_PEER_REFUSED))
        var server = StreamState.server(endsStream: false)
        #expect(
            server.event(.refused(.MESH_REASON_CONNECT_REFUSED)) == .sendRefusal(.MESH_REASON_CONNECT_REFUSED))
        #expect(server.event(.data(endsStream: true)) == .discard)
    }

    @Test func dataBeforeTheAnswerIsForServersAlone() {
        var server = StreamState.server(endsStream: false)
        #expect(server.event(.data(endsStream: true)) == .deliverAndFinish)
        #expect(server.event(.accepted(endsStream: false)) == .none)
        var client = StreamState.client()
        #expect(client.event(.data(endsStream: false)) == .resetBoth(.protocolError, .MESH_REASON_PROTOCOL_ERROR))
    }

    @Test func breachesOfTheProtocolCostTheStream() {
        var late = open(.server)
        _ = late.event(.data(endsStream: true))
        #expect(late.event(.data(endsStream: false)) == .resetBoth(.streamClosed, .MESH_REASON_PROTOCOL_ERROR))
        var trailers = open(.client)
        #expect(trailers.event(.trailers) == .resetBoth(.protocolError, .MESH_REASON_PROTOCOL_ERROR))
        var twice = open(.client)
        #expect(
            twice.event(.accepted(endsStream: false)) == .resetBoth(.protocolError, .MESH_REASON_PROTOCOL_ERROR))
    }

    @Test func aLimitOfOursTellsBothSides() {
        var state = open(.server)
        let fault = HTTP2Fault(.cancel, .MESH_REASON_MEMORY_BUDGET)
        #expect(state.event(.abort(fault)) == .resetBoth(.cancel, .MESH_REASON_MEMORY_BUDGET))
        var over = open(.server)
        _ = over.event(.data(endsStream: true))
        _ = over.event(.applicationFinished)
        _ = over.event(.endSent)
        #expect(over.event(.abort(fault)) == .resetApplication(.MESH_REASON_MEMORY_BUDGET))
    }

    @Test func theStateIsSmall() { #expect(MemoryLayout<StreamState>.size <= 5) }

    /// Every sequence of events up to a length: what either application sees is never better than what happened.
    @Test func noSequenceMakesATruncatedTransferLookComplete() {
        for state in [StreamState.client(), .server(endsStream: false), .server(endsStream: true)] {
            var witness = Witness(state)
            witness.follow(length: 8)
            #expect(witness.faults.isEmpty, "\(witness.faults.prefix(3))")
            #expect(witness.sequences > 10_000)
        }
    }
}

/// Runs all sequences of events through a state and checks its actions against what an onlooker knows.
private struct Witness {
    private var state: StreamState
    private var hasEnd: Bool
    private var hasFinished = false
    private var isEndDue = false
    private var isAnswered = false
    private var isOver = false
    private var events: [StreamState.Event] = []
    private(set) var faults: [String] = []
    private(set) var sequences = 0

    init(_ state: StreamState) {
        self.state = state
        hasEnd = state.isRemoteEnded
    }

    private static let choices: [StreamState.Event] = [
        .accepted(endsStream: false), .accepted(endsStream: true), .refused(.MESH_REASON_PEER_REFUSED),
        .data(endsStream: false), .data(endsStream: true), .trailers, .reset(.noError), .reset(.cancel), .tunnelLost,
        .applicationFinished, .endSent, .applicationReset, .abort(HTTP2Fault(.cancel, .MESH_REASON_SLOW_PEER)),
    ]

    mutating func follow(length: Int) {
        sequences += 1
        guard length > 0 else { return }
        for event in Self.choices where isPossible(event) {
            let before = self
            step(event)
            if !isOver || length > 4 { follow(length: length - 1) }
            let (faults, sequences) = (self.faults, self.sequences)
            self = before
            (self.faults, self.sequences) = (faults, sequences)
        }
    }

    private func isPossible(_ event: StreamState.Event) -> Bool {
        switch event {
        case .endSent: isEndDue
        case .accepted(let endsStream): !isAnswered && (state.role == .client || !endsStream)
        case .refused: !isAnswered
        default: true
        }
    }

    private mutating func step(_ event: StreamState.Event) {
        events.append(event)
        let hadEnd = hasEnd
        note(event)
        let wasDead = state.isDead
        let wasClosed = state.isClosed
        let action = state.event(event)
        if wasDead && action != .none && action != .discard { fault("acts when dead", action) }
        switch action {
        case .deliver, .deliverAndFinish:
            if hadEnd { fault("bytes behind the end", action) }
            if case .data = event {} else { fault("nothing to deliver", action) }
            if action == .deliverAndFinish && !hasEnd { fault("FIN without END_STREAM", action) }
        case .finishApplication, .closeApplication:
            if !hasEnd { fault("FIN without END_STREAM", action) }
        case .sendEnd:
            if !hasFinished { fault("END_STREAM without FIN", action) }
            isEndDue = true
        case .sendReset, .resetApplication, .resetBoth, .sendRefusal:
            if !state.isDead { fault("reset and alive", action) }
            isOver = true
        case .none, .discard:
            checkSilence(event, action, wasClosed: wasClosed || wasDead)
        }
        if action == .closeApplication { isOver = true }
    }

    /// What ends a stream must be told to whom it concerns, unless the stream was over.
    private mutating func checkSilence(_ event: StreamState.Event, _ action: StreamState.Action, wasClosed: Bool) {
        switch event {
        case .reset, .tunnelLost, .applicationReset, .abort, .refused, .data, .trailers:
            if !wasClosed { fault("nobody is told", action) }
        case .accepted, .applicationFinished, .endSent: break
        }
    }

    private mutating func note(_ event: StreamState.Event) {
        switch event {
        case .accepted(let endsStream):
            isAnswered = true
            if endsStream { hasEnd = true }
        case .refused: isAnswered = true
        case .data(endsStream: true): hasEnd = true
        case .applicationFinished: hasFinished = true
        case .endSent: isEndDue = false
        default: break
        }
    }

    private mutating func fault(_ what: String, _ action: StreamState.Action) {
        faults.append("\(what): \(events) -> \(action)")
    }
}
