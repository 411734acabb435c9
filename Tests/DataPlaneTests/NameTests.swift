import CLinux
import CMeshABI
import Glibc
import MeshModel
import ProxyControl
import Testing

@testable import DataPlane

/// DNS queries that capture brings, and a resolver that is played by the test.
@Suite(.serialized) struct NameTests {
    let mesh: TestMesh
    let resolver = TestSocket.datagram()
    let node: TestNode

    init() throws {
        mesh = try TestMesh()
        try resolver.bind(mesh.resolver)
        node = try mesh.start("a") { $0.meshDomain = "mesh.internal" }
    }

    // MARK: messages

    private static func words(_ words: [UInt16]) -> [UInt8] { words.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] } }

    private static func query(_ name: String, id: UInt16 = 0x4d53) -> [UInt8] {
        let labels = name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
        return words([id, 0x0100, 1, 0, 0, 0]) + labels + [0] + words([1, 1])
    }

    /// An answer with `count` records of 192.0.2.1.
    private static func answer(to query: [UInt8], count: Int = 1) -> [UInt8] {
        var bytes = query
        bytes[2] |= 0x80
        bytes[7] = UInt8(count)
        for _ in 0..<count { bytes += words([0xc00c, 1, 1, 0, 60, 4]) + [192, 0, 2, 1] }
        return bytes
    }

    private static func id(_ message: [UInt8]) -> UInt16 { UInt16(message[0]) << 8 | UInt16(message[1]) }
    private static func code(_ message: [UInt8]) -> UInt8 { message[3] & 0xf }
    private static func framed(_ message: [UInt8]) -> [UInt8] { words([UInt16(message.count)]) + message }

    /// What the resolver is asked, and by whom.
    private func asked() throws -> (message: [UInt8], from: SocketAddress) {
        var bytes = [UInt8](repeating: 0, count: 4_096)
        var sender = clinux_endpoint()
        for _ in 0..<2_000 {
            let count = clinux_receive_from(resolver.descriptor, &bytes, bytes.count, &sender)
            if count >= 0 { return (Array(bytes[..<count]), SocketAddress(sender)) }
            usleep(2_000)
        }
        throw TestSocket.Failure(call: "the resolver is not asked", code: 0)
    }

    private func say(_ message: [UInt8], to asker: SocketAddress) {
        var endpoint = asker.endpoint
        _ = message.withUnsafeBytes { clinux_send_to(resolver.descriptor, $0.baseAddress, $0.count, &endpoint, 0) }
    }

    private func counted(_ reason: Reason) -> UInt64 {
        node.report().counters.reasons[UInt16(truncatingIfNeeded: reason.rawValue)] ?? 0
    }

    // MARK: tests

    @Test func namesOfTheMeshAreAnsweredWithoutTheResolver() throws {
        defer { mesh.stop() }
        let client = try node.asker(of: mesh.resolver)
        for name in ["web", "web.shop", "web.shop.svc.mesh.internal"] {
            try client.send(Self.query(name))
            let answer = try client.receive()
            #expect(Self.id(answer) == 0x4d53 && answer.suffix(4) == [10, 96, 0, 10], "\(name)")
        }
        try client.send(Self.query("nosuch.shop.svc.mesh.internal"))
        #expect(Self.code(try client.receive()) == 3)
        let counters = node.report().counters
        #expect(counters.namesAnswered == 4 && counters.namesForwarded == 0)
    }

    @Test func otherNamesGoOnWithAnotherIDAndPortAndComeBackAsTheyWere() throws {
        defer { mesh.stop() }
        let client = try node.asker(of: mesh.resolver)
        var ids: Set<UInt16> = []
        var ports: Set<UInt16> = []
        for _ in 0..<8 {
            let query = Self.query("wWw.eXample")
            try client.send(query)
            let (message, from) = try asked()
            #expect(Array(message[2...]) == Array(query[2...]), "letter by letter")
            ids.insert(Self.id(message))
            ports.insert(from.port)
            say(Self.answer(to: message), to: from)
            let answer = try client.receive()
            #expect(answer == Self.answer(to: query))
        }
        #expect(ids.count >= 7 && ports.count >= 7, "\(ids) \(ports)")
        #expect(node.report().counters.namesForwarded == 8)
    }

    @Test func whatDoesNotAnswerTheQuestionIsDropped() throws {
        defer { mesh.stop() }
        let client = try node.asker(of: mesh.resolver)
        try client.send(Self.query("www.example"))
        let (message, from) = try asked()
        var otherID = Self.answer(to: message)
        otherID[0] ^= 0xff
        say(otherID, to: from)
        say(Self.answer(to: Self.query("www.exampla", id: Self.id(message))), to: from)
        say(message, to: from)
        say([1, 2, 3], to: from)
        let stranger = TestSocket.datagram()
        var endpoint = from.endpoint
        let forged = Self.answer(to: message, count: 2)
        _ = forged.withUnsafeBytes {
            clinux_send_to(stranger.descriptor, $0.baseAddress, $0.count, &endpoint, 0)
        }
        say(Self.answer(to: message), to: from)
        #expect(try client.receive() == Self.answer(to: Self.query("www.example")))
        #expect(counted(.MESH_REASON_NAMES_ANSWER_MISMATCH) == 4, "the stranger's did not even come")
    }

    @Test func aGuesserGetsNoFurtherTries() throws {
        defer { mesh.stop() }
        let client = try node.asker(of: mesh.resolver)
        try client.send(Self.query("www.example"))
        let (message, from) = try asked()
        for number in 0..<64 {
            say(Self.answer(to: Self.query("www.example", id: Self.id(message) &+ UInt16(number + 1))), to: from)
        }
        #expect(Self.code(try client.receive()) == 2)
    }

    @Test func aSilentResolverIsAServerFailureInFourSeconds() throws {
        defer { mesh.stop() }
        let client = try node.asker(of: mesh.resolver)
        let start = ContinuousClock.now
        try client.send(Self.query("www.example"))
        #expect(Self.code(try client.receive()) == 2)
        #expect((.seconds(3.5)...(.seconds(5))).contains(ContinuousClock.now - start))
        #expect(counted(.MESH_REASON_NAMES_RESOLVER_TIMEOUT) == 1)
    }

    @Test func anAbsentResolverIsAServerFailureAtOnce() throws {
        defer { mesh.stop() }
        let client = try node.asker(of: SocketAddress(mesh.resolver.address, 54))
        try client.send(Self.query("www.example"))
        #expect(Self.code(try client.receive()) == 2)
        #expect(counted(.MESH_REASON_NAMES_RESOLVER_FAILED) == 1)
    }

    @Test func anAnswerThatTheAskerCannotTakeBecomesAHint() throws {
        defer { mesh.stop() }
        let client = try node.asker(of: mesh.resolver)
        try client.send(Self.query("www.example"))
        let (message, from) = try asked()
        say(Self.answer(to: message, count: 60), to: from)
        let answer = try client.receive()
        #expect(answer.count == message.count && answer[2] & 0x02 != 0, "truncated")
    }

    @Test func whatIsNoQueryIsToldSoOrNotAtAll() throws {
        defer { mesh.stop() }
        let client = try node.asker(of: mesh.resolver)
        var twice = Self.query("web")
        twice[5] = 2
        try client.send(twice)
        #expect(Self.code(try client.receive()) == 1)
        try client.send([1, 2, 3])
        try client.send(Self.answer(to: Self.query("web")))
        try client.send(Self.query("web"))
        #expect(Self.code(try client.receive()) == 0, "the first answer is that to the query")
        #expect(counted(.MESH_REASON_NAMES_MALFORMED) == 3)
    }

    @Test func oneWorkloadWithADeadResolverLeavesRoomForOthers() throws {
        defer { mesh.stop() }
        let client = try node.asker(of: mesh.resolver)
        let limit = NameState.openPerWorkloadMax
        for number in 0..<(limit + 10) {
            try client.send(Self.query("www.example", id: UInt16(number)))
            if number % 32 == 31 { usleep(20_000) }
        }
        for number in limit..<(limit + 10) {
            let answer = try client.receive()
            #expect(Self.id(answer) == UInt16(number) && Self.code(answer) == 2)
        }
        #expect(counted(.MESH_REASON_NAMES_IN_FLIGHT_LIMIT) == 10)
        let other = try node.asker(as: "near", of: SocketAddress(mesh.resolver.address, 54))
        try other.send(Self.query("www.example"))
        #expect(Self.code(try other.receive()) == 2)
        #expect(counted(.MESH_REASON_NAMES_IN_FLIGHT_LIMIT) == 10, "refused by the resolver's host, not by a limit")
    }

    @Test func questionsOfAWorkloadThatEndedAreForgotten() throws {
        defer { mesh.stop() }
        let client = try node.asker(of: mesh.resolver)
        try client.send(Self.query("www.example"))
        let (message, from) = try asked()
        node.order(.workloadGone(mesh.instance("client")))
        usleep(200_000)
        say(Self.answer(to: message), to: from)
        try client.send(Self.query("web"))
        #expect(try client.receive().suffix(4) == [10, 96, 0, 10], "no answer to the question before")
    }

    // MARK: TCP

    @Test func aConversationIsAnsweredPartByPart() throws {
        defer { mesh.stop() }
        let server = TestSocket()
        try server.listen(mesh.resolver)
        let client = try node.connect(to: mesh.resolver)
        for byte in Self.framed(Self.query("web", id: 7)) { try client.send([byte]) }
        let own = try client.receive(exactly: 2 + Self.query("web").count + 16)
        #expect(Self.id(Array(own[2...])) == 7 && own.suffix(4) == [10, 96, 0, 10])
        let query = Self.query("www.example", id: 9)
        try client.send(Self.framed(query) + Self.framed(query))
        let accepted = try server.accept()
        #expect(try accepted.receive(exactly: 2 * (query.count + 2)) == Self.framed(query) + Self.framed(query))
        let answer = Self.framed(Self.answer(to: query, count: 60))
        for byte in answer { try accepted.send([byte]) }
        #expect(try client.receive(exactly: answer.count) == answer, "ids stay: the connection is the asker's own")
        client.finish()
        try accepted.send(answer)
        #expect(try client.receiveToEnd() == answer, "what was asked before the end is answered")
        try node.wait("closed") { $0.closed.count == 1 }
        #expect(node.seenNow.closed[0].reason == .MESH_REASON_NONE)
    }

    @Test func aConversationWithoutAResolverIsResetAndNamesTheReason() throws {
        defer { mesh.stop() }
        let client = try node.connect(to: mesh.resolver)
        try client.send(Self.framed(Self.query("www.example")))
        #expect(client.errorAtEnd() == ECONNRESET)
        try node.wait("closed") { $0.closed.count == 1 }
        #expect(node.seenNow.closed[0].reason == .MESH_REASON_NAMES_RESOLVER_FAILED)
    }

    @Test func aReaderThatStopsHoldsItsOwnConversationOnly() throws {
        defer { mesh.stop() }
        let server = TestSocket()
        try server.listen(mesh.resolver)
        let client = try node.connect(to: mesh.resolver)
        try client.send(Self.framed(Self.query("www.example")))
        let accepted = try server.accept()
        let answer = Self.framed(Self.answer(to: Self.query("www.example"), count: 200))
        var sent = 0
        var pauses = 0
        while sent < 64 << 20 && pauses < 40 {
            let count = accepted.trySend(Array(repeating: answer, count: 64).flatMap { $0 })
            if count > 0 { sent += count } else { pauses += 1; usleep(10_000) }
        }
        #expect(sent < 32 << 20, "\(sent) bytes went into a conversation that nobody reads")
        let other = try node.asker(of: mesh.resolver)
        try other.send(Self.query("web"))
        #expect(try other.receive().suffix(4) == [10, 96, 0, 10])
    }

    // MARK: names that egress depends on

    /// From now on the client may call names below `outside.example` and nothing else.
    private func listNames() throws {
        mesh.egressPolicies = [
            EgressPolicyResource(
                name: "x", namespace: "shop", selector: ["app": "client"], mode: .listed,
                allowed: [.init(.name("*.outside.example"), ports: [443])])
        ]
        try node.giveSnapshot()
        // What stands behind it in the proxy's queue is answered after it.
        _ = node.report()
    }

    @Test func anAnswerWaitsUntilTheKernelKnowsItsAddresses() throws {
        defer { mesh.stop() }
        try listNames()
        let client = try node.asker(of: mesh.resolver)
        try client.send(Self.query("WWW.outside.example"))
        let (message, from) = try asked()
        say(Self.answer(to: message, count: 2), to: from)
        try node.wait("resolution") { $0.resolved.count == 1 }
        let resolution = try #require(node.seenNow.resolved.first)
        let address = IPAddress(ipv4: 0xc000_0201)
        #expect(resolution.workload == mesh.instance("client") && resolution.name == "www.outside.example")
        #expect(resolution.addresses == [address, address] && resolution.timeToLiveSeconds == 60)
        var byte: UInt8 = 0
        #expect(recv(client.descriptor, &byte, 1, Int32(MSG_DONTWAIT | MSG_PEEK)) < 0, "answered too early")
        node.order(.nameAdmitted(token: resolution.token))
        #expect(try client.receive() == Self.answer(to: Self.query("WWW.outside.example"), count: 2))
        // Nobody's business: other names, other workloads, answers without addresses.
        for (asker, name, count) in [
            ("client", "www.example", 1), ("near", "www.outside.example", 1), ("client", "www.outside.example", 0),
        ] {
            let other = try node.asker(as: asker, of: mesh.resolver)
            try other.send(Self.query(name))
            let (message, from) = try asked()
            say(Self.answer(to: message, count: count), to: from)
            #expect(Self.code(try other.receive()) == 0, "\(name)")
        }
        #expect(node.seenNow.resolved.count == 1)
    }

    @Test func anAnswerThatNobodyAdmitsGoesOnAfterASecond() throws {
        defer { mesh.stop() }
        try listNames()
        let client = try node.asker(of: mesh.resolver)
        let start = ContinuousClock.now
        try client.send(Self.query("www.outside.example"))
        let (message, from) = try asked()
        say(Self.answer(to: message), to: from)
        #expect(Self.code(try client.receive()) == 0)
        #expect((.seconds(0.9)...(.seconds(5))).contains(ContinuousClock.now - start))
    }
}
