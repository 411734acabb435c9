package import CMeshABI
package import MeshModel

/// What the policies say to nobody, by source and port, for one workload: `authorize` asked once for each set of addresses
/// that it can't tell apart. Those are what is left of a block of the policies when the blocks within it are taken out, so
/// the longest prefix that holds an address gives its verdict.
package struct SourceVerdicts {
    package typealias Verdict = mesh_source_verdict

    package struct Entry: Equatable {
        package var source: AddressBlock
        /// 0: every port that has no entries of its own.
        package var port: UInt16
        package var verdict: Verdict
    }

    private let workload: WorkloadView
    private let snapshot: Snapshot
    /// Blocks that policies or exemptions name, and everything; the shorter prefixes first.
    private let blocks: [AddressBlock]
    /// Those that policies, modes or exemptions name.
    private let ports: Set<UInt16>
    /// Addresses of the workload's host that policies can tell apart. A socket that is bound to no address of its own gets
    /// what comes to any of them, so that only what all of them let in passes.
    private let destinations: [IPAddress]

    package init(_ workload: WorkloadView, _ snapshot: Snapshot) {
        self.workload = workload
        self.snapshot = snapshot
        var blocks: Set<AddressBlock> = [Self.everything(isIPv6: false), Self.everything(isIPv6: true)]
        var destinations: Set<AddressBlock> = []
        var ports = Set(snapshot.inboundModes(of: workload.id).ports.map(\.port))
        for exemption in snapshot.inboundExemptions(of: workload.id) {
            blocks.insert(exemption.source)
            ports.insert(exemption.port)
        }
        for index in snapshot.policies(of: workload.id).map(Array.init) ?? [] where snapshot.hasPolicy(index) {
            let policy = snapshot.authorizationPolicy(index)
            Self.collect(policy, &blocks, &ports)
            destinations.formUnion(Self.destinations(policy))
        }
        self.blocks = Self.sorted(blocks)
        self.ports = ports
        let registered = [workload.address(isIPv6: false), workload.address(isIPv6: true)].compactMap { $0 }
        self.destinations = registered + (destinations.isEmpty ? [] : Self.samples(destinations))
    }

    /// How many verdicts `datagrams` may be.
    package var count: Int { blocks.count * (ports.count + 1) * max(1, destinations.count / 2) }

    /// For datagrams that nobody asked for: on every port.
    package var datagrams: [Entry] {
        var entries: [Entry] = []
        for port in [0] + ports.sorted() { entries += regions(of: blocks, port: port) }
        return entries
    }

    /// For connections of declared probes, which reach the application itself.
    package var exemptions: [Entry] {
        snapshot.inboundExemptions(of: workload.id).flatMap { exemption in
            regions(of: blocks.filter { exemption.source.contains($0) }, port: exemption.port)
        }
    }

    // MARK: private

    private static func everything(isIPv6: Bool) -> AddressBlock {
        isIPv6 ? AddressBlock(.unspecified, prefixBits: 0) : AddressBlock(IPAddress(ipv4: 0), prefixBits: 96)
    }

    private static func collect(
        _ policy: AuthorizationPolicyResource, _ blocks: inout Set<AddressBlock>, _ ports: inout Set<UInt16>
    ) {
        for rule in policy.rules {
            for source in rule.from { blocks.formUnion(source.addresses.values + source.addresses.notValues) }
            for operation in rule.to { ports.formUnion(operation.ports.values + operation.ports.notValues) }
            for condition in rule.when {
                switch condition {
                case .sourceAddress(let match): blocks.formUnion(match.values + match.notValues)
                case .destinationPort(let match): ports.formUnion(match.values + match.notValues)
                case .sourcePrincipal, .sourceNamespace, .sourceServiceAccount, .destinationAddress: break
                }
            }
        }
    }

    private static func destinations(_ policy: AuthorizationPolicyResource) -> [AddressBlock] {
        policy.rules.flatMap(\.when).flatMap { condition in
            if case .destinationAddress(let match) = condition { return match.values + match.notValues }
            return []
        }
    }

    private static func sorted(_ blocks: Set<AddressBlock>) -> [AddressBlock] {
        blocks.sorted { ($0.prefixBits, $0.address) < ($1.prefixBits, $1.address) }
    }

    /// One address for each set of them that the blocks can tell apart.
    private static func samples(_ blocks: Set<AddressBlock>) -> [IPAddress] {
        let blocks = sorted(blocks.union([everything(isIPv6: false), everything(isIPv6: true)]))
        return blocks.enumerated().compactMap { index, block in
            address(in: block, outside: blocks[(index + 1)...].filter { block.contains($0) })
        }
    }

    /// An entry where the verdict is another than that of the block around it.
    private func regions(of blocks: [AddressBlock], port: UInt16) -> [Entry] {
        var entries: [Entry] = []
        for (index, block) in blocks.enumerated() {
            let within = blocks[(index + 1)...].filter { block.contains($0) }
            guard let address = Self.address(in: block, outside: within) else { continue }
            let verdict = verdict(address, port)
            if entries.last(where: { $0.source.contains(block) })?.verdict == verdict { continue }
            entries.append(Entry(source: block, port: port, verdict: verdict))
        }
        return entries
    }

    /// One address of the block that is in none of the others, all of which lie within it. Nil where they fill it.
    private static func address(in block: AddressBlock, outside others: [AddressBlock]) -> IPAddress? {
        var candidate = block.address
        while let obstacle = others.filter({ $0.contains(candidate) }).min(by: { $0.prefixBits < $1.prefixBits }) {
            guard let next = candidate.first(behind: obstacle), block.contains(next) else { return nil }
            candidate = next
        }
        return candidate
    }

    private func verdict(_ source: IPAddress, _ port: UInt16) -> Verdict {
        let port = port == 0 ? unnamedPort : port
        let reachable = destinations.filter { $0.isIPv4 == source.isIPv4 }
        let verdicts = (reachable.isEmpty ? destinations.isEmpty ? [.unspecified] : destinations : reachable).map {
            verdict(source, SocketAddress($0, port))
        }
        return verdicts.first { $0 != .MESH_SOURCE_PASSES } ?? .MESH_SOURCE_PASSES
    }

    private func verdict(_ source: IPAddress, _ destination: SocketAddress) -> Verdict {
        let facts = ConnectionFacts(
            clientPrincipal: .none, clientNode: workload.node, source: SocketAddress(source, 0),
            destination: destination, channel: .plaintext(destinationWorkload: workload.id))
        switch authorize(facts, snapshot) {
        case .allowed: return .MESH_SOURCE_PASSES
        case .denied(let denial):
            return denial.reason == .MESH_REASON_POLICY_DENIED ? .MESH_SOURCE_DENIED : .MESH_SOURCE_STRICT
        }
    }

    /// Stands for all that nothing names.
    private var unnamedPort: UInt16 {
        (1...UInt16.max).first { !ports.contains($0) && !MeshPort.fixed.contains($0) } ?? 1
    }
}

extension IPAddress {
    /// The one after the block's last; nil where there is none of that family.
    fileprivate func first(behind block: AddressBlock) -> IPAddress? {
        let first = UInt128(block.address.high) << 64 | UInt128(block.address.low)
        let size = block.prefixBits == 0 ? nil : UInt128(1) << (128 - UInt128(block.prefixBits))
        guard let size, case let (next, overflow) = first.addingReportingOverflow(size), !overflow else { return nil }
        let address = IPAddress(high: UInt64(next >> 64), low: UInt64(truncatingIfNeeded: next))
        guard block.address.isIPv4 || !address.isIPv4 else {
            // IPv6 goes on behind the addresses that stand for IPv4's.
            return IPAddress(high: 0, low: 1 << 48)
        }
        return address.isIPv4 == isIPv4 ? address : nil
    }
}
