/// Finds the policies of one kind that select a workload without looking at all of them.
package struct PoliciesByLabel<Policy: PolicyResource>: Sendable {
    /// A policy is kept under one of its labels; a workload that it selects has all of them.
    private struct Key: Hashable {
        var namespace: String
        var label: String
        var value: String
    }

    private let policies: [Policy]
    private let rootNamespace: String
    private var indices: [Key: [Int]] = [:]

    package init(_ policies: [Policy], rootNamespace: String) {
        self.policies = policies
        self.rootNamespace = rootNamespace
        for (index, policy) in policies.enumerated() {
            let label = policy.selector.min { $0.key < $1.key }
            let key = Key(namespace: policy.namespace, label: label?.key ?? "", value: label?.value ?? "")
            indices[key, default: []].append(index)
        }
    }

    /// Indices into the policies, ascending.
    package func selecting(_ workload: WorkloadResource) -> [Int] {
        var found: [Int] = []
        for namespace in Set([workload.namespace, rootNamespace]) {
            found += indices[Key(namespace: namespace, label: "", value: "")] ?? []
            for label in workload.labels {
                found += indices[Key(namespace: namespace, label: label.key, value: label.value)] ?? []
            }
        }
        return found.filter { policies[$0].selects(workload, rootNamespace: rootNamespace) }.sorted()
    }
}
