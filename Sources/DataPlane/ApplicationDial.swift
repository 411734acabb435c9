import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import MeshPolicy
import ProxyControl

// Connecting to an application of this node: a dial socket of its network namespace, the client that it is to see, and
// connect(). All of it starts from a Permit.

/// What became of a try to begin a connection to an application.
enum ApplicationConnect {
    case underWay(descriptor: Int32)
    /// No dial socket is there: wait for more.
    case noSocket
    case failed(Reason)
}

extension ApplicationDial {
    var pool: DialPool {
        DialPool(purpose: .application, networkNamespace: networkNamespace, isIPv6: !permit.destination.address.isIPv4)
    }
}

extension UnsafeMutablePointer<LoopState> {
    /// Begins the connection that `dial`'s Permit allows. The only place where a connection to an application starts.
    func connect(_ dial: ApplicationDial, clientPrincipal: PrincipalID) -> ApplicationConnect {
        guard let descriptor = takeDialSocket(dial.pool) else { return .noSocket }
        Socket.setNonBlocking(descriptor)
        Socket.prepareApplication(descriptor)
        guard present(dial, on: descriptor, clientPrincipal) else {
            close(descriptor, resets: false)
            return .failed(.MESH_REASON_PRESENTATION_FAILED)
        }
        let code = Socket.connect(descriptor, to: dial.permit.destination, isIPv6: dial.pool.isIPv6)
        guard code == 0 || code == EINPROGRESS else {
            close(descriptor, resets: false)
            return .failed(connectReason(code))
        }
        return .underWay(descriptor: descriptor)
    }

    private func present(_ dial: ApplicationDial, on descriptor: Int32, _ clientPrincipal: PrincipalID) -> Bool {
        // Plain text over loopback: the application sees a client there as it is, only by another port.
        if clientPrincipal == .none && dial.presented.address.isLoopback { return true }
        let presentation = mesh_present(
            client: dial.presented.meshEndpoint, peer_principal: clientPrincipal.rawValue,
            policy_generation: dial.permit.policyGeneration)
        return pointee.shared.kernel.present(descriptor, presentation) == 0
    }

    func connectReason(_ code: Int32) -> Reason {
        switch code {
        case ECONNREFUSED: .MESH_REASON_CONNECT_REFUSED
        case ETIMEDOUT: .MESH_REASON_CONNECT_TIMEOUT
        case EPERM, EACCES: .MESH_REASON_DIAL_OUT_OF_SCOPE
        default: .MESH_REASON_CONNECT_FAILED
        }
    }

    /// Dial sockets came: everything that waits for one tries again.
    func dialSocketsArrived() {
        dialWaitingTunnels()
        var waiting: [StreamPointer] = []
        while let stream = pointee.waitingForSockets.popFirst() {
            stream.pointee.flags.remove(.waiting)
            waiting.append(stream)
        }
        for stream in waiting where !stream.isDead { stream.dial() }
        let ends = pointee.waitingRelays
        pointee.waitingRelays = []
        for end in ends where !end.isDead { end.dial() }
        dialWaitingNames()
    }
}

extension UnsafeMutablePointer<Stream> {
    /// Server: dials the application, or waits for a socket to do it with.
    func dial() {
        let loop = pointee.loop
        guard case .server(let dial) = pointee.opening?.pointee.side else {
            return abort(.MESH_REASON_STATE_MISSING)
        }
        switch loop.connect(dial, clientPrincipal: dial.permit.clientPrincipal) {
        case .failed(let reason): abort(reason)
        case .noSocket:
            pointee.flags.insert(.waiting)
            loop.pointee.waitingForSockets.append(self)
        case .underWay(let descriptor):
            pointee.descriptor = descriptor
            pointee.phase = .connecting
            pointee.opening?.pointee.record.cookie = Socket.cookie(of: descriptor)
            loop.watchEdges(descriptor, self)
        }
    }

    /// connect() has ended.
    func connectReady(_ events: SocketEvents) {
        guard events.isConnectOutcome else { return }
        let code = Socket.connectError(of: pointee.descriptor, events)
        guard code == 0 else { return abort(pointee.loop.connectReason(code)) }
        guard let tunnel = pointee.tunnel, pointee.flags.contains(.attached) else {
            return end(.MESH_REASON_TUNNEL_LOST, resets: true)
        }
        _ = pointee.state.event(.accepted(endsStream: false))
        tunnel.queueResponse(.ok, pointee.id, endsStream: false)
        opened()
        let increment = pointee.receiveWindow.start(pointee.loop.pointee.shared.budget.room)
        if increment > 0 && !pointee.state.isRemoteEnded { tunnel.queueWindowUpdate(pointee.id, increment) }
        socketReady(events.union([.input, .output]))
    }
}
