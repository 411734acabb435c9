package import LinuxIO
package import MeshModel

/// Numbers of workloads and network namespaces, kept in the runtime directory: a new meshd goes on with the same ones,
/// since pinned maps and the proxy's connections carry them, and none is used twice within a boot.
package struct IdentityStore {
    private struct Content: Equatable {
        var nextWorkload: UInt32 = 1
        var nextNamespace: UInt32 = 1
        /// By cgroup id, which the kernel never uses twice within a boot.
        var workloads: [UInt64: (id: UInt32, resource: String)] = [:]
        /// By cookie, of which the same holds.
        var namespaces: [UInt64: UInt32] = [:]

        static func == (left: Content, right: Content) -> Bool {
            left.nextWorkload == right.nextWorkload && left.nextNamespace == right.nextNamespace
                && left.namespaces == right.namespaces && left.workloads.count == right.workloads.count
                && left.workloads.allSatisfy { right.workloads[$0.key].map { $0.id } == $0.value.id }
        }
    }

    private let path: String
    private let boot: String
    private var content = Content()
    private var saved = Content()

    /// Reads what an earlier meshd of this boot left at `path`; what is older or broken counts as nothing.
    package init(path: String) throws(IOError) {
        self.path = path
        boot = String(try TextFile.read("/proc/sys/kernel/random/boot_id").prefix { !$0.isWhitespace })
        if let text = try? TextFile.read(path, limitBytes: 16 << 20) { parse(text) }
        saved = content
    }

    /// The number of the cgroup's workload: the one it had, as long as it is an instance of the same resource.
    package mutating func workload(cgroup: UInt64, resource: ResourceName) -> WorkloadID {
        let name = resource.description
        if let known = content.workloads[cgroup], known.resource == name { return WorkloadID(rawValue: known.id) }
        let id = content.nextWorkload
        content.nextWorkload += 1
        content.workloads[cgroup] = (id, name)
        return WorkloadID(rawValue: id)
    }

    /// The next number for the same cgroup: what ran there has ended.
    package mutating func retireWorkload(cgroup: UInt64) { content.workloads[cgroup] = nil }

    package mutating func namespace(cookie: UInt64) -> NetworkNamespaceID {
        if let known = content.namespaces[cookie] { return NetworkNamespaceID(rawValue: known) }
        let id = content.nextNamespace
        content.nextNamespace += 1
        content.namespaces[cookie] = id
        return NetworkNamespaceID(rawValue: id)
    }

    package mutating func retireNamespace(cookie: UInt64) { content.namespaces[cookie] = nil }

    /// Forgets cgroups that are gone.
    package mutating func keepWorkloads(of cgroups: Set<UInt64>) {
        content.workloads = content.workloads.filter { cgroups.contains($0.key) }
    }

    /// Writes what changed. Must be called before a new number is used elsewhere.
    package mutating func save() throws(IOError) {
        guard content != saved else { return }
        var text = "culvert-identities 1 \(boot)\nnext \(content.nextWorkload) \(content.nextNamespace)\n"
        for (cookie, id) in content.namespaces.sorted(by: { $0.value < $1.value }) {
            text += "namespace \(id) \(cookie)\n"
        }
        for (cgroup, workload) in content.workloads.sorted(by: { $0.value.id < $1.value.id }) {
            text += "workload \(workload.id) \(cgroup) \(workload.resource)\n"
        }
        try TextFile.replace(path, with: Array(text.utf8))
        saved = content
    }

    // MARK: private

    private mutating func parse(_ text: String) {
        var lines = text.split(separator: "\n")[...]
        guard lines.popFirst() == "culvert-identities 1 \(boot)" else { return }
        var read = Content()
        for line in lines {
            let fields = line.split(separator: " ")
            let numbers = fields.dropFirst().prefix(2).compactMap { UInt64($0) }
            guard numbers.count == 2, let first = UInt32(exactly: numbers[0]) else { return }
            switch (fields[0], fields.count) {
            case ("next", 3):
                guard let second = UInt32(exactly: numbers[1]) else { return }
                (read.nextWorkload, read.nextNamespace) = (first, second)
            case ("namespace", 3): read.namespaces[numbers[1]] = first
            case ("workload", 4): read.workloads[numbers[1]] = (first, String(fields[3]))
            default: return
            }
        }
        content = read
    }
}

/// One store for those who share it, on one thread.
package final class IdentityKeeper {
    package var store: IdentityStore
    package init(_ store: IdentityStore) { self.store = store }
}
