/// An array of records inside a snapshot's bytes.
struct SnapshotSection<Record: BitwiseCopyable> {
    let base: UnsafeRawPointer
    let count: Int

    /// Offset, alignment and size are checked against `bytes`; the records' contents are not.
    init(_ bytes: UnsafeRawBufferPointer, _ kind: SnapshotSectionKind) throws(SnapshotError) {
        let entryOffset =
            MemoryLayout<SnapshotHeader>.stride + kind.rawValue * MemoryLayout<SnapshotSectionEntry>.stride
        guard let start = bytes.baseAddress,
            entryOffset + MemoryLayout<SnapshotSectionEntry>.stride <= bytes.count
        else { throw .wrongLength }
        let entry = start.load(fromByteOffset: entryOffset, as: SnapshotSectionEntry.self)
        // 32-bit factors: the product can't overflow 64 bits.
        let size = UInt64(entry.count) * UInt64(entry.recordSize)
        guard entry.recordSize == UInt32(MemoryLayout<Record>.stride), entry.offset % 8 == 0,
            entry.offset <= UInt64(bytes.count), size <= UInt64(bytes.count) - entry.offset
        else { throw .malformed(section: "\(kind)") }
        base = start + Int(entry.offset)
        count = Int(entry.count)
    }

    @inline(__always)
    subscript(index: Int) -> Record {
        precondition(index >= 0 && index < count, "validated when the snapshot was made")
        return base.load(fromByteOffset: index &* MemoryLayout<Record>.stride, as: Record.self)
    }

    func contains(_ range: RecordRange) -> Bool { UInt64(range.first) + UInt64(range.count) <= UInt64(count) }
}

/// All sections, found once.
struct SnapshotSections {
    let text: SnapshotSection<UInt8>
    let networks: SnapshotSection<NetworkRecord>
    let nodes: SnapshotSection<NodeRecord>
    let nodeAddresses: SnapshotSection<NodeAddressRecord>
    let principals: SnapshotSection<PrincipalRecord>
    let workloads: SnapshotSection<WorkloadRecord>
    let services: SnapshotSection<ServiceRecord>
    let labels: SnapshotSection<LabelRecord>
    let ports: SnapshotSection<UInt16>
    let virtualAddresses: SnapshotSection<AddressRecord>
    let servicePorts: SnapshotSection<ServicePortRecord>
    let endpoints: SnapshotSection<UInt32>
    let routes: SnapshotSection<RouteRecord>
    let localEndpoints: SnapshotSection<LocalEndpointRecord>
    let owners: SnapshotSection<OwnerRecord>
    let placements: SnapshotSection<PlacementRecord>
    let policies: SnapshotSection<PolicyRecord>
    let policyRules: SnapshotSection<PolicyRuleRecord>
    let policyClauses: SnapshotSection<PolicyClauseRecord>
    let policyTests: SnapshotSection<PolicyTestRecord>
    let policyTexts: SnapshotSection<PolicyTextRecord>
    let policyBlocks: SnapshotSection<AddressBlockRecord>
    let policyPorts: SnapshotSection<UInt16>
    let workloadPolicies: SnapshotSection<WorkloadPolicyRecord>
    let policySelections: SnapshotSection<UInt32>
    let inboundPorts: SnapshotSection<InboundPortRecord>
    let inboundExemptions: SnapshotSection<InboundExemptionRecord>
    let peerAuthentications: SnapshotSection<PeerAuthenticationRecord>
    let declaredPorts: SnapshotSection<InboundPortRecord>
    let declaredExemptions: SnapshotSection<InboundExemptionRecord>
    let egressPolicies: SnapshotSection<EgressPolicyRecord>
    let egressEntries: SnapshotSection<EgressEntryRecord>
    let nodesByID: SnapshotSection<UInt32>
    let nodesByAddress: SnapshotSection<UInt32>
    let principalsByID: SnapshotSection<UInt32>
    let principalsByURI: SnapshotSection<UInt32>
    let workloadsByID: SnapshotSection<UInt32>
    let servicesByID: SnapshotSection<UInt32>
    let servicesByName: SnapshotSection<UInt32>
    let routesByKey: SnapshotSection<UInt32>
    let localEndpointsByKey: SnapshotSection<UInt32>
    let ownersByKey: SnapshotSection<UInt32>
    let placementsByKey: SnapshotSection<UInt32>

    init(_ bytes: UnsafeRawBufferPointer) throws(SnapshotError) {
        text = try SnapshotSection(bytes, .text)
        networks = try SnapshotSection(bytes, .networks)
        nodes = try SnapshotSection(bytes, .nodes)
        nodeAddresses = try SnapshotSection(bytes, .nodeAddresses)
        principals = try SnapshotSection(bytes, .principals)
        workloads = try SnapshotSection(bytes, .workloads)
        services = try SnapshotSection(bytes, .services)
        labels = try SnapshotSection(bytes, .labels)
        ports = try SnapshotSection(bytes, .ports)
        virtualAddresses = try SnapshotSection(bytes, .virtualAddresses)
        servicePorts = try SnapshotSection(bytes, .servicePorts)
        endpoints = try SnapshotSection(bytes, .endpoints)
        routes = try SnapshotSection(bytes, .routes)
        localEndpoints = try SnapshotSection(bytes, .localEndpoints)
        owners = try SnapshotSection(bytes, .owners)
        placements = try SnapshotSection(bytes, .placements)
        policies = try SnapshotSection(bytes, .policies)
        policyRules = try SnapshotSection(bytes, .policyRules)
        policyClauses = try SnapshotSection(bytes, .policyClauses)
        policyTests = try SnapshotSection(bytes, .policyTests)
        policyTexts = try SnapshotSection(bytes, .policyTexts)
        policyBlocks = try SnapshotSection(bytes, .policyBlocks)
        policyPorts = try SnapshotSection(bytes, .policyPorts)
        workloadPolicies = try SnapshotSection(bytes, .workloadPolicies)
        policySelections = try SnapshotSection(bytes, .policySelections)
        inboundPorts = try SnapshotSection(bytes, .inboundPorts)
        inboundExemptions = try SnapshotSection(bytes, .inboundExemptions)
        peerAuthentications = try SnapshotSection(bytes, .peerAuthentications)
        declaredPorts = try SnapshotSection(bytes, .declaredPorts)
        declaredExemptions = try SnapshotSection(bytes, .declaredExemptions)
        egressPolicies = try SnapshotSection(bytes, .egressPolicies)
        egressEntries = try SnapshotSection(bytes, .egressEntries)
        nodesByID = try SnapshotSection(bytes, .nodesByID)
        nodesByAddress = try SnapshotSection(bytes, .nodesByAddress)
        principalsByID = try SnapshotSection(bytes, .principalsByID)
        principalsByURI = try SnapshotSection(bytes, .principalsByURI)
        workloadsByID = try SnapshotSection(bytes, .workloadsByID)
        servicesByID = try SnapshotSection(bytes, .servicesByID)
        servicesByName = try SnapshotSection(bytes, .servicesByName)
        routesByKey = try SnapshotSection(bytes, .routesByKey)
        localEndpointsByKey = try SnapshotSection(bytes, .localEndpointsByKey)
        ownersByKey = try SnapshotSection(bytes, .ownersByKey)
        placementsByKey = try SnapshotSection(bytes, .placementsByKey)
    }

    /// Checks every reference from one record to another, so that no look-up can leave its section.
    func validate(_ header: SnapshotHeader) throws(SnapshotError) {
        guard isText(header.trustDomain), isText(header.rootNamespace) else { throw .malformed(section: "header") }
        try check(networks, "networks") { isText($0.name) }
        try check(nodes, "nodes") { isText($0.name) && nodeAddresses.contains($0.addresses) }
        try check(principals, "principals") {
            isText($0.uri) && isText($0.name) && isText($0.namespace) && isText($0.serviceAccount)
        }
        try check(workloads, "workloads") {
            isText($0.name) && isText($0.namespace) && isText($0.serviceAccount) && labels.contains($0.labels)
                && ports.contains($0.ports) && isText($0.selector) && isText($0.selectorNetworkNamespace)
        }
        try check(services, "services") {
            isText($0.name) && isText($0.namespace) && virtualAddresses.contains($0.addresses)
                && servicePorts.contains($0.ports) && labels.contains($0.selector)
        }
        try check(labels, "labels") { isText($0.key) && isText($0.value) }
        try check(servicePorts, "servicePorts") { endpoints.contains($0.endpoints) }
        try check(routes, "routes") { $0.kind == RouteRecord.workload || $0.kind == RouteRecord.service }
        try validatePolicies()
        try checkTable(nodesByID, over: nodes.count, "nodesByID")
        try checkTable(nodesByAddress, over: nodeAddresses.count, "nodesByAddress")
        try checkTable(principalsByID, over: principals.count, "principalsByID")
        try checkTable(principalsByURI, over: principals.count, "principalsByURI")
        try checkTable(workloadsByID, over: workloads.count, "workloadsByID")
        try checkTable(servicesByID, over: services.count, "servicesByID")
        try checkTable(servicesByName, over: services.count, "servicesByName")
        try checkTable(routesByKey, over: routes.count, "routesByKey")
        try checkTable(localEndpointsByKey, over: localEndpoints.count, "localEndpointsByKey")
        try checkTable(ownersByKey, over: owners.count, "ownersByKey")
        try checkTable(placementsByKey, over: placements.count, "placementsByKey")
    }

    /// The record that `matches`, by open addressing with linear probing; at most one round.
    @inline(__always)
    func find(_ table: SnapshotSection<UInt32>, hash: UInt64, matches: (Int) -> Bool) -> Int? {
        let mask = table.count - 1
        var slot = Int(truncatingIfNeeded: hash) & mask
        for _ in 0..<table.count {
            let entry = table[slot]
            guard entry != 0 else { return nil }
            let index = Int(entry) - 1
            if matches(index) { return index }
            slot = (slot + 1) & mask
        }
        return nil
    }

    func string(_ reference: TextReference) -> String {
        String(decoding: bytes(of: reference), as: UTF8.self)
    }

    func labels(in range: RecordRange) -> [String: String] {
        var result: [String: String] = [:]
        for index in Int(range.first)..<Int(range.first) + Int(range.count) {
            result[string(labels[index].key)] = string(labels[index].value)
        }
        return result
    }

    func bytes(of reference: TextReference) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: text.base + Int(reference.offset), count: Int(reference.length))
    }

    func isText(_ reference: TextReference) -> Bool {
        UInt64(reference.offset) + UInt64(reference.length) <= UInt64(text.count)
    }

    func check<Record>(
        _ section: SnapshotSection<Record>, _ name: String, isValid: (Record) -> Bool
    ) throws(SnapshotError) {
        for index in 0..<section.count where !isValid(section[index]) { throw .malformed(section: name) }
    }

    // MARK: private

    private func checkTable(
        _ table: SnapshotSection<UInt32>, over count: Int, _ name: String
    ) throws(SnapshotError) {
        guard table.count > 0, table.count & (table.count - 1) == 0 else { throw .malformed(section: name) }
        try check(table, name) { UInt64($0) <= UInt64(count) }
    }
}
