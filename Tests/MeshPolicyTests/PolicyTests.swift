import CMeshABI
@testable import MeshModel
import MeshPolicy
import Testing

@Suite struct PolicyTests {
    private typealias Policy = AuthorizationPolicyResource

    private static func account(_ names: String..., not: [String] = []) -> Policy.Rule {
        var source = Policy.Source()
        source.serviceAccounts = PolicyMatch(
            names.map { ServiceAccountName(namespace: "shop", name: $0) },
            not: not.map { ServiceAccountName(namespace: "shop", name: $0) })
        return Policy.Rule(from: [source])
    }

    private static func port(_ ports: UInt16...) -> Policy.Rule { Policy.Rule(to: [.init(ports: PolicyMatch(ports))]) }

    private func texts(
        _ policies: [Policy], modes: [PeerAuthenticationResource] = [], _ clients: [(String?, UInt16)]
    ) throws -> [String] {
        let snapshot = try PolicyWorld(policies: policies, modes: modes).snapshot()
        return clients.map { PolicyWorld.text(PolicyWorld.judge($0.0, port: $0.1, snapshot), snapshot) }
    }

    @Test func withoutPoliciesEveryMemberMayCall() throws {
        #expect(try texts([], [("curl", 80)]) == ["allow no-policy"])
        let elsewhere = Policy(name: "x", namespace: "shop", selector: ["app": "db"], action: .deny, rules: [.init()])
        #expect(try texts([elsewhere], [("curl", 80)]) == ["allow no-policy"])
    }

    @Test func onceAnAllowPolicySelectsOneOfThemMustMatch() throws {
        let policies = [
            Policy(name: "b", namespace: "shop", rules: [Self.port(443), Self.account("curl")]),
            Policy(name: "c", namespace: "shop", rules: [Self.port(8080)]),
        ]
        #expect(
            try texts(policies, [("curl", 80), ("cron", 443), ("cron", 8080), ("cron", 80)]) == [
                "allow shop/b rules[1]", "allow shop/b rules[0]", "allow shop/c rules[0]",
                "deny policy_denied shop/b no-match",
            ])
    }

    @Test func aPolicyWithoutRulesAllowsNothingAndOneWithAnEmptyRuleEverything() throws {
        #expect(
            try texts([Policy(name: "none", namespace: "shop")], [("curl", 80)]) == [
                "deny policy_denied shop/none no-match"
            ])
        #expect(
            try texts([Policy(name: "all", namespace: "shop", rules: [.init()])], [("curl", 80)]) == [
                "allow shop/all rules[0]"
            ])
    }

    @Test func aDenyThatMatchesWinsOverEveryAllow() throws {
        let policies = [
            Policy(name: "all", namespace: "shop", rules: [.init()]),
            Policy(name: "no", namespace: "culvert-system", action: .deny, rules: [Self.account("cron")]),
        ]
        #expect(
            try texts(policies, [("curl", 80), ("cron", 80)]) == [
                "allow shop/all rules[0]", "deny policy_denied culvert-system/no rules[0]",
            ])
    }

    @Test func anEmptySourceOrOperationNeverMatches() throws {
        let empty = [Policy.Rule(from: [Policy.Source()]), Policy.Rule(to: [Policy.Operation()])]
        #expect(
            try texts([Policy(name: "x", namespace: "shop", action: .deny, rules: empty)], [("curl", 80)]) == [
                "allow no-policy"
            ])
        #expect(
            try texts([Policy(name: "x", namespace: "shop", rules: empty)], [("curl", 80)]) == [
                "deny policy_denied shop/x no-match"
            ])
    }

    @Test func policiesOnTrialAreToldAndNeverEnforced() throws {
        func trial(_ name: String, _ action: Policy.Action, _ rules: [Policy.Rule]) -> Policy {
            Policy(name: name, namespace: "shop", action: action, isDryRun: true, rules: rules)
        }
        #expect(
            try texts([trial("no", .deny, [Self.account("curl")])], [("curl", 80), ("cron", 80)]) == [
                "allow no-policy, on trial shop/no rules[0]", "allow no-policy",
            ])
        #expect(
            try texts([trial("few", .allow, [Self.account("cron")])], [("curl", 80), ("cron", 80)]) == [
                "allow no-policy, on trial shop/few no-match", "allow no-policy",
            ])
        // What an enforced policy allows, a further ALLOW on trial would not take away.
        let enforced = Policy(name: "a", namespace: "shop", rules: [Self.account("curl")])
        #expect(
            try texts([enforced, trial("few", .allow, [Self.account("cron")])], [("curl", 80), ("cron", 80)]) == [
                "allow shop/a rules[0]", "deny policy_denied shop/a no-match",
            ])
    }

    @Test func nobodyIsRefusedByAStrictPortAndJudgedAsNobodyElsewhere() throws {
        let permissive = PeerAuthenticationResource(
            name: "p", namespace: "shop", selector: ["app": "web"], mode: .strict, portModes: [80: .permissive])
        #expect(
            try texts([], modes: [permissive], [(nil, 80), (nil, 81)]) == [
                "allow no-policy", "deny plaintext_refused strict",
            ])
        #expect(try texts([], [(nil, 80)]) == ["deny plaintext_refused strict"])
        let members = Policy(
            name: "members", namespace: "shop",
            rules: [.init(when: [.sourcePrincipal(PolicyMatch([.any]))])])
        #expect(
            try texts([members], modes: [permissive], [(nil, 80), ("curl", 80)]) == [
                "deny policy_denied shop/members no-match", "allow shop/members rules[0]",
            ])
        // As in Istio: nobody is not one of those that are named.
        let others = Policy(name: "others", namespace: "shop", action: .deny, rules: [Self.account(not: ["curl"])])
        #expect(
            try texts([others], modes: [permissive], [(nil, 80), ("curl", 80)]) == [
                "deny policy_denied shop/others rules[0]", "allow no-policy",
            ])
    }

    @Test func exemptionsNameSourceAndPort() throws {
        let block = try #require(AddressBlock(parsing: "10.0.0.2"))
        let modes = [
            PeerAuthenticationResource(
                name: "p", namespace: "shop", mode: .strict, exemptions: [.init(source: block, port: 80)])
        ]
        #expect(
            try texts([], modes: modes, [(nil, 80), (nil, 81)]) == [
                "allow no-policy", "deny plaintext_refused strict",
            ])
        let snapshot = try PolicyWorld(modes: modes).snapshot()
        let other = PolicyWorld.judge(nil, from: IPAddress(ipv4: 0x0a00_0009), snapshot)
        #expect(PolicyWorld.text(other, snapshot) == "deny plaintext_refused strict")
    }

    @Test func aPolicyThatTheSnapshotDoesNotHaveDenies() throws {
        let policies = ["a", "b"].map { Policy(name: $0, namespace: "shop", rules: [.init()]) }
        let whole = try PolicyWorld(policies: policies).snapshot()
        var bytes = whole.withBytes { Array($0) }
        bytes.withUnsafeMutableBytes { bytes in
            let entry = bytes.load(
                fromByteOffset: MemoryLayout<SnapshotHeader>.stride
                    + SnapshotSectionKind.policySelections.rawValue * MemoryLayout<SnapshotSectionEntry>.stride,
                as: SnapshotSectionEntry.self)
            #expect(entry.count == 2)
            // The second one, behind a policy that allows everything.
            bytes.storeBytes(of: 77, toByteOffset: Int(entry.offset) + 4, as: UInt32.self)
            let sum = SnapshotHash.checksum(UnsafeRawBufferPointer(rebasing: bytes[SnapshotHeader.checksumFrom...]))
            bytes.storeBytes(of: sum, toByteOffset: SnapshotHeader.checksumFrom - 8, as: UInt64.self)
        }
        let damaged = try Snapshot(bytes: bytes)
        #expect(PolicyWorld.text(PolicyWorld.judge("curl", whole), whole) == "allow shop/a rules[0]")
        #expect(PolicyWorld.text(PolicyWorld.judge("curl", damaged), damaged) == "deny policy_denied unknown-policy")
    }

    @Test func whatWasAllowedIsJudgedAgainByPoliciesAndModesOnly() throws {
        let before = try PolicyWorld(modes: [
            PeerAuthenticationResource(name: "p", namespace: "shop", mode: .permissive)
        ])
        .snapshot()
        let after = try PolicyWorld(policies: [
            Policy(name: "no", namespace: "shop", action: .deny, rules: [Self.account("cron")])
        ]).snapshot()
        func live(_ client: String?) throws -> LiveConnection {
            guard case .allowed(let permit) = PolicyWorld.judge(client, before) else { throw Missing() }
            return LiveConnection(permit, source: PolicyWorld.clientAddress, isPlaintext: client == nil)
        }
        #expect(try denial(of: live("curl"), after) == nil)
        #expect(try denial(of: live("cron"), after)?.reason == .MESH_REASON_POLICY_DENIED)
        #expect(try denial(of: live(nil), after)?.reason == .MESH_REASON_PLAINTEXT_REFUSED)
        #expect(try denial(of: live(nil), before) == nil)
        var gone = try live("curl")
        gone.workload = WorkloadID(rawValue: 99)
        #expect(denial(of: gone, after)?.reason == .MESH_REASON_WORKLOAD_GONE)
        #expect(denial(of: LiveConnection(), after) == nil)
    }

    private struct Missing: Error {}
}
