package import MeshModel

/// What comes of a question about policies: the destination is in the mesh, or outside.
package enum PolicyAnswer: Sendable {
    case inside(PolicyExplanation)
    case outside(EgressExplanation)

    package var isAllowed: Bool {
        switch self {
        case .inside(let answer): answer.isAllowed
        case .outside(let answer): answer.isAllowed
        }
    }

    package var decidedBy: RuleName {
        switch self {
        case .inside(let answer): answer.decidedBy
        case .outside(let answer): answer.decidedBy
        }
    }
}

extension PolicyQuestion {
    /// The same as `answers`, and of destinations outside the mesh: addresses that it does not know, and names by DNS.
    package func allAnswers(_ snapshot: Snapshot) throws(UnknownName) -> [PolicyAnswer] {
        if let address = IPAddress(parsing: to) { return try answers(toAddress: address, snapshot) }
        let unknown: UnknownName
        do throws(UnknownName) {
            return try answers(snapshot).map { .inside($0) }
        } catch {
            // Of the client, or of the destination.
            _ = try clients(snapshot)
            unknown = error
        }
        guard let name = Self.nameByDNS(to),
            name.contains(".")
                || snapshot.egressPolicies.contains(where: { $0.allowed.contains { $0.lists(name: name) } })
        else { throw unknown }
        if let service = Self.service(named: name, snapshot) {
            return try PolicyQuestion(from: from, to: service.description, port: port).answers(snapshot).map {
                .inside($0)
            }
        }
        return try callers(snapshot).map { client, workload in
            .outside(EgressExplanation(client, of: workload, to: .name(name), port: port, snapshot))
        }
    }

    // MARK: private

    private func answers(
        toAddress address: IPAddress, _ snapshot: Snapshot
    ) throws(UnknownName) -> [PolicyAnswer] {
        if address.isLoopback || address.isUnspecified {
            throw UnknownName(text: to, kind: "destination beyond the workload's own loopback", known: [])
        }
        let owners = Self.distinct(snapshot).filter { view in
            Self.addresses(view).contains(address) && (view.ports.isEmpty || view.ports.contains(port))
        }
        var answers: [PolicyAnswer] = []
        for client in try clients(snapshot) {
            guard let caller = Self.workload(of: client, snapshot) else {
                // Whoever is no workload is nobody's to hold back: it may be asked only what lets it in.
                guard !owners.isEmpty else { throw notAWorkload(snapshot) }
                answers += owners.map { .inside(PolicyExplanation(client, to: $0, port: port, snapshot)) }
                continue
            }
            if let service = try service(at: address, snapshot) {
                let question = PolicyQuestion(from: from, to: service.description, port: port)
                for (workload, port) in try question.destinations(snapshot) {
                    answers.append(.inside(PolicyExplanation(client, to: workload, port: port, snapshot)))
                }
                continue
            }
            let inside = owners.filter { $0.network == caller.network }
            answers += inside.map { .inside(PolicyExplanation(client, to: $0, port: port, snapshot)) }
            if inside.isEmpty {
                answers.append(
                    .outside(EgressExplanation(client, of: caller, to: .address(address), port: port, snapshot)))
            }
        }
        return answers
    }

    /// Who is judged by what its own EgressPolicy says: workloads alone.
    private func callers(
        _ snapshot: Snapshot
    ) throws(UnknownName) -> [(client: PolicyClient, workload: WorkloadView)] {
        var callers: [(client: PolicyClient, workload: WorkloadView)] = []
        for client in try clients(snapshot) {
            guard let workload = Self.workload(of: client, snapshot) else { throw notAWorkload(snapshot) }
            callers.append((client, workload))
        }
        return callers
    }

    private func notAWorkload(_ snapshot: Snapshot) -> UnknownName {
        UnknownName(
            text: from, kind: "workload, whose egress policies would be asked,",
            known: Self.distinct(snapshot).map(\.key.description))
    }

    private static func workload(of client: PolicyClient, _ snapshot: Snapshot) -> WorkloadView? {
        client.workload.flatMap { key in distinct(snapshot).first { $0.key == key } }
    }

    /// That has the virtual address; it must have the port.
    private func service(at address: IPAddress, _ snapshot: Snapshot) throws(UnknownName) -> ResourceName? {
        guard let service = snapshot.allServices.first(where: { $0.virtualAddresses.contains(address) }) else {
            return nil
        }
        guard service.ports.contains(where: { $0.port == port }) else {
            throw UnknownName(
                text: "\(port)", kind: "port of service \(service.key)", known: service.ports.map { "\($0.port)" })
        }
        return service.key
    }

    /// As it is asked of the mesh: `web.shop`, or `web.shop.svc` and what follows.
    private static func service(named name: String, _ snapshot: Snapshot) -> ResourceName? {
        let labels = name.split(separator: ".").map(String.init)
        guard labels.count >= 2, labels.count == 2 || labels[2] == "svc" else { return nil }
        let key = ResourceName(namespace: labels[1], name: labels[0])
        return snapshot.allServices.contains { $0.key == key } ? key : nil
    }

    /// In lower case and without the dot at its end; nil for what is none.
    private static func nameByDNS(_ text: String) -> String? {
        let name = (text.hasSuffix(".") ? String(text.dropLast()) : text).lowercased()
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        let isName = labels.allSatisfy { label in
            (1...63).contains(label.utf8.count)
                && label.utf8.allSatisfy { byte in
                    byte == UInt8(ascii: "-") || byte == UInt8(ascii: "_")
                        || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                        || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                }
        }
        return name.utf8.count <= 253 && isName ? name : nil
    }
}
