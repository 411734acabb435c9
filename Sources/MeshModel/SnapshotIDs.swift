/// The numbers that a meshd has given to names, so that they stay the same from snapshot to snapshot. A number is
/// never given twice, not even after its resource went away; a meshd that starts goes on from the last good snapshot.
package struct SnapshotIDs: Sendable {
    var nodes = NumberedNames<String>()
    var services = NumberedNames<ResourceName>()
    var principals = NumberedNames<String>()
    var networks = NumberedNames<String>()
    var workloads = NumberedNames<ResourceName>()
    var version: UInt64 = 0
    var policyGeneration: UInt32 = 0
    var policyDigest: UInt64 = 0
    /// Of the sections of the last snapshot.
    var contentDigest: UInt64?

    /// Set in the ids of resources; the ids of running instances, which `LocalInstance` brings, are below.
    package static let resourceBit: UInt32 = 0x8000_0000

    private static let counterMax: UInt32 = 0x4000_0000

    package init() {}

    /// Goes on from where the builder of `snapshot` stopped.
    package init(continuing snapshot: Snapshot) {
        let header = snapshot.header
        // Counters that no builder reaches come from damaged or hostile bytes: begin anew rather than overflow.
        let counters = [
            header.nextNode, header.nextService, header.nextPrincipal, header.nextNetwork, header.nextWorkload,
            snapshot.policyGeneration,
        ]
        guard counters.allSatisfy({ $0 < Self.counterMax }), snapshot.version < UInt64(Self.counterMax) << 24 else {
            return
        }
        nodes = NumberedNames(next: header.nextNode)
        services = NumberedNames(next: header.nextService)
        principals = NumberedNames(next: header.nextPrincipal)
        networks = NumberedNames(next: header.nextNetwork)
        workloads = NumberedNames(next: header.nextWorkload)
        version = snapshot.version
        policyGeneration = snapshot.policyGeneration
        policyDigest = header.policyDigest
        for node in snapshot.allNodes { nodes.numbers[node.name] = node.id.rawValue }
        for service in snapshot.allServices { services.numbers[service.key] = service.id.rawValue }
        for principal in snapshot.allPrincipals { principals.numbers[principal.uri] = principal.id.rawValue }
        for network in snapshot.allNetworks { networks.numbers[network.name] = network.id.rawValue }
        for workload in snapshot.allWorkloads where workload.id.rawValue & Self.resourceBit != 0 {
            workloads.numbers[workload.key] = workload.id.rawValue & ~Self.resourceBit
        }
    }
}

/// Numbers from 1 on, in the order in which names are first seen.
struct NumberedNames<Name: Hashable & Sendable>: Sendable {
    var numbers: [Name: UInt32] = [:]
    var next: UInt32 = 1

    init(next: UInt32 = 1) { self.next = max(next, 1) }

    mutating func number(of name: Name) -> UInt32 {
        if let known = numbers[name] { return known }
        defer { next += 1 }
        numbers[name] = next
        return next
    }

    /// Forgets names that are not in use any more; their numbers stay spent.
    mutating func keep(_ names: Set<Name>) {
        if numbers.count > names.count { numbers = numbers.filter { names.contains($0.key) } }
    }
}
