package import MeshModel

/// Which cgroups a Workload's selector means: a path from the hierarchy's root whose components may contain `*`, and
/// where a component `**` stands for any number of components, none included.
package struct CgroupPattern: Hashable, Sendable, CustomStringConvertible {
    package let components: [String]

    static let anyDepth = "**"
    /// What `**` becomes for the kernel side, which knows only fixed depths. A systemd unit lies in at most a slice
    /// of a slice of a slice of the manager's root.
    static let depthsMax = 4

    package init(absolute path: String) {
        components = path.split(separator: "/").map(String.init)
    }

    /// The selector's pattern under a node whose cgroup root is `root`.
    package init(_ processes: WorkloadSelector.Processes, root: String) {
        switch processes {
        case .cgroup(let pattern) where pattern.hasPrefix("/"): self.init(absolute: pattern)
        case .cgroup(let pattern): self.init(absolute: root + "/" + pattern)
        case .systemdUnit(let unit): self.init(absolute: root + "/" + Self.anyDepth + "/" + unit)
        }
    }

    package var description: String { "/" + components.joined(separator: "/") }

    package func matches(_ path: String) -> Bool {
        Self.matches(path.split(separator: "/").map(String.init)[...], components[...])
    }

    /// The patterns of fixed depth that mean the same, for the kernel side.
    package var fixedDepths: [String] {
        guard let index = components.firstIndex(of: Self.anyDepth) else { return [description] }
        return (0...Self.depthsMax).flatMap { depth in
            var fixed = components
            fixed.replaceSubrange(index...index, with: Array(repeating: "*", count: depth))
            return CgroupPattern(absolute: fixed.joined(separator: "/")).fixedDepths
        }
    }

    /// Whether `text` matches `glob`, in which `*` stands for any characters. Linear in both but for one step back.
    static func component(_ text: String, matches glob: String) -> Bool {
        let text = Array(text.utf8), glob = Array(glob.utf8)
        var place = 0, mark = 0
        var star: Int?
        var index = 0
        while index < text.count {
            if place < glob.count, glob[place] == UInt8(ascii: "*") {
                (star, mark) = (place, index)
                place += 1
            } else if place < glob.count, glob[place] == text[index] {
                place += 1
                index += 1
            } else if let star {
                place = star + 1
                mark += 1
                index = mark
            } else {
                return false
            }
        }
        return glob[place...].allSatisfy { $0 == UInt8(ascii: "*") }
    }

    private static func matches(_ path: ArraySlice<String>, _ pattern: ArraySlice<String>) -> Bool {
        guard let first = pattern.first else { return path.isEmpty }
        if first == anyDepth {
            return matches(path, pattern.dropFirst())
                || (!path.isEmpty && matches(path.dropFirst(), pattern))
        }
        guard let name = path.first, component(name, matches: first) else { return false }
        return matches(path.dropFirst(), pattern.dropFirst())
    }
}
