import DNSMessages
import MeshModel
import Testing

@Suite struct NameTests {
    private static let client = WorkloadID(rawValue: 7)

    /// Services web and db in shop, db and Odd.Name in ware; the client is in shop.
    private func snapshot() throws -> Snapshot {
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "test")
        let workload = WorkloadResource(
            name: "curl", namespace: "shop", serviceAccount: "curl", node: "a", selector: .init(.cgroup(pattern: "c")))
        let services = [("web", "shop"), ("db", "shop"), ("db", "ware"), ("Odd.Name", "ware"), ("com", "example")]
        return try builder.build(
            ResourceSet(
                workloads: [workload], services: services.map { ServiceResource(name: $0, namespace: $1) }),
            instances: [
                LocalInstance(
                    resource: workload.key, workload: Self.client, networkNamespace: .node, cgroupID: 1)
            ])
    }

    private func decide(
        _ name: String, client: WorkloadID = client, questionClass: UInt16 = DNSClass.internet
    ) throws -> String {
        let snapshot = try snapshot()
        let domain = try #require(MeshDomain("Mesh.Internal"))
        var query = Message.query(name)
        query[query.count - 1] = UInt8(questionClass)
        return query.withUnsafeBytes { bytes in
            guard case .query(let parsed) = DNSQuery.parse(bytes), let question = parsed.question else { return "?" }
            switch domain.decide(question, bytes, client: client, snapshot) {
            case .service(let id): return snapshot.service(id)?.key.description ?? "?"
            case .empty: return "empty"
            case .nameError: return "no such name"
            case .forward: return "forward"
            }
        }
    }

    @Test(arguments: [
        ("web", "shop/web"), ("WEB", "shop/web"), ("db", "shop/db"), ("db.ware", "ware/db"), ("db.ware.svc", "ware/db"),
        ("web.shop.svc.mesh.internal", "shop/web"), ("wEB.shop.sVc.mesh.INTERNAL", "shop/web"),
        ("odd.name.ware", "ware/Odd.Name"), ("odd.name.ware.svc.mesh.internal", "ware/Odd.Name"),
    ])
    func meshNamesAreFound(_ name: String, _ service: String) throws { #expect(try decide(name) == service) }

    @Test(arguments: [
        ("mesh.internal", "empty"), ("svc.mesh.internal", "empty"), ("shop.svc.mesh.internal", "empty"),
        ("no.shop.svc.mesh.internal", "no such name"), ("web.shop.mesh.internal", "no such name"),
        ("web.mesh.internal", "no such name"), ("a.web.shop.svc.mesh.internal", "no such name"),
        ("db.shop.svc.mesh.internal.mesh.internal", "no such name"),
    ])
    func theMeshsDomainIsAnsweredToTheEnd(_ name: String, _ outcome: String) throws {
        #expect(try decide(name) == outcome)
    }

    @Test(arguments: [
        "www.example", "nosuch", "svc", "odd", "name.ware", "web.shop.svc.mesh.internal.example", "xmesh.internal",
        "internal", "",
    ])
    func everythingElseIsForwarded(_ name: String) throws { #expect(try decide(name) == "forward") }

    @Test func anUnknownClientHasNoNamespaceOfItsOwn() throws {
        #expect(try decide("web", client: WorkloadID(rawValue: 99)) == "forward")
        #expect(try decide("web.shop", client: WorkloadID(rawValue: 99)) == "shop/web")
    }

    @Test func otherClassesAreNotOurs() throws {
        #expect(try decide("web.shop.svc.mesh.internal", questionClass: 3) == "forward")
    }

    @Test func aDotInsideALabelIsNotASeparator() throws {
        let snapshot = try snapshot()
        let domain = try #require(MeshDomain("mesh.internal"))
        let bytes = Message.words([1, 0x0100, 1, 0, 0, 0]) + [8] + Array("web.shop".utf8) + [0, 0, 1, 0, 1]
        bytes.withUnsafeBytes { bytes in
            guard case .query(let query) = DNSQuery.parse(bytes), let question = query.question else {
                return #expect(Bool(false), "not readable")
            }
            #expect(domain.decide(question, bytes, client: Self.client, snapshot) == .forward)
        }
    }

    @Test func theZoneIsWhereTheDomainBegins() throws {
        let domain = try #require(MeshDomain("mesh.internal"))
        for (name, zone) in [("web.shop.svc.mesh.internal", 25), ("mesh.internal", 12), ("web.shop", nil)] {
            Message.query(name).withUnsafeBytes { bytes in
                guard case .query(let query) = DNSQuery.parse(bytes), let question = query.question else {
                    return #expect(Bool(false), "not readable")
                }
                #expect(domain.zone(of: question, bytes) == zone)
            }
        }
    }

    @Test func domainsAreChecked() {
        for text in ["", ".", "a..b", "mesh.internal.", "mes h", String(repeating: "a.", count: 40) + "a"] {
            #expect(MeshDomain(text) == nil, "\(text)")
        }
    }
}
