import CMeshABI
@testable import MeshModel
import MeshPolicy
import Testing

/// Questions about destinations outside the mesh.
@Suite struct EgressExplanationTests {
    private typealias Policy = EgressPolicyResource

    private static let listed = Policy(
        name: "few", namespace: "shop", selector: ["app": "curl"], mode: .listed,
        allowed: [
            .init(.addresses(AddressBlock(IPAddress(ipv4: 0xc000_0201))), ports: [443]),
            .init(.name("*.example.org"), ports: [443, 80]),
        ])

    private func answers(
        _ from: String, _ to: String, _ port: UInt16, _ policies: [Policy]
    ) throws -> (answers: [PolicyAnswer], snapshot: Snapshot) {
        var world = PolicyWorld()
        world.egress = policies
        let snapshot = try world.snapshot()
        return (try PolicyQuestion(from: from, to: to, port: port).allAnswers(snapshot), snapshot)
    }

    private func outside(
        _ to: String, _ port: UInt16 = 443, from: String = "curl", by policies: [Policy]
    ) throws -> EgressExplanation {
        let first = try #require(try answers(from, to, port, policies).answers.first)
        return try #require(Self.outside(first))
    }

    private static func outside(_ answer: PolicyAnswer) -> EgressExplanation? {
        if case .outside(let answer) = answer { answer } else { nil }
    }

    @Test(arguments: [
        ("192.0.2.1", 443, "shop/few allow[0]"), ("192.0.2.1", 80, "shop/few no-match"),
        ("192.0.2.2", 443, "shop/few no-match"), ("api.example.org", 80, "shop/few allow[1]"),
        ("API.example.org.", 443, "shop/few allow[1]"), ("example.org", 443, "shop/few no-match"),
        ("api.example.org", 22, "shop/few no-match"), ("192.0.2.2", 53, "names"),
    ])
    func theListDecides(_ question: (to: String, port: UInt16, by: String)) throws {
        let answer = try outside(question.to, question.port, by: [Self.listed])
        #expect(answer.decidedBy.description == question.by)
        #expect(answer.isAllowed == !question.by.hasSuffix("no-match"))
        #expect((answer.reason == .MESH_REASON_EGRESS_DENIED) == !answer.isAllowed)
    }

    @Test func theMostSpecificPolicyHoldsAndTheOthersAreShown() throws {
        let all = Policy(name: "none", namespace: "shop", mode: .deny)
        let answer = try outside("192.0.2.9", by: [all, Self.listed])
        #expect(answer.steps.map(\.policy.name) == ["few", "none"] && answer.steps.map(\.holds) == [true, false])
        #expect(
            answer.steps.first?.misses
                == ["192.0.2.1 is not 192.0.2.9", "*.example.org is a name"])
        #expect(answer.namesThatMayStandForIt == ["*.example.org"])
        #expect(
            try outside("192.0.2.9", from: "cron", by: [all, Self.listed]).decidedBy.description
                == "shop/none mode-deny")
        #expect(try outside("192.0.2.9", by: []).decidedBy.description == "no-policy")
        let open = Policy(name: "open", namespace: "shop", mode: .allow)
        #expect(try outside("2001:db8::1", by: [open]).decidedBy.description == "shop/open mode-allow")
    }

    @Test func theRemedyListsTheDestinationAndNothingElse() throws {
        let (answers, snapshot) = try answers("curl", "192.0.2.9", 443, [Self.listed])
        let denied = try #require(answers.first.flatMap(Self.outside))
        let remedy = try #require(EgressRemedy(denied, snapshot))
        #expect(remedy.replaces && remedy.policy.name == "few")
        #expect(remedy.policy.allowed.dropLast() == Self.listed.allowed[...])
        #expect(try outside("192.0.2.9", by: [remedy.policy]).isAllowed)
        #expect(try !outside("192.0.2.9", 80, by: [remedy.policy]).isAllowed)
        #expect(EgressRemedy(try outside("192.0.2.1", by: [Self.listed]), snapshot) == nil)
    }

    @Test func theRemedyForOneOfManyIsAPolicyOfItsOwn() throws {
        let all = Policy(name: "none", namespace: "shop", mode: .deny, allowsRawSockets: true)
        let (answers, snapshot) = try answers("curl", "api.example.org", 443, [all])
        let denied = try #require(answers.first.flatMap(Self.outside))
        let remedy = try #require(EgressRemedy(denied, snapshot))
        #expect(
            remedy.policy
                == Policy(
                    name: "curl-egress", namespace: "shop", selector: ["app": "curl"], mode: .listed,
                    allowed: [.init(.name("api.example.org"), ports: [443])], allowsRawSockets: true))
        #expect(!remedy.replaces)
        #expect(try outside("api.example.org", by: [all, remedy.policy]).isAllowed)
        #expect(try !outside("api.example.org", from: "cron", by: [all, remedy.policy]).isAllowed)
    }

    @Test func anAddressOfTheMeshIsAskedAboutAsWhatHasIt() throws {
        let deny = Policy(name: "none", namespace: "shop", mode: .deny)
        for (from, to) in [("curl", "10.0.0.1"), ("nobody", "10.0.0.1")] {
            guard case .inside(let answer)? = try answers(from, to, 80, [deny]).answers.first else {
                Issue.record("\(from) to \(to) leaves the mesh")
                continue
            }
            #expect(answer.workload.name == "web")
        }
    }

    @Test(arguments: [
        ("nobody", "192.0.2.1"), ("192.0.2.7", "api.example.org"), ("crul", "192.0.2.1"), ("curl", "127.0.0.1"),
        ("curl", "wbe"), ("curl", "shop/wbe"), ("curl", "*.example.org"), ("curl", "a..b"),
    ])
    func whatIsNoWorkloadOrNoDestinationIsAnError(_ question: (from: String, to: String)) throws {
        #expect(throws: UnknownName.self) { try answers(question.from, question.to, 443, [Self.listed]) }
    }

    @Test func aSimulationJudgesWhatLeftByTheCandidate() throws {
        var world = PolicyWorld()
        world.egress = [Self.listed]
        var simulation = EgressSimulation(try world.snapshot())
        func connection(_ text: String, _ name: String = "curl", allowed: Bool = true) throws
            -> EgressSimulation.Connection
        {
            EgressSimulation.Connection(
                workload: ResourceName(namespace: "shop", name: name),
                destination: try #require(SocketAddress(parsing: text)), wasAllowed: allowed)
        }
        for _ in 0..<2 { simulation.replay(try connection("192.0.2.1:22")) }
        simulation.replay(try connection("192.0.2.1:443"))
        simulation.replay(try connection("192.0.2.1:443", allowed: false))
        simulation.replay(try connection("198.51.100.1:443"))  // It may be a name's.
        simulation.replay(try connection("192.0.2.1:22", "cron"))
        simulation.replay(try connection("192.0.2.1:22", "gone"))
        #expect(simulation.replayed == 6 && simulation.skipped == 1 && simulation.unclear == 1)
        let lines = simulation.changes.map { "\($0.key.isAllowed) \($0.key.decidedBy) \($0.value)" }.sorted()
        #expect(lines == ["false shop/few no-match 2", "true shop/few allow[0] 1"])
    }
}
