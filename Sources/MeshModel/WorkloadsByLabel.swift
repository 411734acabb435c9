/// Finds the workloads that a service or a policy selects without looking at all of them.
package struct WorkloadsByLabel: Sendable {
    private struct Key: Hashable {
        var namespace: String
        var label: String
        var value: String
    }

    private let workloads: [WorkloadResource]
    private var indices: [Key: [Int]] = [:]

    package init(_ workloads: [WorkloadResource]) {
        self.workloads = workloads
        for (index, workload) in workloads.enumerated() {
            for label in workload.labels {
                let key = Key(namespace: workload.namespace, label: label.key, value: label.value)
                indices[key, default: []].append(index)
            }
        }
    }

    /// Indices into the workloads, ascending.
    package func selected(by service: ServiceResource) -> [Int] {
        candidates(namespace: service.namespace, labels: service.selector).filter { service.selects(workloads[$0]) }
    }

    /// The fewest that one of `labels` leaves: all that have every one of them are among these. Ascending; none without
    /// labels.
    package func candidates(namespace: String, labels: [String: String]) -> [Int] {
        let lists = labels.map { indices[Key(namespace: namespace, label: $0.key, value: $0.value)] ?? [] }
        return lists.min { $0.count < $1.count } ?? []
    }
}
