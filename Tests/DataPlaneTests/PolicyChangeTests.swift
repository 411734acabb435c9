import CMeshABI
import Glibc
import MeshModel
import ProxyControl
import Synchronization
import Testing

@testable import DataPlane

/// What a policy change does to connections that are there already. Real sockets; the policies come with snapshots.
@Suite(.serialized) struct PolicyChangeTests {
    private typealias Policy = AuthorizationPolicyResource

    let mesh: TestMesh
    let a: TestNode
    let b: TestNode
    let denied = TestSocket()
    let kept = TestSocket()

    init() throws {
        mesh = try TestMesh()
        a = try mesh.start("a")
        b = try mesh.start("b")
        try denied.listen(SocketAddress(mesh.address("server"), 0))
        try kept.listen(SocketAddress(mesh.address("server"), 0))
    }

    private static func deny(port: UInt16, isDryRun: Bool = false) -> Policy {
        Policy(
            name: "no", namespace: "shop", action: .deny, isDryRun: isDryRun,
            rules: [Policy.Rule(to: [.init(ports: PolicyMatch([port]))])])
    }

    private func enforce(_ policies: [Policy], on node: TestNode) throws {
        mesh.policies = policies
        try node.giveSnapshot()
    }

    /// The same for what connects next: it must not be judged by the snapshot before.
    private func enforceAndWait(_ policies: [Policy], on node: TestNode) throws {
        let before = node.seenNow.snapshotsTaken
        try enforce(policies, on: node)
        try node.wait("snapshot in use") { $0.snapshotsTaken > before }
    }

    private func echo(_ client: TestSocket, _ server: TestSocket, _ text: String) throws {
        try client.send(text)
        #expect(try server.receiveText(text.utf8.count) == text)
        try server.send(text)
        #expect(try client.receiveText(text.utf8.count) == text)
    }

    @Test func streamsThatArePermittedNoMoreAreResetWithinASecondAndOthersGoOn() throws {
        defer { mesh.stop() }
        let first = try a.connect(to: denied.local)
        let firstServer = try denied.accept()
        let second = try a.connect(to: kept.local)
        let secondServer = try kept.accept()
        try echo(first, firstServer, "one")
        try echo(second, secondServer, "two")
        let clock = ContinuousClock()
        let start = clock.now
        try enforce([Self.deny(port: denied.local.port)], on: b)
        #expect(first.errorAtEnd() == ECONNRESET && firstServer.errorAtEnd() == ECONNRESET)
        #expect(clock.now - start < .seconds(1))
        for _ in 0..<20 { try echo(second, secondServer, "still here") }
        try b.wait("record") { $0.closed.count == 1 }
        let closed = b.seenNow.closed[0]
        #expect(closed.reason == .MESH_REASON_POLICY_DENIED)
        #expect(closed.decidedBy == RuleName(policy: "shop/no", rule: "rules[0]"))
        // The other node is told nothing but a reset.
        try a.wait("record") { $0.closed.count == 1 }
        #expect(a.seenNow.closed[0].reason == .MESH_REASON_PEER_RESET)
        second.finish()
        #expect(try secondServer.receiveToEnd().isEmpty)
    }

    @Test func relaysWithinTheNodeAreJudgedAgainToo() throws {
        defer { mesh.stop() }
        let (near, other) = (TestSocket(), TestSocket())
        try near.listen(SocketAddress(mesh.address("near"), 0))
        try other.listen(SocketAddress(mesh.address("near"), 0))
        let first = try a.connect(to: near.local)
        let firstServer = try near.accept()
        let second = try a.connect(to: other.local)
        let secondServer = try other.accept()
        try echo(first, firstServer, "one")
        try enforce([Self.deny(port: near.local.port)], on: a)
        #expect(first.errorAtEnd() == ECONNRESET && firstServer.errorAtEnd() == ECONNRESET)
        for _ in 0..<20 { try echo(second, secondServer, "still here") }
        try a.wait("record") { $0.closed.count == 1 }
        #expect(a.seenNow.closed[0].decidedBy == RuleName(policy: "shop/no", rule: "rules[0]"))
        // And what begins now is refused by name.
        _ = try a.connect(to: near.local).errorAtEnd()
        try a.wait("refusal") { $0.opened.last?.allowed == false }
        let refused = try #require(a.seenNow.opened.last)
        #expect(refused.direction == .local && refused.reason == .MESH_REASON_POLICY_DENIED)
        #expect(refused.decidedBy == RuleName(policy: "shop/no", rule: "rules[0]"))
    }

    @Test func aRefusalTellsBothEndsAndTheRule() throws {
        defer { mesh.stop() }
        try enforceAndWait([Policy(name: "none", namespace: "shop")], on: b)
        let client = try a.connect(to: denied.local)
        #expect(client.errorAtEnd() == ECONNRESET)
        try b.wait("refusal") { $0.opened.last?.allowed == false }
        let refused = try #require(b.seenNow.opened.last)
        #expect(refused.direction == .inbound && refused.reason == .MESH_REASON_POLICY_DENIED)
        #expect(refused.decidedBy == RuleName(policy: "shop/none", rule: "no-match"))
        #expect(refused.sourcePrincipal == mesh.principal("client"))
        #expect(refused.destinationPrincipal == mesh.principal("server"))
        #expect(refused.source == SocketAddress(mesh.address("client"), client.local.port))
        #expect(refused.originalDestination == denied.local && refused.destinationWorkload == mesh.instance("server"))
    }

    @Test func whatAPolicyOnTrialWouldDenyIsToldAndLetIn() throws {
        defer { mesh.stop() }
        try enforceAndWait([Self.deny(port: denied.local.port, isDryRun: true)], on: b)
        let client = try a.connect(to: denied.local)
        let server = try denied.accept()
        try echo(client, server, "one")
        try b.wait("record") { !$0.opened.isEmpty }
        let opened = try #require(b.seenNow.opened.last)
        #expect(opened.allowed && opened.decidedBy == RuleName(rule: "no-policy"))
        #expect(opened.dryRunDenial == RuleName(policy: "shop/no", rule: "rules[0]"))
        // Nor does a trial that begins later cut what is there.
        try enforce([Policy(name: "few", namespace: "shop", isDryRun: true)], on: b)
        usleep(300_000)
        try echo(client, server, "two")
    }

    @Test func aPolicyThatIsFlippedAThousandTimesLeavesNoDeniedConnectionAlive() throws {
        defer { mesh.stop() }
        let permitted = try a.connect(to: kept.local)
        let permittedServer = try kept.accept()
        let flipped = TestSocket(timeoutSeconds: 1)
        try flipped.listen(SocketAddress(mesh.address("server"), 0))
        let port = flipped.local.port
        let stop = Stage()
        let accepting = TestThread {
            var held: [TestSocket] = []
            while !stop.isOver { if let accepted = try? flipped.accept() { held.append(accepted) } }
        }
        let connecting = TestThread { [a] in
            var held: [TestSocket] = []
            while !stop.isQuiet {
                if let client = try? a.connect(to: flipped.local) { held.append(client) }
                usleep(2_000)
                if held.count > 512 { held.removeFirst(256) }
            }
            // They stay open: what remains of them must have been ended by the proxy.
            while !stop.isOver { usleep(5_000) }
        }
        for flip in 0..<1_000 {
            try enforce(flip % 2 == 0 ? [Self.deny(port: port)] : [], on: b)
            if flip % 50 == 0 { try echo(permitted, permittedServer, "still here") }
            usleep(2_000)
        }
        try enforce([Self.deny(port: port)], on: b)
        stop.begin(.quiet)
        usleep(1_000_000)
        // Nothing but the one that was permitted all the time.
        #expect(b.report().counters.connections == 1)
        try echo(permitted, permittedServer, "to the end")
        #expect(b.seenNow.closed.contains { $0.reason == .MESH_REASON_POLICY_DENIED })
        #expect(b.seenNow.opened.contains { $0.allowed && $0.originalDestination.port == port })
        stop.begin(.over)
        connecting.join()
        accepting.join()
    }

    private final class Stage: Sendable {
        enum Name: Int { case busy, quiet, over }

        private let current = Atomic<Int>(Name.busy.rawValue)

        func begin(_ stage: Name) { current.store(stage.rawValue, ordering: .relaxed) }
        var isQuiet: Bool { current.load(ordering: .relaxed) >= Name.quiet.rawValue }
        var isOver: Bool { current.load(ordering: .relaxed) >= Name.over.rawValue }
    }
}
