import CMeshABI
import MeshModel
import MeshPolicy
import Testing

@Suite struct ExplanationTests {
    private typealias Policy = AuthorizationPolicyResource

    private func world(_ policies: [Policy], _ modes: [PeerAuthenticationResource] = []) throws -> Snapshot {
        try PolicyWorld(policies: policies, modes: modes).snapshot()
    }

    private func answer(_ from: String, _ snapshot: Snapshot, port: UInt16 = 80) throws -> PolicyExplanation {
        try #require(try PolicyQuestion(from: from, to: "shop/web", port: port).answers(snapshot).first)
    }

    @Test func namesMayBeWorkloadsPrincipalsAddressesOrNobody() throws {
        let snapshot = try world([])
        for from in [
            "shop/curl", "curl", "spiffe://mesh.test/ns/shop/sa/curl", "mesh.test/ns/shop/sa/curl", "10.0.0.2",
        ] {
            let client = try answer(from, snapshot).client
            #expect(
                client.principal?.serviceAccount == "curl" && client.address == PolicyWorld.clientAddress, "\(from)")
        }
        #expect(try answer("nobody", snapshot).client.principal == nil)
        #expect(
            try answer("192.0.2.9", snapshot).client
                == PolicyClient(
                    principal: nil, address: IPAddress(ipv4: 0xc000_0209), name: "nobody at 192.0.2.9"))
        #expect(throws: UnknownName.self) { try PolicyQuestion(from: "crul", to: "web", port: 80).answers(snapshot) }
        #expect(throws: UnknownName.self) { try PolicyQuestion(from: "curl", to: "wbe", port: 80).answers(snapshot) }
        let stranger = try answer("mesh.test/ns/shop/sa/stranger", snapshot)
        #expect(stranger.reason == .MESH_REASON_PRINCIPAL_UNKNOWN && PolicyRemedy(stranger, snapshot) == nil)
    }

    @Test func everyRuleThatDoesNotMatchSaysWhy() throws {
        var source = Policy.Source()
        source.serviceAccounts = PolicyMatch([ServiceAccountName(namespace: "shop", name: "cron")])
        let snapshot = try world([
            Policy(
                name: "few", namespace: "shop",
                rules: [
                    .init(from: [source]), .init(to: [.init(ports: PolicyMatch([443]))]),
                    .init(when: [.sourcePrincipal(PolicyMatch([], not: [.any]))]),
                ])
        ])
        let answer = try answer("curl", snapshot)
        #expect(!answer.isAllowed && answer.decidedBy == RuleName(policy: "shop/few", rule: "no-match"))
        #expect(
            answer.steps.first?.misses == [
                "from[0].source.serviceAccounts: shop/curl is none of shop/cron",
                "to[0].operation.ports: 80 is none of 443",
                "when[0].notValues: mesh.test/ns/shop/sa/curl is * (source.principal)",
            ])
    }

    @Test func theRemedyForNobodyAtAStrictPortPermitsThatPortAlone() throws {
        let snapshot = try world([])
        let answer = try answer("nobody", snapshot)
        #expect(answer.reason == .MESH_REASON_PLAINTEXT_REFUSED)
        let remedy = try #require(PolicyRemedy(answer, snapshot))
        #expect(remedy.authorizationPolicies.isEmpty && remedy.changed.isEmpty)
        #expect(
            remedy.peerAuthentications == [
                PeerAuthenticationResource(
                    name: "web-plaintext", namespace: "shop", selector: ["app": "web"], portModes: [80: .permissive])
            ])
    }

    @Test func theRemedyOfADenyExceptsTheClientAndOfNoMatchAddsARule() throws {
        let snapshot = try world([
            Policy(name: "no", namespace: "shop", action: .deny, rules: [.init()]),
            Policy(name: "none", namespace: "shop"),
        ])
        let answer = try answer("curl", snapshot)
        let remedy = try #require(PolicyRemedy(answer, snapshot))
        #expect(remedy.changed == [ResourceName(namespace: "shop", name: "no")])
        #expect(remedy.authorizationPolicies.map(\.name) == ["no", "web-from-curl"])
        let after = try world(
            remedy.authorizationPolicies + [Policy(name: "none", namespace: "shop")])
        #expect(try self.answer("curl", after).isAllowed)
        #expect(try !self.answer("cron", after).isAllowed)
        #expect(try !self.answer("curl", after, port: 81).isAllowed)
    }

    @Test func aSimulationListsWhatWouldChange() throws {
        let snapshot = try world([Policy(name: "no", namespace: "shop", action: .deny, rules: [.init()])])
        var simulation = PolicySimulation(snapshot)
        func connection(_ principal: String, allowed: Bool) -> PolicySimulation.Connection {
            PolicySimulation.Connection(
                principal: principal, source: PolicyWorld.clientAddress,
                workload: ResourceName(namespace: "shop", name: "web"), port: 80, wasAllowed: allowed)
        }
        let curl = "spiffe://mesh.test/ns/shop/sa/curl"
        for _ in 0..<3 { simulation.replay(connection(curl, allowed: true)) }
        simulation.replay(connection(curl, allowed: false))
        var gone = connection(curl, allowed: true)
        gone.workload.name = "gone"
        simulation.replay(gone)
        #expect(simulation.replayed == 4 && simulation.skipped == 1 && simulation.changes.count == 1)
        let change = try #require(simulation.changes.first)
        #expect(change.value == 3 && !change.key.isAllowed)
        #expect(change.key.decidedBy == RuleName(policy: "shop/no", rule: "rules[0]"))
    }
}
