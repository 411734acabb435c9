@testable import MeshModel
import Testing

@Suite struct PolicySnapshotTests {
    private func workload(_ name: String, _ namespace: String = "shop", _ labels: [String: String] = [:])
        -> WorkloadResource
    {
        WorkloadResource(
            name: name, namespace: namespace, serviceAccount: name, node: "a",
            selector: WorkloadSelector(.cgroup(pattern: name)), labels: labels)
    }

    private func snapshot(_ change: (inout ResourceSet) -> Void) throws -> Snapshot {
        var resources = ResourceSet(
            workloads: [
                workload("web", "shop", ["app": "web"]), workload("db", "shop", ["app": "db"]), workload("cron", "ops"),
            ])
        change(&resources)
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "mesh.test")
        return try builder.build(resources)
    }

    private func id(_ name: String, _ snapshot: Snapshot) -> WorkloadID {
        snapshot.allWorkloads.first { $0.name == name }?.id ?? .none
    }

    @Test func everythingThatPoliciesSayComesBackFromTheBytes() throws {
        let snapshot = try snapshot { SamplePolicies.add(to: &$0) }
        let again = ResourceSet(of: snapshot)
        // In the order in which they decide: denials, then what allows, then what is not enforced.
        #expect(again.authorizationPolicies.map(\.name) == ["all", "nothing", "trial"])
        #expect(Set(again.authorizationPolicies) == Set(SamplePolicies.authorization))
        #expect(again.peerAuthentications == SamplePolicies.peerAuthentication)
        #expect(again.egressPolicies == SamplePolicies.egress)
        #expect(snapshot.rootNamespace == "culvert-system")
    }

    @Test func policyGenerationChangesWithEveryKindOfPolicyAndWithNothingElse() throws {
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "mesh.test")
        var resources = ResourceSet(workloads: [workload("web")])
        var generations: [UInt32] = []
        func build() throws { generations.append(try builder.build(resources).policyGeneration) }
        try build()
        resources.authorizationPolicies = [AuthorizationPolicyResource(name: "x", namespace: "shop")]
        try build()
        resources.peerAuthentications = [PeerAuthenticationResource(name: "x", namespace: "shop", mode: .permissive)]
        try build()
        resources.egressPolicies = [EgressPolicyResource(name: "x", namespace: "shop", mode: .deny)]
        try build()
        resources.authorizationPolicies[0].isDryRun = true
        try build()
        resources.services = [ServiceResource(name: "s", namespace: "shop", virtualAddresses: [IPAddress(ipv4: 9)])]
        try build()
        resources.workloads[0].addresses = [IPAddress(ipv4: 7)]
        try build()
        #expect(generations == [1, 2, 3, 4, 5, 5, 5])
        // The namespace that reaches the whole mesh decides what they select.
        var other = SnapshotBuilder(localNode: "a", trustDomain: "mesh.test", rootNamespace: "shop", ids: builder.ids)
        #expect(try other.build(resources).policyGeneration == 6)
    }

    @Test func workloadsAreSelectedByScopeAndLabels() throws {
        func policy(_ name: String, _ namespace: String, _ labels: [String: String] = [:])
            -> AuthorizationPolicyResource
        {
            AuthorizationPolicyResource(name: name, namespace: namespace, selector: labels)
        }
        let snapshot = try snapshot {
            $0.authorizationPolicies = [
                policy("mesh", "culvert-system"), policy("mesh-web", "culvert-system", ["app": "web"]),
                policy("shop", "shop"), policy("db", "shop", ["app": "db"]),
                policy("both", "shop", ["app": "db", "tier": "x"]), policy("ops-web", "ops", ["app": "web"]),
            ]
        }
        func names(_ workload: String) -> [String]? {
            snapshot.policies(of: id(workload, snapshot))?.map { snapshot.name(of: $0).name }
        }
        #expect(names("web") == ["mesh", "mesh-web", "shop"])
        #expect(names("db") == ["mesh", "db", "shop"])
        #expect(names("cron") == ["mesh"])
        #expect(names("nobody") == nil)
    }

    @Test func theMostSpecificPeerAuthenticationHoldsPortByPort() throws {
        let snapshot = try snapshot {
            $0.peerAuthentications = [
                PeerAuthenticationResource(
                    name: "mesh", namespace: "culvert-system", mode: .permissive,
                    exemptions: [.init(source: SamplePolicies.block("10.9.0.0/16"), port: 80)]),
                PeerAuthenticationResource(name: "ops", namespace: "ops", mode: .strict),
                PeerAuthenticationResource(
                    name: "web", namespace: "shop", selector: ["app": "web"],
                    portModes: [80: .strict, 81: .unset]),
            ]
        }
        func mode(_ name: String, _ port: UInt16) -> InboundMode {
            snapshot.inboundMode(of: id(name, snapshot), port: port)
        }
        #expect(mode("web", 80) == .strict && mode("web", 81) == .permissive && mode("web", 82) == .permissive)
        #expect(mode("db", 80) == .permissive && mode("cron", 80) == .strict && mode("nobody", 80) == .strict)
        let probe = IPAddress(ipv4: 0x0a09_0001)
        #expect(snapshot.isExempt(probe, to: id("web", snapshot), port: 80))
        #expect(!snapshot.isExempt(probe, to: id("web", snapshot), port: 81))
        #expect(!snapshot.isExempt(IPAddress(ipv4: 0x0a0a_0001), to: id("web", snapshot), port: 80))
        #expect(snapshot.inboundExemptions(of: id("cron", snapshot)).count == 1)
        #expect(try self.snapshot { _ in }.inboundMode(of: id("web", snapshot), port: 80) == .strict)
    }

    @Test func ofSeveralInOneScopeTheStricterOneHolds() throws {
        let snapshot = try snapshot {
            $0.peerAuthentications = [
                PeerAuthenticationResource(name: "a", namespace: "shop", mode: .permissive),
                PeerAuthenticationResource(name: "b", namespace: "shop", mode: .strict),
            ]
            $0.egressPolicies = [
                EgressPolicyResource(name: "a", namespace: "shop", mode: .allow),
                EgressPolicyResource(name: "b", namespace: "shop", mode: .deny),
                EgressPolicyResource(name: "c", namespace: "culvert-system", mode: .allow),
                EgressPolicyResource(
                    name: "d", namespace: "shop", selector: ["app": "db"], mode: .listed,
                    allowed: [.init(.name("example.org"))]),
            ]
        }
        #expect(snapshot.inboundMode(of: id("web", snapshot), port: 1) == .strict)
        #expect(snapshot.egress(of: id("web", snapshot))?.mode == .deny)
        #expect(snapshot.egress(of: id("cron", snapshot))?.policy.name == "c")
        let listed = try #require(snapshot.egress(of: id("db", snapshot)))
        #expect(listed.mode == .listed && listed.allowed == [.init(.name("example.org"))])
        #expect(try self.snapshot { _ in }.egress(of: id("web", snapshot)) == nil)
    }
}

@Suite struct AddressBlockTests {
    private func contains(_ block: String, _ address: String) -> Bool? {
        guard let block = AddressBlock(parsing: block), let address = IPAddress(parsing: address) else { return nil }
        return block.contains(address)
    }

    @Test func holdsTheAddressesOfItsPrefixAndFamily() {
        #expect(contains("10.0.0.0/8", "10.255.0.1") == true && contains("10.0.0.0/8", "11.0.0.0") == false)
        #expect(contains("10.1.2.3", "10.1.2.3") == true && contains("10.1.2.3/32", "10.1.2.4") == false)
        #expect(contains("0.0.0.0/0", "255.1.1.1") == true && contains("0.0.0.0/0", "fd00::1") == false)
        #expect(contains("::/0", "fd00::1") == true && contains("::/0", "10.0.0.1") == false)
        #expect(contains("::/1", "10.0.0.1") == false)
        #expect(contains("fd00::/65", "fd00::7fff:0:0:1") == true)
        #expect(contains("fd00::/65", "fd00::8000:0:0:1") == false)
        #expect(contains("fd00::/64", "fd00:0:0:1::") == false)
    }

    @Test(arguments: [
        "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "10.0.0/8", "/8", "", "fd00::1/64", "::/129",
    ])
    func refusesWhatIsNoBlock(text: String) { #expect(AddressBlock(parsing: text) == nil) }

    @Test func textComesBack() {
        for text in ["10.0.0.0/8", "10.1.2.3", "fd00::/8", "::/0", "0.0.0.0/0", "fd00::1"] {
            #expect(AddressBlock(parsing: text)?.description == text)
        }
    }
}

@Suite struct TextPatternTests {
    @Test func aStarCountsOnlyAtOneEnd() {
        #expect(TextPattern(parsing: "*") == .any && TextPattern(parsing: "a*") == .prefix("a"))
        #expect(TextPattern(parsing: "*a") == .suffix("a") && TextPattern(parsing: "a.b") == .exact("a.b"))
        for text in ["", "**", "a*b", "*a*", "a**"] { #expect(TextPattern(parsing: text) == nil, "\(text)") }
        #expect(TextPattern.exact("a.b").matches("a.b") && !TextPattern.exact("a.b").matches("axb"))
    }
}
