/// Finds the workloads that a service selects without looking at all of them.
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
        let lists = service.selector.map {
            indices[Key(namespace: service.namespace, label: $0.key, value: $0.value)] ?? []
        }
        guard let shortest = lists.min(by: { $0.count < $1.count }) else { return [] }
        return shortest.filter { service.selects(workloads[$0]) }
    }
}
