import MeshModel
import MeshPolicy
import Testing

/// The compiled decision against the naive one, over random policies and connections.
@Suite struct EvaluatorComparisonTests {
    private static let pairsPerSeed = 60_000
    private static let connectionsPerWorld = 120

    struct Tally {
        var pairs = 0
        var allowedByRule = 0
        var denied = 0
        var deniedByRule = 0
        var trial = 0
        var remedies = 0
    }

    @Test(arguments: [20_260_728, UInt64.random(in: 0...UInt64.max)])
    func bothEvaluatorsAgreeOnRandomPoliciesAndConnections(seed: UInt64) throws {
        print("evaluator comparison: seed \(seed)")
        var random = SplitMix(seed: seed)
        var tally = Tally()
        let clock = ContinuousClock()
        let start = clock.now
        while tally.pairs < Self.pairsPerSeed {
            try compare(RandomPolicies(using: &random), &random, &tally, seed: seed)
        }
        let pairs = Double(tally.pairs)
        print("\(tally) in \(clock.now - start)")
        // A comparison of decisions that are all alike would say little.
        #expect(Double(tally.allowedByRule) > pairs * 0.08 && Double(tally.denied) > pairs * 0.1)
        #expect(Double(tally.deniedByRule) > pairs * 0.03 && Double(tally.trial) > pairs * 0.02)
    }

    private func compare(
        _ world: RandomPolicies, _ random: inout SplitMix, _ tally: inout Tally, seed: UInt64
    ) throws {
        var builder = SnapshotBuilder(
            localNode: "a", trustDomain: RandomPolicies.trustDomain, rootNamespace: RandomPolicies.rootNamespace)
        let instances = world.workloads.enumerated().map {
            LocalInstance(
                resource: $1.key, workload: WorkloadID(rawValue: UInt32($0 + 1)), networkNamespace: .node,
                cgroupID: UInt64($0))
        }
        let resources = ResourceSet(
            nodes: [NodeResource(name: "a")], workloads: world.workloads, authorizationPolicies: world.policies)
        let snapshot = try builder.build(resources, instances: instances)
        // Of two with one name the snapshot has the first: the naive one is told the same policies.
        var seen: Set<ResourceName> = []
        let naive = NaiveEvaluator(
            policies: world.policies.filter { seen.insert($0.key).inserted },
            rootNamespace: RandomPolicies.rootNamespace)
        for _ in 0..<Self.connectionsPerWorld {
            let client = random.chance(0.15) ? nil : random.pick(world.workloads)
            let server = Int.random(in: world.workloads.indices, using: &random)
            let source = random.chance(0.7) ? client?.addresses.first : nil
            let address = source ?? RandomPolicies.address(&random, Int.random(in: 0..<6, using: &random))
            let destination = SocketAddress(
                world.workloads[server].addresses[0], random.pick([80, 443, 8080, 9]))
            let found = verdict(
                snapshot, client, address, WorkloadID(rawValue: UInt32(server + 1)), destination)
            let expected = naive.verdict(
                NaiveEvaluator.Client(
                    trustDomain: client.map { _ in RandomPolicies.trustDomain }, namespace: client?.namespace ?? "",
                    account: client?.serviceAccount ?? "", address: address),
                world.workloads[server], destination)
            tally.pairs += 1
            if found.verdict != expected.verdict || found.wouldDeny != expected.wouldDeny {
                Issue.record(
                    """
                    seed \(seed), pair \(tally.pairs): \(found) but naively \(expected); from \(client?.key.description ?? "nobody")
                    at \(address) to \(world.workloads[server].key) at \(destination); policies \(world.policies)
                    """)
                throw Disagreement()
            }
            count(found, &tally)
            if let client, tally.pairs % 16 == 0 {
                explain(snapshot, client, address, world.workloads[server], destination, found.verdict, &tally)
            }
        }
    }

    /// What is explained must be what is decided, rule by rule, and what is proposed must help.
    private func explain(
        _ snapshot: Snapshot, _ client: WorkloadResource, _ source: IPAddress, _ server: WorkloadResource,
        _ destination: SocketAddress, _ verdict: NaiveEvaluator.Verdict, _ tally: inout Tally
    ) {
        guard let workload = snapshot.allWorkloads.first(where: { $0.key == server.key }),
            let selection = snapshot.policies(of: workload.id)
        else {
            Issue.record("no workload \(server.key)")
            return
        }
        let principal = Principal(
            trustDomain: RandomPolicies.trustDomain, namespace: client.namespace,
            serviceAccount: client.serviceAccount)
        let answer = PolicyExplanation(
            PolicyClient(principal: principal, address: source, name: "x"), to: workload, port: destination.port,
            snapshot)
        let subject = snapshot.resolve(
            PolicySubject(
                principal: principal.flatMap { snapshot.principalID(of: $0.uri) } ?? .none, source: source,
                destination: destination))
        #expect(answer.steps.map(\.matchingRule) == selection.map { subject.matchingRule(of: $0) })
        #expect("\(verdict)".hasSuffix("\(answer.decidedBy)"), "\(verdict), explained as \(answer.decidedBy)")
        if !answer.isAllowed {
            tally.remedies += 1
            #expect(PolicyRemedy(answer, snapshot) != nil, "nothing helps against \(verdict)")
        }
    }

    private struct Disagreement: Error {}

    private func count(_ found: (verdict: NaiveEvaluator.Verdict, wouldDeny: Bool), _ tally: inout Tally) {
        switch found.verdict {
        case .allowed(let why): if why.hasSuffix("]") { tally.allowedByRule += 1 }
        case .denied(let why):
            tally.denied += 1
            if why.hasSuffix("]") { tally.deniedByRule += 1 }
        }
        if found.wouldDeny { tally.trial += 1 }
    }

    private func verdict(
        _ snapshot: Snapshot, _ client: WorkloadResource?, _ source: IPAddress, _ workload: WorkloadID,
        _ destination: SocketAddress
    ) -> (verdict: NaiveEvaluator.Verdict, wouldDeny: Bool) {
        let principal = client.flatMap {
            snapshot.principalID(
                of: "spiffe://\(RandomPolicies.trustDomain)/ns/\($0.namespace)/sa/\($0.serviceAccount)")
        }
        let verdict = policyVerdict(
            PolicySubject(principal: principal ?? .none, source: source, destination: destination), workload, snapshot)
        func text(_ rule: DecidingRule) -> String {
            let text = RuleName(rule, snapshot)
            return "\(text.policy) \(text.rule)"
        }
        switch verdict {
        case .allowed(let rule, let trial): return (.allowed(text(rule)), trial != nil)
        case .denied(let rule): return (.denied(text(rule)), false)
        }
    }
}
