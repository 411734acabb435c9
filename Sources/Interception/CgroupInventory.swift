package import LinuxIO
package import MeshModel

/// Finds the cgroups that the node's Workload resources mean. It only looks; `LocalInstances` gives them identities.
package struct CgroupInventory {
    /// A cgroup, and the resource that it is an instance of.
    package struct Found: Hashable, Sendable {
        package var path: String
        package var id: UInt64
        package var resource: ResourceName
        package var networkNamespace: String?

        package init(path: String, id: UInt64, resource: ResourceName, networkNamespace: String?) {
            self.path = path
            self.id = id
            self.resource = resource
            self.networkNamespace = networkNamespace
        }
    }

    /// What an operator should set right.
    package enum Problem: Hashable, Sendable, CustomStringConvertible {
        /// Two resources mean one cgroup; the first by name has it.
        case overlap(path: String, winner: ResourceName, loser: ResourceName)
        /// The kernel side sees only what lies below the node's cgroup root.
        case outsideRoot(ResourceName, pattern: String, root: String)
        case patternTooLong(ResourceName, pattern: String)
        case tooManyPatterns(limit: Int)

        package var description: String {
            switch self {
            case .overlap(let path, let winner, let loser):
                "cgroup \(path) matches the workloads \(winner) and \(loser): it is taken for \(winner)"
            case .outsideRoot(let resource, let pattern, let root):
                "workload \(resource): \(pattern) is not below the node's cgroup root \(root) and is left out"
            case .patternTooLong(let resource, let pattern):
                "workload \(resource): the cgroup pattern \(pattern) is too long: new cgroups are seen late"
            case .tooManyPatterns(let limit):
                "more than \(limit) cgroup patterns: new cgroups of the last workloads are seen late"
            }
        }
    }

    package struct Scan {
        package var found: [Found] = []
        package var problems: [Problem] = []
    }

    /// Levels below which nothing is looked for; the kernel side's walk has the same bound.
    static let depthMax = 16

    package let hierarchy: CgroupHierarchy
    /// The node's cgroup root, absolute from the hierarchy's.
    package let root: String
    /// The mesh's own subtree, in which nothing is a workload.
    package let own: String

    package init(hierarchy: CgroupHierarchy, root: String) {
        self.hierarchy = hierarchy
        self.root = root == "/" ? "" : root
        own = self.root + "/culvert"
    }

    /// Looks at the cgroups that exist now. `workloads` are those of this node.
    package func scan(_ workloads: [WorkloadResource]) -> Scan {
        var scan = Scan()
        var taken: [String: ResourceName] = [:]
        for workload in workloads.sorted(by: { $0.key < $1.key }) {
            let pattern = pattern(workload)
            guard isBelowRoot(pattern) else {
                scan.problems.append(.outsideRoot(workload.key, pattern: pattern.description, root: root))
                continue
            }
            for path in matches(of: pattern).sorted() {
                if let winner = taken[path] {
                    scan.problems.append(.overlap(path: path, winner: winner, loser: workload.key))
                    continue
                }
                // It may have gone meanwhile.
                guard let id = try? hierarchy.id(of: path) else { continue }
                taken[path] = workload.key
                scan.found.append(
                    Found(
                        path: path, id: id, resource: workload.key,
                        networkNamespace: workload.selector.networkNamespace))
            }
        }
        return scan
    }

    /// The patterns for classify_cgroup, which marks a new cgroup before anything runs in it.
    package func kernelPatterns(
        _ workloads: [WorkloadResource], sizeMax: Int, countMax: Int
    ) -> (patterns: [String], problems: [Problem]) {
        var patterns: [String] = []
        var problems: [Problem] = []
        for workload in workloads.sorted(by: { $0.key < $1.key }) {
            let pattern = pattern(workload)
            guard isBelowRoot(pattern) else { continue }
            for text in pattern.fixedDepths where !patterns.contains(text) {
                if text.utf8.count >= sizeMax {
                    problems.append(.patternTooLong(workload.key, pattern: text))
                } else {
                    patterns.append(text)
                }
            }
        }
        if patterns.count > countMax {
            problems.append(.tooManyPatterns(limit: countMax))
            patterns.removeLast(patterns.count - countMax)
        }
        return (patterns, problems)
    }

    // MARK: private

    private func pattern(_ workload: WorkloadResource) -> CgroupPattern {
        var processes = workload.selector.processes
        // People name absolute ones by their directory too.
        if case .cgroup(let text) = processes, text.hasPrefix("/") {
            processes = .cgroup(pattern: hierarchy.path(of: text))
        }
        return CgroupPattern(processes, root: root)
    }

    private func isBelowRoot(_ pattern: CgroupPattern) -> Bool {
        let above = root.split(separator: "/").map(String.init)
        return pattern.components.count > above.count && Array(pattern.components.prefix(above.count)) == above
    }

    /// Descends only where the pattern can still match, so that the machine's other cgroups cost nothing.
    private func matches(of pattern: CgroupPattern) -> Set<String> {
        var result: Set<String> = []
        descend("/", pattern.components[...], depth: 0, into: &result)
        return result
    }

    private func descend(
        _ path: String, _ pattern: ArraySlice<String>, depth: Int, into result: inout Set<String>
    ) {
        guard path != own, depth <= CgroupInventory.depthMax else { return }
        guard let first = pattern.first else {
            if path != "/" { result.insert(path) }
            return
        }
        let rest = pattern.dropFirst()
        if first == CgroupPattern.anyDepth { descend(path, rest, depth: depth, into: &result) }
        if !first.contains("*") {
            let child = path == "/" ? "/" + first : path + "/" + first
            if (try? hierarchy.id(of: child)) != nil { descend(child, rest, depth: depth + 1, into: &result) }
            return
        }
        for child in (try? hierarchy.children(of: path)) ?? [] {
            if first == CgroupPattern.anyDepth {
                descend(child, pattern, depth: depth + 1, into: &result)
            } else if let name = child.split(separator: "/").last,
                CgroupPattern.component(String(name), matches: first)
            {
                descend(child, rest, depth: depth + 1, into: &result)
            }
        }
    }
}
