import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel

@testable import DataPlane

/// The other end of a tunnel, speaking whatever a test wants: bytes, frames or nothing. It keeps no rule by itself.
final class HostilePeer {
    /// What the proxy under test answered, kept beyond its buffer.
    enum Answer: Equatable {
        case headers(streamID: UInt32, block: [UInt8], endsStream: Bool)
        case data(streamID: UInt32, count: Int, endsStream: Bool)
        case reset(streamID: UInt32, ErrorCode)
        case goAway(ErrorCode, String)
        case settings([Setting])
        case ping(isAcknowledgement: Bool)
        case windowUpdate(streamID: UInt32, UInt32)
        case other
    }

    private var channel: HostileChannel
    private var decoder: FrameDecoder
    private var received: [UInt8] = []
    private(set) var answers: [Answer] = []
    /// The tunnel has ended, in order or not.
    private(set) var isEnded = false
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    /// A client of `node`'s tunnel port that has a certificate: `client` of node a, towards `server` unless told
    /// otherwise. With `opening`, preface and SETTINGS have gone out.
    init(
        of node: TestNode, as client: String = "client", to server: String = "server", opening: Bool = true
    ) throws {
        let mesh = node.mesh
        decoder = FrameDecoder(role: .client)
        channel = try HostileChannel(
            from: mesh.tunnelAddress("a"), to: SocketAddress(node.address, mesh.tunnelPort), client, server, mesh)
        try channel.handshake()
        if opening { try send(Self.preface + HostileFrame.settings([])) }
    }

    /// Sends what it is given. A tunnel that is closed meanwhile is no error: the proxy may defend itself.
    func send(_ bytes: [UInt8]) throws {
        do { try channel.send(bytes) } catch is HostileChannel.Ended {
            // What the proxy said before it closed is still there.
            while readMore() {}
            isEnded = true
        }
    }

    /// Reads until an answer fits, or the tunnel ends, or ten seconds have passed. Nil: it never came.
    @discardableResult
    func await(_ isWanted: (Answer) -> Bool) -> Answer? {
        var seen = 0
        while true {
            while seen < answers.count {
                if isWanted(answers[seen]) { return answers[seen] }
                seen += 1
            }
            guard readMore() else { return nil }
        }
    }

    /// The GOAWAY that ends the tunnel.
    func awaitGoAway() -> Answer? {
        self.await { if case .goAway(let code, _) = $0 { code != .noError } else { false } }
    }

    func awaitReset(_ streamID: UInt32) -> ErrorCode? {
        let found = self.await { if case .reset(streamID, _) = $0 { true } else { false } }
        guard case .reset(_, let code) = found else { return nil }
        return code
    }

    /// The status that a CONNECT was answered with.
    func awaitStatus(_ streamID: UInt32) -> UInt16? {
        let found = self.await { if case .headers(streamID, _, _) = $0 { true } else { false } }
        guard case .headers(_, let block, _) = found else { return nil }
        return switch block.last {
        case 0x88: 200
        case 0x8c: 400
        default: UInt16(String(decoding: block.suffix(3), as: UTF8.self))
        }
    }

    /// A PING and its answer: the tunnel lives, and all that was sent before has been read.
    func isAlive() throws -> Bool {
        let before = answers.filter { $0 == .ping(isAcknowledgement: true) }.count
        try send(HostileFrame.ping())
        while answers.filter({ $0 == .ping(isAcknowledgement: true) }).count == before {
            guard readMore() else { return false }
        }
        return true
    }

    /// Reads until the tunnel ends; false where it does not.
    func awaitEnd() -> Bool {
        while readMore() {}
        return isEnded
    }

    // MARK: private

    private func readMore() -> Bool {
        guard !isEnded else { return false }
        guard let more = channel.receive() else { return false }
        if more.isEmpty { isEnded = true }
        received += more
        let used = received.withUnsafeBytes { bytes in
            var offset = 0
            while true {
                let event = decoder.next(in: bytes, offset: &offset)
                if case .incomplete = event { return offset }
                if case .connectionFault = event { return bytes.count }
                answers.append(Self.answer(event))
            }
        }
        received.removeFirst(used)
        return true
    }

    private static func answer(_ event: FrameEvent) -> Answer {
        switch event {
        case .headers(let part):
            .headers(streamID: part.streamID, block: Array(part.block), endsStream: part.endsStream)
        case .data(let part): .data(streamID: part.streamID, count: part.payload.count, endsStream: part.endsStream)
        case .reset(let streamID, let code): .reset(streamID: streamID, code)
        case .goAway(_, let code, let debug): .goAway(code, String(decoding: debug, as: UTF8.self))
        case .settings(let list): .settings(Array(list))
        case .ping(_, let isAcknowledgement): .ping(isAcknowledgement: isAcknowledgement)
        case .windowUpdate(let streamID, let increment): .windowUpdate(streamID: streamID, increment)
        default: .other
        }
    }
}

/// Frames as bytes, lawful or not.
enum HostileFrame {
    static func frame(
        _ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = [], length: Int? = nil
    ) -> [UInt8] {
        let length = length ?? payload.count
        return [UInt8(length >> 16 & 255), UInt8(length >> 8 & 255), UInt8(length & 255), type, flags] + word(stream)
            + payload
    }

    static func word(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian, Array.init) }

    static func settings(_ entries: [Setting]) -> [UInt8] {
        frame(4, entries.flatMap { withUnsafeBytes(of: $0.identifier.rawValue.bigEndian, Array.init) + word($0.value) })
    }

    static func ping() -> [UInt8] { frame(6, [1, 2, 3, 4, 5, 6, 7, 8]) }
    static func reset(_ stream: UInt32, _ code: ErrorCode = .cancel) -> [UInt8] {
        frame(3, stream: stream, word(code.rawValue))
    }
    static func windowUpdate(_ stream: UInt32, _ increment: UInt32) -> [UInt8] {
        frame(8, stream: stream, word(increment))
    }

    static func data(_ stream: UInt32, _ payload: [UInt8], ends: Bool = false) -> [UInt8] {
        frame(0, flags: ends ? 1 : 0, stream: stream, payload)
    }

    /// A header block without compression state: literals that are never indexed.
    static func block(_ fields: [(String, String)]) -> [UInt8] {
        fields.flatMap { [0x10] + literal($0.0) + literal($0.1) }
    }

    static func connect(
        _ stream: UInt32, _ authority: String, ends: Bool = false, extra: [(String, String)] = []
    ) -> [UInt8] {
        let fields = [(":method", "CONNECT"), (":authority", authority)] + extra
        return frame(1, flags: ends ? 5 : 4, stream: stream, block(fields))
    }

    private static func literal(_ text: String) -> [UInt8] {
        let bytes = Array(text.utf8)
        guard bytes.count >= 127 else { return [UInt8(bytes.count)] + bytes }
        var length: [UInt8] = [0x7f]
        var rest = bytes.count - 127
        while rest >= 128 {
            length.append(UInt8(rest & 127) | 128)
            rest >>= 7
        }
        return length + [UInt8(rest)] + bytes
    }
}
