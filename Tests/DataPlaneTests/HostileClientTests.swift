import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// A client with a good certificate and bad manners, against a real proxy: whatever it does ends with its own tunnel at
/// worst, has a name, is counted, and leaves other tunnels alone.
@Suite(.serialized) struct HostileClientTests {
    let mesh: TestMesh
    let node: TestNode
    let server = TestSocket()
    /// Another tunnel of another client, open before anything happens.
    let bystander: HostilePeer

    init() throws {
        mesh = try TestMesh()
        node = try mesh.start("b") { settings in
            settings.headersTimeoutMilliseconds = 700
            settings.handshakeTimeoutMilliseconds = 700
            settings.slowPeerTimeoutMilliseconds = 1_500
        }
        try server.listen(SocketAddress(mesh.address("server"), 0))
        bystander = try HostilePeer(of: node, as: "near")
    }

    private var authority: String { server.local.description }

    private func counted(_ reason: Reason) -> UInt64 {
        node.report().counters.reasons[UInt16(reason.rawValue), default: 0]
    }

    /// The tunnel was closed with the code and the name, which is counted, and the bystander's works.
    private func expectEnd(
        of peer: HostilePeer, _ code: ErrorCode, _ reason: Reason, location: SourceLocation = #_sourceLocation
    ) throws {
        let end = peer.awaitGoAway()
        #expect(end == .goAway(code, reason.name), sourceLocation: location)
        #expect(peer.awaitEnd(), "the connection stays open", sourceLocation: location)
        #expect(counted(reason) > 0, "\(reason.name) is not counted", sourceLocation: location)
        try expectBystanderServed(location)
    }

    private func expectBystanderServed(_ location: SourceLocation = #_sourceLocation) throws {
        #expect(try bystander.isAlive(), "a neighbour's tunnel suffers", sourceLocation: location)
    }

    // MARK: floods

    @Test func rapidResetEndsTheTunnel() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        for streamID in stride(from: UInt32(1), to: 12_001, by: 2) where !peer.isEnded {
            try peer.send(HostileFrame.connect(streamID, authority) + HostileFrame.reset(streamID))
        }
        try expectEnd(of: peer, .enhanceYourCalm, .MESH_REASON_RESET_FLOOD)
    }

    @Test func provokedResetsEndTheTunnel() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        for streamID in stride(from: UInt32(1), to: 2_001, by: 2) where !peer.isEnded {
            try peer.send(HostileFrame.connect(streamID, authority) + HostileFrame.windowUpdate(streamID, 0))
        }
        try expectEnd(of: peer, .enhanceYourCalm, .MESH_REASON_RESET_FLOOD)
    }

    @Test(arguments: [
        ("PING", HostileFrame.ping()), ("SETTINGS", HostileFrame.settings([])),
        ("PRIORITY", HostileFrame.frame(2, stream: 1, [0, 0, 0, 0, 0])), ("unknown frames", HostileFrame.frame(0x77)),
        ("unasked acknowledgements", HostileFrame.frame(4, flags: 1)),
        ("WINDOW_UPDATE", HostileFrame.windowUpdate(0, 1)),
    ])
    func controlFloodsEndTheTunnel(_ what: String, _ frame: [UInt8]) throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        let thousand = (0..<1_000).flatMap { _ in frame }
        for _ in 0..<20 where !peer.isEnded { try peer.send(thousand) }
        try expectEnd(of: peer, .enhanceYourCalm, .MESH_REASON_CONTROL_FLOOD)
    }

    @Test func emptyDataEndsTheTunnel() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        try peer.send(HostileFrame.connect(1, authority))
        #expect(peer.awaitStatus(1) == 200)
        for _ in 0..<1_000 where !peer.isEnded { try peer.send(HostileFrame.data(1, [])) }
        try expectEnd(of: peer, .enhanceYourCalm, .MESH_REASON_EMPTY_DATA_FLOOD)
    }

    @Test func endlessContinuationEndsTheTunnel() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        try peer.send(HostileFrame.frame(1, stream: 1, HostileFrame.block([(":method", "CONNECT")])))
        for _ in 0..<50 where !peer.isEnded {
            try peer.send(HostileFrame.frame(9, stream: 1, HostileFrame.block([("x", "y")])))
        }
        try expectEnd(of: peer, .enhanceYourCalm, .MESH_REASON_CONTINUATION_FLOOD)
    }

    @Test func streamsAboveTheLimitAreRefusedAndTheTunnelLives() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        for streamID in stride(from: UInt32(1), to: 2_101, by: 2) {
            try peer.send(HostileFrame.connect(streamID, authority))
        }
        #expect(peer.awaitReset(2_099) == .refusedStream)
        #expect(try peer.isAlive())
        #expect(counted(.MESH_REASON_STREAM_LIMIT) == 50)
        try expectBystanderServed()
    }

    @Test func aPeerThatHasNotSeenTheLimitKeepsItsTunnel() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        // What Envoy may do: everything at once, before our SETTINGS can have come.
        for streamID in stride(from: UInt32(1), to: 3_001, by: 2) {
            try peer.send(HostileFrame.connect(streamID, authority))
        }
        #expect(peer.awaitReset(2_999) == .refusedStream)
        #expect(try peer.isAlive())
    }

    // MARK: headers

    @Test func aBlockAboveTheLimitCostsItsStreamAlone() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        let large = String(repeating: "a", count: 15_900)
        try peer.send(
            HostileFrame.connect(1, authority, extra: [("x", large), ("y", "more than sixteen KiB")].reversed()))
        let many = (0..<100).map { ("x\($0)", "y") }
        try peer.send(HostileFrame.connect(3, authority, extra: many))
        #expect(peer.awaitStatus(3) == 400)
        try peer.send(HostileFrame.connect(5, authority))
        #expect(peer.awaitStatus(5) == 200)
        #expect(counted(.MESH_REASON_HEADERS_TOO_LARGE) > 0)
    }

    @Test func aHeaderBombEndsTheTunnel() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        // One field of 3,968 bytes goes into the table, then one byte stands for it a hundred times.
        let seed = [0x40, 1, UInt8(ascii: "x"), 0x7f, 0x81, 0x1e] + [UInt8](repeating: UInt8(ascii: "a"), count: 3_968)
        try peer.send(HostileFrame.frame(1, flags: 4, stream: 1, seed + [UInt8](repeating: 0xbe, count: 100)))
        try expectEnd(of: peer, .enhanceYourCalm, .MESH_REASON_HEADERS_TOO_LARGE)
    }

    @Test func compressionThatIsBrokenEndsTheTunnel() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        try peer.send(HostileFrame.frame(1, flags: 4, stream: 1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))
        try expectEnd(of: peer, .compressionError, .MESH_REASON_PROTOCOL_ERROR)
    }

    @Test func headersOfDeadAndRefusedStreamsKeepTheTableInStep() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        // The authority enters the table by a request that is refused, and is used by its entry afterwards.
        let name = Array(authority.utf8)
        let indexed = [0x41, UInt8(name.count)] + name
        let method = [0x02, 7] + Array("CONNECT".utf8)
        try peer.send(HostileFrame.frame(1, flags: 4, stream: 1, [0x02, 3] + Array("GET".utf8) + indexed))
        #expect(peer.awaitStatus(1) == 400)
        try peer.send(HostileFrame.frame(1, flags: 4, stream: 3, method + [0xbe]))
        #expect(peer.awaitStatus(3) == 200)
    }

    @Test func headersOfAClosedStreamCostTheTunnelNothing() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        try peer.send(HostileFrame.connect(3, authority))
        #expect(peer.awaitStatus(3) == 200)
        try peer.send(HostileFrame.reset(3) + HostileFrame.connect(3, authority) + HostileFrame.connect(1, authority))
        #expect(peer.awaitReset(3) == .streamClosed)
        #expect(peer.awaitReset(1) == .streamClosed)
        #expect(try peer.isAlive())
        try peer.send(HostileFrame.connect(5, authority))
        #expect(peer.awaitStatus(5) == 200)
    }

    @Test func aHeaderBlockThatNeverEndsTimesOut() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        try peer.send(HostileFrame.frame(1, stream: 1, HostileFrame.block([(":method", "CONNECT")])))
        try expectEnd(of: peer, .enhanceYourCalm, .MESH_REASON_HEADERS_TIMEOUT)
    }

    @Test func aPeerThatNeverSendsSettingsTimesOut() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node, opening: false)
        try expectEnd(of: peer, .settingsTimeout, .MESH_REASON_HEADERS_TIMEOUT)
    }

    // MARK: flow control

    @Test func moreThanTheStreamsWindowCostsTheStream() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        try peer.send(HostileFrame.connect(1, authority))
        #expect(peer.awaitStatus(1) == 200)
        // Nobody reads at the other end; what the sockets take is credited, all the rest is too much.
        let chunk = HostileFrame.data(1, [UInt8](repeating: 1, count: 16_000))
        for _ in 0..<2_000 where !peer.isEnded { try peer.send(chunk) }
        #expect(peer.awaitReset(1) == .flowControlError)
        #expect(try peer.isAlive(), "bytes of a dead stream stall or end the tunnel")
        #expect(counted(.MESH_REASON_FLOW_CONTROL_ERROR) == 1)
        try peer.send(HostileFrame.connect(3, authority))
        #expect(peer.awaitStatus(3) == 200)
    }

    @Test func windowsAbove2GiBAreRefused() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        try peer.send(HostileFrame.connect(1, authority) + HostileFrame.windowUpdate(1, 0x7fff_ffff))
        #expect(peer.awaitReset(1) == .flowControlError)
        #expect(try peer.isAlive())
        try peer.send(HostileFrame.windowUpdate(0, 0x7fff_ffff))
        try expectEnd(of: peer, .flowControlError, .MESH_REASON_FLOW_CONTROL_ERROR)
    }

    @Test func initialWindowsThatOverflowOpenStreamsEndTheTunnel() throws {
        defer { mesh.stop() }
        let peer = try HostilePeer(of: node)
        try peer.send(HostileFrame.connect(1, authority) + HostileFrame.windowUpdate(1, 0x7000_0000))
        #expect(peer.awaitStatus(1) == 200)
        try peer.send(HostileFrame.settings([Setting(.initialWindowSize, 0x7fff_ffff)]))
        try expectEnd(of: peer, .flowControlError, .MESH_REASON_FLOW_CONTROL_ERROR)
    }
}
