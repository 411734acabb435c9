import CMeshABI
package import HTTP2Framing
package import MeshModel

/// The life of one CONNECT stream between its tunnel and the application's TCP connection, at either end. Its one rule
/// above all: a truncated transfer never looks complete. Only END_STREAM (TCP: FIN) is an orderly end; whatever else
/// ends a direction becomes a reset on the other side.
package struct StreamState: Equatable, Sendable {
    package enum Event: Sendable {
        /// Client: the 200 came, with END_STREAM or without. Server: our 200 goes out, always without.
        case accepted(endsStream: Bool)
        /// Client: an answer other than 200 came. Server: such an answer is to go out.
        case refused(Reason)
        /// DATA, or a fragment of it, came.
        case data(endsStream: Bool)
        /// HEADERS came when an answer or a request is already there: a CONNECT stream has no trailers (RFC 9113
        /// section 8.5).
        case trailers
        /// RST_STREAM came.
        case reset(ErrorCode)
        /// The tunnel is gone.
        case tunnelLost
        /// FIN was read from the application.
        case applicationFinished
        /// END_STREAM was put into the tunnel, behind everything that the application sent.
        case endSent
        /// The application's connection was reset: a read or a write failed.
        case applicationReset
        /// This end gives up: a peer's fault, a limit, a deadline, a workload that is gone.
        case abort(HTTP2Fault)
    }

    package enum Action: Equatable, Sendable {
        case none
        /// Pass the payload on to the application (before `accepted` at a server: keep it until then).
        case deliver
        /// The same, then FIN once it is all written.
        case deliverAndFinish
        /// FIN to the application once what is held is written.
        case finishApplication
        /// What is held is written and then the application's connection is closed in order: nobody wants more of it.
        case closeApplication
        /// Put END_STREAM into the tunnel behind what the application sent; report `endSent` when done.
        case sendEnd
        /// Server: answer with `ConnectResponse.status(for:)` and END_STREAM; where `isRemoteEnded` is false,
        /// RST_STREAM NO_ERROR behind it (RFC 9113 section 8.1). The stream is dead.
        case sendRefusal(Reason)
        /// RST_STREAM; the application's side is gone already. The stream is dead.
        case sendReset(ErrorCode, Reason)
        /// TCP reset to the application, at once; the tunnel needs to hear nothing. The stream is dead.
        case resetApplication(Reason)
        /// Both. The stream is dead.
        case resetBoth(ErrorCode, Reason)
        /// Bytes of a dead stream: credit the connection's window and nothing else.
        case discard
    }

    /// Which end of the tunnel this is.
    package enum Role: Sendable {
        /// We sent the CONNECT.
        case client
        /// We got it, and dial.
        case server
    }

    private enum Phase: Sendable { case requesting, open, dead }

    package let role: Role
    private var phase = Phase.requesting
    /// END_STREAM has come: the peer sends nothing more.
    package private(set) var isRemoteEnded: Bool
    /// END_STREAM has gone out.
    package private(set) var isLocalEnded = false
    private var isEndWanted = false

    /// The stream of a CONNECT that is being sent.
    package static func client() -> StreamState { StreamState(role: .client, isRemoteEnded: false) }

    /// The stream of a CONNECT that came, with END_STREAM where its client has nothing to say.
    package static func server(endsStream: Bool) -> StreamState {
        StreamState(role: .server, isRemoteEnded: endsStream)
    }

    private init(role: Role, isRemoteEnded: Bool) {
        self.role = role
        self.isRemoteEnded = isRemoteEnded
    }

    /// The CONNECT has been answered with 200.
    package var isOpen: Bool { phase == .open }
    /// The stream was reset or refused.
    package var isDead: Bool { phase == .dead }
    /// Nothing more goes over the wire either way: the identifier may be forgotten. What is held may be unwritten.
    package var isClosed: Bool { phase == .dead || (isRemoteEnded && isLocalEnded) }

    package mutating func event(_ event: Event) -> Action {
        if phase == .dead { return eventWhenDead(event) }
        switch event {
        case .accepted(let endsStream): return accepted(endsStream)
        case .refused(let reason): return refused(reason)
        case .data(let endsStream): return data(endsStream)
        case .trailers: return breach(.protocolError)
        case .reset(let code): return reset(code)
        case .tunnelLost: return tunnelLost()
        case .applicationFinished: return applicationFinished()
        case .endSent:
            precondition(isEndWanted && !isLocalEnded, "END_STREAM that nobody asked for")
            isLocalEnded = true
            return .none
        case .applicationReset: return applicationReset()
        case .abort(let fault): return abort(fault)
        }
    }

    // MARK: private

    private func eventWhenDead(_ event: Event) -> Action {
        switch event {
        case .data, .trailers: .discard
        case .accepted, .refused, .reset, .tunnelLost, .applicationFinished, .endSent, .applicationReset, .abort: .none
        }
    }

    private mutating func accepted(_ endsStream: Bool) -> Action {
        guard phase == .requesting else { return breach(.protocolError) }
        phase = .open
        guard endsStream else { return .none }
        precondition(role == .client, "a server's own 200 does not end the peer's direction")
        isRemoteEnded = true
        return .finishApplication
    }

    private mutating func refused(_ reason: Reason) -> Action {
        guard phase == .requesting else { return breach(.protocolError) }
        phase = .dead
        return role == .server ? .sendRefusal(reason) : .resetBoth(.cancel, reason)
    }

    private mutating func data(_ endsStream: Bool) -> Action {
        if isRemoteEnded { return breach(.streamClosed) }
        // Only a client speaks before the answer.
        if phase == .requesting && role == .client { return breach(.protocolError) }
        guard endsStream else { return .deliver }
        isRemoteEnded = true
        return .deliverAndFinish
    }

    private mutating func reset(_ code: ErrorCode) -> Action {
        if isClosed { return .none }
        // The peer has sent all it had and wants no more: the one reset that is no loss (RFC 9113 section 8.1). Before
        // the answer there is nothing that could have ended in order.
        let isOrderly = isRemoteEnded && code == .noError && phase == .open
        phase = .dead
        return isOrderly ? .closeApplication : .resetApplication(.MESH_REASON_PEER_RESET)
    }

    private mutating func tunnelLost() -> Action {
        if isClosed { return .none }
        phase = .dead
        return .resetApplication(.MESH_REASON_TUNNEL_LOST)
    }

    private mutating func applicationFinished() -> Action {
        guard !isEndWanted else { return .none }
        isEndWanted = true
        return .sendEnd
    }

    private mutating func applicationReset() -> Action {
        if isClosed { return .none }
        phase = .dead
        return .sendReset(.connectError, .MESH_REASON_APPLICATION_RESET)
    }

    private mutating func abort(_ fault: HTTP2Fault) -> Action {
        let isOver = isClosed
        phase = .dead
        // Where the wire has nothing left, held bytes that will not be delivered still must not look delivered.
        return isOver ? .resetApplication(fault.reason) : .resetBoth(fault.code, fault.reason)
    }

    private mutating func breach(_ fault: HTTP2Fault) -> Action {
        phase = .dead
        return .resetBoth(fault.code, fault.reason)
    }
}
