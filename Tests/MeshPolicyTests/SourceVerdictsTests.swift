import CMeshABI
import MeshModel
import MeshPolicy
import Testing

/// The tables by which the kernel judges plain text, against the decision that they were made of.
@Suite struct SourceVerdictsTests {
    private static let ports: [UInt16] = [80, 443, 8080, 9]

    /// As a longest-prefix trie answers.
    private func find(_ entries: [SourceVerdicts.Entry], _ source: IPAddress, _ port: UInt16) -> mesh_source_verdict? {
        entries.filter { $0.port == port && $0.source.contains(source) }
            .max { $0.source.prefixBits < $1.source.prefixBits }?.verdict
    }

    private func decision(
        _ source: IPAddress, _ workload: WorkloadView, _ port: UInt16, to other: IPAddress? = nil, _ snapshot: Snapshot
    ) -> mesh_source_verdict {
        let address = other ?? workload.address(isIPv6: false) ?? workload.address(isIPv6: true) ?? .unspecified
        let facts = ConnectionFacts(
            clientPrincipal: .none, clientNode: workload.node, source: SocketAddress(source, 4_000),
            destination: SocketAddress(address, port), channel: .plaintext(destinationWorkload: workload.id))
        switch authorize(facts, snapshot) {
        case .allowed: return .MESH_SOURCE_PASSES
        case .denied(let denial):
            return denial.reason == .MESH_REASON_POLICY_DENIED ? .MESH_SOURCE_DENIED : .MESH_SOURCE_STRICT
        }
    }

    @Test(arguments: [20_261_126, UInt64.random(in: 0...UInt64.max)])
    func tableSaysWhatTheDecisionSaysForEverySourceAndPort(seed: UInt64) throws {
        print("source verdicts: seed \(seed)")
        var random = SplitMix(seed: seed)
        var tally: [mesh_source_verdict: Int] = [:]
        for _ in 0..<400 {
            let world = RandomPolicies(using: &random)
            let snapshot = try snapshot(world, &random)
            for workload in snapshot.allWorkloads {
                let verdicts = SourceVerdicts(workload, snapshot)
                let (datagrams, exemptions) = (verdicts.datagrams, verdicts.exemptions)
                #expect(datagrams.count <= verdicts.count)
                for _ in 0..<25 {
                    let source = RandomPolicies.address(&random, Int.random(in: 0..<6, using: &random))
                    let port = random.pick(Self.ports)
                    let expected = decision(source, workload, port, snapshot)
                    tally[expected, default: 0] += 1
                    let found = find(datagrams, source, port) ?? find(datagrams, source, 0)
                    func text() -> String { "seed \(seed): \(source) to port \(port), \(world.policies), \(datagrams)" }
                    let probe = find(exemptions, source, port)
                    let isExempt = snapshot.isExempt(source, to: workload.id, port: port)
                    #expect((probe != nil) == isExempt, "\(text())")
                    guard namesDestinations(workload, snapshot) else {
                        #expect(found == expected && probe ?? expected == expected, "\(text())")
                        continue
                    }
                    // The socket may get what comes to other addresses of its host, too.
                    let others = (0..<4).map { _ in
                        RandomPolicies.address(&random, Int.random(in: 0..<6, using: &random))
                    }
                    for other in others + [own(workload)] where other.isIPv4 == source.isIPv4 {
                        guard found == .MESH_SOURCE_PASSES else { break }
                        #expect(
                            decision(source, workload, port, to: other, snapshot) == found, "at \(other), \(text())")
                    }
                }
            }
        }
        print(tally)
        for verdict in [mesh_source_verdict.MESH_SOURCE_PASSES, .MESH_SOURCE_STRICT, .MESH_SOURCE_DENIED] {
            #expect(tally[verdict, default: 0] > 3_000, "decisions that are all alike would say little")
        }
    }

    private func own(_ workload: WorkloadView) -> IPAddress {
        workload.address(isIPv6: false) ?? workload.address(isIPv6: true) ?? .unspecified
    }

    private func namesDestinations(_ workload: WorkloadView, _ snapshot: Snapshot) -> Bool {
        let policies = snapshot.policies(of: workload.id).map { $0.map(snapshot.authorizationPolicy) } ?? []
        return policies.flatMap(\.rules).flatMap(\.when).contains {
            if case .destinationAddress = $0 { true } else { false }
        }
    }

    private func snapshot(_ world: RandomPolicies, _ random: inout SplitMix) throws -> Snapshot {
        var builder = SnapshotBuilder(
            localNode: "a", trustDomain: RandomPolicies.trustDomain, rootNamespace: RandomPolicies.rootNamespace)
        var portModes: [UInt16: InboundSetting] = [:]
        for port in Self.ports.dropLast() where random.chance(0.3) {
            portModes[port] = random.pick([.strict, .permissive])
        }
        let exemptions = (0..<random.pick([0, 1, 2])).map { _ in
            PeerAuthenticationResource.Exemption(source: RandomPolicies.block(&random), port: random.pick(Self.ports))
        }
        let mode = PeerAuthenticationResource(
            name: "mode", namespace: RandomPolicies.rootNamespace,
            mode: random.pick([.strict, .permissive, .permissive]),
            portModes: portModes, exemptions: exemptions)
        return try builder.build(
            ResourceSet(
                nodes: [NodeResource(name: "a")], workloads: world.workloads, authorizationPolicies: world.policies,
                peerAuthentications: [mode]),
            instances: world.workloads.enumerated().map {
                LocalInstance(
                    resource: $1.key, workload: WorkloadID(rawValue: UInt32($0 + 1)), networkNamespace: .node,
                    cgroupID: UInt64($0))
            })
    }

    /// Of 0.0.0.0/0 nothing is left where its halves have entries of their own.
    @Test func blockThatOthersFillHasNoEntry() throws {
        var world = PolicyWorld()
        let halves = ["0.0.0.0/1", "128.0.0.0/1"].compactMap { AddressBlock(parsing: $0) }
        world.modes = [PeerAuthenticationResource(name: "open", namespace: "shop", mode: .permissive)]
        var source = AuthorizationPolicyResource.Source()
        source.addresses = PolicyMatch(halves)
        world.policies = [
            AuthorizationPolicyResource(
                name: "halves", namespace: "shop", action: .deny, rules: [.init(from: [source])])
        ]
        let snapshot = try world.snapshot()
        let web = try #require(snapshot.workload(PolicyWorld.web))
        let entries = SourceVerdicts(web, snapshot).datagrams.filter { $0.port == 0 }
        let ipv4 = entries.filter(\.source.address.isIPv4)
        #expect(ipv4.map(\.source) == halves && ipv4.allSatisfy { $0.verdict == .MESH_SOURCE_DENIED })
        #expect(entries.filter { !$0.source.address.isIPv4 }.map(\.verdict) == [.MESH_SOURCE_PASSES])
    }

    @Test func whatIsOpenAtOneAddressAloneIsOpenAtNone() throws {
        var world = PolicyWorld()
        world.modes = [PeerAuthenticationResource(name: "open", namespace: "shop", mode: .permissive)]
        world.policies = [
            AuthorizationPolicyResource(
                name: "here", namespace: "shop",
                rules: [.init(when: [.destinationAddress(PolicyMatch([AddressBlock(PolicyWorld.address)]))])])
        ]
        let snapshot = try world.snapshot()
        let web = try #require(snapshot.workload(PolicyWorld.web))
        #expect(SourceVerdicts(web, snapshot).datagrams.allSatisfy { $0.verdict == .MESH_SOURCE_DENIED })
    }
}
