import CLinux
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import OpenSSLTLS
import ProxyControl

@testable import DataPlane

/// The server end of node b's tunnels in a test's hands, frame by frame.
final class RawServer {
    private let listener: TestSocket
    private let context: TLSServerContext

    init(_ mesh: TestMesh, at address: IPAddress? = nil) throws {
        let trust = try TLSTrust(trustDomain: TestMesh.trustDomain, bundle: mesh.trustBundle)
        context = try TLSServerContext(
            identities: mesh.certificates(of: "b").map { certificate in
                return try TLSIdentity(
                    principal: certificate.principal, chain: certificate.chain, key: certificate.key,
                    trust: trust)
            })
        listener = TestSocket(isIPv6: address?.isIPv4 == false)
        try listener.listen(SocketAddress(address ?? mesh.tunnelAddress("b"), mesh.tunnelPort))
    }

    /// The next tunnel, after handshake, preface and SETTINGS.
    func accept() throws -> RawServerTunnel { try RawServerTunnel(listener.accept(), context) }

    /// Whether no further tunnel comes within a second.
    func acceptsNothing() -> Bool {
        listener.setTimeout(1)
        defer { listener.setTimeout(10) }
        return (try? listener.accept()) == nil
    }
}

/// One tunnel that a proxy has opened to a `RawServer`.
final class RawServerTunnel {
    struct Ended: Error {}

    private let socket: TestSocket
    private var tls: TLSConnection
    private var received: [UInt8] = []
    private var decoder = HeaderDecoder()
    private(set) var fields: [String: String] = [:]

    fileprivate init(_ socket: TestSocket, _ context: TLSServerContext) throws {
        self.socket = socket
        Socket.setNonBlocking(socket.descriptor)
        tls = try TLSConnection(server: context, descriptor: socket.descriptor)
        for _ in 0..<2_500 {
            let progress = tls.handshake()
            try flush()
            if case .done = progress { break }
            if case .failed = progress { throw Ended() }
            wait()
        }
        try send(HostileFrame.settings(TunnelSettings.server(.culvert)))
        while received.count < HostilePeer.preface.count { try readMore() }
        received.removeFirst(HostilePeer.preface.count)
    }

    func send(_ bytes: [UInt8]) throws {
        guard bytes.withUnsafeBytes({ tls.write($0) }) == nil else { throw Ended() }
        try flush()
    }

    /// The next CONNECT's stream; `fields` has its headers then.
    func awaitConnect() throws -> UInt32 {
        while true {
            guard let frame = try nextFrame(), frame.type == 1 else { continue }
            var fields: [String: String] = [:]
            frame.payload.withUnsafeBytes { block in
                _ = decoder?.decode(block, isLast: true) { name, value in
                    fields[String(decoding: name, as: UTF8.self)] = String(decoding: value, as: UTF8.self)
                }
            }
            self.fields = fields
            return frame.streamID
        }
    }

    /// What the stream said: at least `count` bytes of it, or all up to its end.
    func awaitData(_ streamID: UInt32, count: Int = .max) throws -> (bytes: [UInt8], isEnded: Bool) {
        var bytes: [UInt8] = []
        while bytes.count < count {
            guard let frame = try nextFrame(), frame.type == 0, frame.streamID == streamID else { continue }
            bytes += frame.payload
            if frame.flags & 1 != 0 { return (bytes, true) }
        }
        return (bytes, false)
    }

    /// Answers 200.
    func accept(_ streamID: UInt32) throws { try send(HostileFrame.frame(1, flags: 4, stream: streamID, [0x88])) }

    func goAway(_ lastStreamID: UInt32) throws {
        try send(HostileFrame.frame(7, HostileFrame.word(lastStreamID) + HostileFrame.word(0)))
    }

    /// The error code of the next GOAWAY.
    func awaitGoAway() throws -> UInt32 {
        while true {
            guard let frame = try nextFrame(), frame.type == 7, frame.payload.count >= 8 else { continue }
            return frame.payload[4..<8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        }
    }

    // MARK: private

    private struct Frame {
        var type: UInt8
        var flags: UInt8
        var streamID: UInt32
        var payload: [UInt8]
    }

    private func nextFrame() throws -> Frame? {
        while true {
            if received.count >= 9 {
                let length = Int(received[0]) << 16 | Int(received[1]) << 8 | Int(received[2])
                if received.count >= 9 + length {
                    let streamID = received[5..<9].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
                    let frame = Frame(
                        type: received[3], flags: received[4], streamID: streamID,
                        payload: Array(received[9..<9 + length]))
                    received.removeFirst(9 + length)
                    return frame
                }
            }
            try readMore()
        }
    }

    private func readMore() throws {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        for _ in 0..<2_500 {
            switch bytes.withUnsafeMutableBytes({ tls.read(into: $0) }) {
            case .bytes(let count):
                received += bytes[..<count]
                return
            case .wouldBlock: wait()
            case .closed, .failed: throw Ended()
            }
        }
        throw TestNode.Timeout(what: "frame")
    }

    private func flush() throws {
        while tls.pendingCount > 0 {
            let pending = tls.pending
            let count = Glibc.send(socket.descriptor, pending.baseAddress, pending.count, Int32(MSG_NOSIGNAL))
            if count > 0 {
                tls.consume(count)
            } else if errno == EAGAIN {
                wait()
            } else {
                throw Ended()
            }
        }
    }

    private func wait() {
        var poller = pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0)
        poll(&poller, 1, 2)
    }
}
