package import MeshModel

/// A name in a question about policies that means nothing in the snapshot.
package struct UnknownName: Error, Equatable, Sendable {
    package var text: String
    /// What was looked for: "client", "service or workload".
    package var kind: String
    package var known: [String]
}

/// "May A call B at this port?", with names as a person writes them.
package struct PolicyQuestion: Sendable {
    package var from: String
    package var to: String
    package var port: UInt16

    package init(from: String, to: String, port: UInt16) {
        self.from = from
        self.to = to
        self.port = port
    }

    /// Several where the names stand for several: the endpoints of a service, the workloads of a principal.
    package func answers(_ snapshot: Snapshot) throws(UnknownName) -> [PolicyExplanation] {
        let clients = try clients(snapshot)
        let destinations = try destinations(snapshot)
        var answers: [PolicyExplanation] = []
        for client in clients {
            for (workload, port) in destinations {
                answers.append(PolicyExplanation(client, to: workload, port: port, snapshot))
            }
        }
        return answers
    }

    /// The service's port means its target port at each endpoint.
    package func destinations(_ snapshot: Snapshot) throws(UnknownName) -> [(workload: WorkloadView, port: UInt16)] {
        for service in snapshot.allServices where isNamed(service.key, to) {
            guard let declared = service.ports.first(where: { $0.port == port }) else { continue }
            // Also those that do not run right now: they are judged alike.
            let selected = Self.distinct(snapshot).filter { workload in
                workload.namespace == service.namespace
                    && service.selector.allSatisfy { workload.labels[$0.key] == $0.value }
                    && (workload.ports.isEmpty || workload.ports.contains(declared.targetPort))
            }
            return selected.map { ($0, declared.targetPort) }
        }
        let workloads = Self.distinct(snapshot).filter { isNamed($0.key, to) }
        if workloads.isEmpty {
            let known = Self.distinct(snapshot).map(\.key) + snapshot.allServices.map(\.key)
            throw UnknownName(text: to, kind: "service with this port, or workload,", known: Self.ways(known))
        }
        return workloads.map { ($0, port) }
    }

    package func clients(_ snapshot: Snapshot) throws(UnknownName) -> [PolicyClient] {
        if from == "nobody" { return [PolicyClient(principal: nil, address: .unspecified, name: "nobody")] }
        if let address = IPAddress(parsing: from) {
            let owners = Self.distinct(snapshot).filter { Self.addresses($0).contains(address) }
            if owners.isEmpty {
                return [PolicyClient(principal: nil, address: address, name: "nobody at \(address)")]
            }
            return owners.map { Self.client($0, address, snapshot) }
        }
        if from.hasPrefix("spiffe://") || from.split(separator: "/").count == 5 {
            return try clientsOfPrincipal(snapshot)
        }
        let named = Self.distinct(snapshot).filter { isNamed($0.key, from) }
        if named.isEmpty {
            throw UnknownName(
                text: from, kind: "workload, principal, address or `nobody`",
                known: Self.ways(Self.distinct(snapshot).map(\.key)))
        }
        return named.map { Self.client($0, Self.addresses($0).first ?? .unspecified, snapshot) }
    }

    // MARK: private

    private func clientsOfPrincipal(_ snapshot: Snapshot) throws(UnknownName) -> [PolicyClient] {
        let uri = from.hasPrefix("spiffe://") ? from : "spiffe://" + from
        guard let principal = Principal(parsing: uri) else {
            throw UnknownName(text: from, kind: "principal", known: snapshot.allPrincipals.map(\.uri))
        }
        let workloads = Self.distinct(snapshot).filter { snapshot.principal($0.principal) == uri }
        // One that the snapshot does not know is judged too: it is let in nowhere.
        if workloads.isEmpty { return [PolicyClient(principal: principal, address: .unspecified, name: uri)] }
        return workloads.map { Self.client($0, Self.addresses($0).first ?? .unspecified, snapshot) }
    }

    private static func client(_ workload: WorkloadView, _ address: IPAddress, _ snapshot: Snapshot) -> PolicyClient {
        let principal = snapshot.principal(workload.principal).flatMap { Principal(parsing: $0) }
        return PolicyClient(
            principal: principal, address: address, name: "workload \(workload.key)", workload: workload.key)
    }

    static func addresses(_ workload: WorkloadView) -> [IPAddress] {
        [workload.address(isIPv6: false), workload.address(isIPv6: true)].compactMap { $0 }
    }

    /// All that may be written for these names.
    private static func ways(_ keys: [ResourceName]) -> [String] {
        (keys.map(\.description) + keys.map(\.name)).sorted()
    }

    /// One for each resource: its instances are judged alike.
    static func distinct(_ snapshot: Snapshot) -> [WorkloadView] {
        var seen: Set<ResourceName> = []
        return snapshot.allWorkloads.filter { seen.insert($0.key).inserted }
    }

    /// `namespace/name`, or the name alone.
    private func isNamed(_ key: ResourceName, _ text: String) -> Bool {
        key.description == text || (key.name == text && !text.contains("/"))
    }
}
