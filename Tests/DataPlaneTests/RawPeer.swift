import CLinux
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import OpenSSLTLS
import ProxyControl

@testable import DataPlane

/// The client end of a tunnel in a test's hands, frame by frame.
final class RawPeer {
    struct Frame {
        var type: FrameType?
        var flags: FrameFlags
        var streamID: UInt32
        var payload: [UInt8]
    }

    struct Ended: Error {}

    private let socket = TestSocket()
    private var tls: TLSConnection
    private var encoder: HeaderEncoder
    private var received: [UInt8] = []
    private(set) var failure: TLSFailure?

    /// Connects from `source` to the tunnel port at `target`, as `certificate`, expecting `server`.
    init(
        from source: IPAddress, to target: SocketAddress, as certificate: WorkloadCertificate, expecting server: String,
        trust bundle: [UInt8]
    ) throws {
        try socket.bind(SocketAddress(source, 0))
        try socket.connect(target)
        Socket.setNonBlocking(socket.descriptor)
        let identity = try TLSIdentity(
            principal: certificate.principal, chain: certificate.chain, key: certificate.key,
            trust: TLSTrust(trustDomain: TestMesh.trustDomain, bundle: bundle))
        tls = try TLSConnection(client: identity, expecting: server, descriptor: socket.descriptor)
        guard let encoder = HeaderEncoder() else { throw Ended() }
        self.encoder = encoder
        var opening = [UInt8](repeating: 0, count: 256)
        let count = opening.withUnsafeMutableBytes { bytes -> Int in
            guard let base = bytes.baseAddress else { return 0 }
            FrameWriter.clientPreface(to: base)
            let rest = UnsafeMutableRawBufferPointer(rebasing: bytes[FrameWriter.clientPrefaceSize...])
            return FrameWriter.clientPrefaceSize + FrameWriter.settings(TunnelSettings.client, to: rest)
        }
        try handshake()
        try send(Array(opening[..<count]))
    }

    func close() { socket.close() }
    func reset() { socket.reset() }

    func send(_ bytes: [UInt8]) throws {
        if let failure = bytes.withUnsafeBytes({ tls.write($0) }) {
            self.failure = failure
            throw Ended()
        }
        try flush()
    }

    func sendFrame(_ type: FrameType, _ flags: FrameFlags, _ streamID: UInt32, _ payload: [UInt8] = []) throws {
        var frame = [UInt8](repeating: 0, count: FrameHeader.size)
        frame.withUnsafeMutableBytes {
            if let base = $0.baseAddress {
                FrameHeader(length: UInt32(payload.count), type: type, flags: flags, streamID: streamID).write(to: base)
            }
        }
        try send(frame + payload)
    }

    func sendHeaders(_ streamID: UInt32, _ fields: HeaderFields, endsStream: Bool = false) throws {
        var block = [UInt8](repeating: 0, count: encoder.sizeMax(of: fields))
        let count = block.withUnsafeMutableBytes { encoder.encode(fields, to: $0) } ?? 0
        try sendFrame(
            .headers, endsStream ? [.endHeaders, .endStream] : .endHeaders, streamID, Array(block[..<count]))
    }

    func sendConnect(_ streamID: UInt32, _ authority: Authority, client: SocketAddress? = nil) throws {
        var fields = HeaderFields()
        ConnectRequest.write(
            authority: authority, forwarded: client.map { Forwarded(client: $0) }, traceParent: nil, baggage: nil,
            to: &fields)
        try sendHeaders(streamID, fields)
    }

    /// The next frame; nil when the proxy has ended the tunnel.
    func nextFrame(seconds: Int = 5) throws -> Frame? {
        for _ in 0..<seconds * 500 {
            if let frame = takeFrame() { return frame }
            guard try readMore() else { return nil }
        }
        throw TestNode.Timeout(what: "frame")
    }

    /// The next frame of a type.
    func next(_ type: FrameType, seconds: Int = 5) throws -> Frame? {
        while let frame = try nextFrame(seconds: seconds) { if frame.type == type { return frame } }
        return nil
    }

    /// The status of the answer to a CONNECT, as the short blocks of a Culvert have it.
    func status(of streamID: UInt32) throws -> Int? {
        while let frame = try next(.headers) {
            guard frame.streamID == streamID else { continue }
            let block = frame.payload.first == 0x20 ? Array(frame.payload.dropFirst()) : frame.payload
            switch block.first {
            case 0x88: return 200
            case 0x8c: return 400
            case 0x08: return Int(String(decoding: block.dropFirst(2), as: UTF8.self))
            default: return -1
            }
        }
        return nil
    }

    // MARK: private

    private func handshake() throws {
        for _ in 0..<2_500 {
            let progress = tls.handshake()
            try flush()
            switch progress {
            case .done: return
            case .failed(let failure):
                self.failure = failure
                throw Ended()
            case .wantRead, .wantWrite: wait()
            }
        }
        throw TestNode.Timeout(what: "handshake")
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

    private func takeFrame() -> Frame? {
        guard received.count >= FrameHeader.size else { return nil }
        let header = received.withUnsafeBytes { $0.baseAddress.map { FrameHeader(reading: $0) } }
        guard let header, received.count >= FrameHeader.size + Int(header.length) else { return nil }
        let payload = Array(received[FrameHeader.size..<FrameHeader.size + Int(header.length)])
        received.removeFirst(FrameHeader.size + Int(header.length))
        return Frame(type: header.kind, flags: header.flags, streamID: header.streamID, payload: payload)
    }

    private func readMore() throws -> Bool {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        switch bytes.withUnsafeMutableBytes({ tls.read(into: $0) }) {
        case .bytes(let count): received += bytes[..<count]
        case .wouldBlock: wait()
        case .closed: return false
        case .failed(let failure):
            self.failure = failure
            return false
        }
        return true
    }
}
