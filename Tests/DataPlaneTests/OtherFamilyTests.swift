import CMeshABI
import Glibc
import HBONE
import HTTP2Framing
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// A node with a tunnel address of each family, one of which does not answer.
@Suite(.serialized) struct OtherFamilyTests {
    let mesh: TestMesh
    let node: TestNode
    let destination: SocketAddress

    init() throws {
        mesh = try TestMesh()
        mesh.hasDeadFirstAddress = true
        node = try mesh.start("a")
        destination = SocketAddress(mesh.address("server"), 80)
    }

    private func answer(_ tunnel: RawServerTunnel, _ text: String) throws {
        let streamID = try tunnel.awaitConnect()
        try tunnel.accept(streamID)
        try tunnel.send(HostileFrame.data(streamID, Array(text.utf8)))
    }

    @Test func theOtherAddressIsDialledAndRemembered() throws {
        defer { mesh.stop() }
        let peer = try RawServer(mesh, at: IPAddress(high: 0, low: 1))
        let first = try node.connect(to: destination)
        // Kept: the end of a tunnel that has something unread resets it, and what was in it is lost.
        let former = try peer.accept()
        try answer(former, "one")
        #expect(try first.receiveText(3) == "one")
        #expect(node.seenNow.unreachable.isEmpty)
        let failures = node.report().counters.reasons[UInt16(Reason.MESH_REASON_TUNNEL_CONNECT_FAILED.rawValue)]
        #expect(failures == 1)
        // Another tunnel, of another client: the address that answered comes first.
        let second = try node.connect(as: "near", to: destination)
        let next = try peer.accept()
        try answer(next, "two")
        #expect(try second.receiveText(3) == "two")
        let after = node.report().counters.reasons[UInt16(Reason.MESH_REASON_TUNNEL_CONNECT_FAILED.rawValue)]
        #expect(after == 1, "the dead address was dialled again")
        withExtendedLifetime((former, next)) {}
    }

    @Test func aNodeThatAnswersAtNeitherIsUnreachable() throws {
        defer { mesh.stop() }
        let client = try node.connect(to: destination)
        #expect(client.errorAtEnd() == ECONNRESET)
        try node.wait("unreachable") { $0.unreachable.count == 1 }
        // It comes back at the second address: probes find it.
        let peer = try RawServer(mesh, at: IPAddress(high: 0, low: 1))
        _ = try peer.accept()
        try node.wait("reachable") { $0.reachable.count == 1 }
    }
}
