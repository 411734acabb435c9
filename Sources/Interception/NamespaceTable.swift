package import LinuxIO
package import MeshModel

/// The network namespaces that workloads of this node live in: how to open each again, without keeping one open. A
/// namespace lives by its processes, its name and open sockets; the mesh's sockets alone must not keep it.
package final class NamespaceTable {
    /// A way to open a namespace.
    package enum Anchor: Hashable, Sendable, CustomStringConvertible {
        /// meshd's own.
        case node
        /// Under /run/netns.
        case name(String)
        /// That of a process in the cgroup or below it.
        case cgroup(path: String)

        package var description: String {
            switch self {
            case .node: "of this node"
            case .name(let name): name
            case .cgroup(let path): "of cgroup \(path)"
            }
        }
    }

    private struct Entry {
        var cookie: UInt64
        var identity: NetworkNamespace.Identity
        var anchors: Set<Anchor>
    }

    private let hierarchy: CgroupHierarchy
    private var entries: [NetworkNamespaceID: Entry] = [:]
    private var nextID: (UInt64) -> NetworkNamespaceID

    /// `number` gives each cookie its number, always the same.
    package init(
        hierarchy: CgroupHierarchy, number: @escaping (UInt64) -> NetworkNamespaceID
    ) throws(IOError) {
        self.hierarchy = hierarchy
        nextID = number
        entries[.node] = Entry(
            cookie: try NetworkNamespace.cookieOfCallingThread(), identity: try NetworkNamespace.current().identity(),
            anchors: [.node])
    }

    package var ids: Set<NetworkNamespaceID> { Set(entries.keys) }

    package func cookie(of id: NetworkNamespaceID) -> UInt64? { entries[id]?.cookie }

    package func id(ofCookie cookie: UInt64) -> NetworkNamespaceID? {
        entries.first { $0.value.cookie == cookie }?.key
    }

    /// The number of the namespace that the anchor leads to now, which can be opened by it from now on. ENOENT when it
    /// leads nowhere (no such name, no process).
    package func resolve(_ anchor: Anchor) throws(IOError) -> NetworkNamespaceID {
        try note(anchor, try open(anchor, identity: nil))
    }

    /// The same for the namespace with this cookie, where process `pid` or another one of `cgroup` is now; nil: none is
    /// (any more).
    package func resolve(pid: Int32, cookie: UInt64, cgroup: String) throws(IOError) -> NetworkNamespaceID? {
        // Whoever was refused may have ended at once; what started it is likely to be there still.
        for process in [pid] + processes(below: cgroup) {
            guard let namespace = try? NetworkNamespace(pid: process), (try? namespace.cookie()) == cookie
            else { continue }
            return try note(.cgroup(path: cgroup), namespace)
        }
        return nil
    }

    /// Opens a known namespace by any of its anchors; ENOENT when none leads to it any more.
    package func open(_ id: NetworkNamespaceID) throws(IOError) -> NetworkNamespace {
        if id == .node { return try NetworkNamespace.current() }
        guard let entry = entries[id] else { throw IOError("network namespace", code: 2, object: "\(id.rawValue)") }
        for anchor in entry.anchors {
            do throws(IOError) { return try open(anchor, identity: entry.identity) } catch { continue }
        }
        throw IOError("network namespace", code: 2, object: "\(id.rawValue)")
    }

    /// The namespace with this cookie, known or not, where process `pid` or another one of `cgroup` may be; ENOENT when it
    /// is not found.
    package func open(cookie: UInt64, pid: Int32, cgroup: String?) throws(IOError) -> NetworkNamespace {
        if let known = id(ofCookie: cookie) { return try open(known) }
        for process in [pid] + (cgroup.map { processes(below: $0) } ?? []) {
            guard let namespace = try? NetworkNamespace(pid: process), (try? namespace.cookie()) == cookie
            else { continue }
            return namespace
        }
        throw IOError("network namespace", code: 2, object: "\(cookie)")
    }

    /// Namespaces that no anchor leads to any more: the mesh's sockets may be all that keeps them.
    package func deserted() -> [NetworkNamespaceID] {
        entries.keys.filter { id in
            if id == .node { return false }
            do throws(IOError) {
                _ = try open(id).identity()
                return false
            } catch {
                return true
            }
        }
    }

    package func remove(_ id: NetworkNamespaceID) {
        if id != .node { entries[id] = nil }
    }

    // MARK: private

    private func note(
        _ anchor: Anchor, _ namespace: borrowing NetworkNamespace
    ) throws(IOError) -> NetworkNamespaceID {
        let identity = try namespace.identity()
        // An inode number can come back for another namespace, a cookie can't.
        let cookie = try namespace.cookie()
        if let known = id(ofCookie: cookie) {
            if known == .node { return known }
            entries[known]?.anchors.insert(anchor)
            return known
        }
        let id = nextID(cookie)
        entries[id] = Entry(cookie: cookie, identity: identity, anchors: [anchor])
        return id
    }

    /// With `identity`, only that namespace.
    private func open(
        _ anchor: Anchor, identity: NetworkNamespace.Identity?
    ) throws(IOError) -> NetworkNamespace {
        switch anchor {
        case .node: return try NetworkNamespace.current()
        case .name(let name):
            let namespace = try NetworkNamespace(name: name)
            if let identity, try namespace.identity() != identity { break }
            return namespace
        case .cgroup(let path):
            for pid in processes(below: path) {
                do throws(IOError) {
                    let namespace = try NetworkNamespace(pid: pid)
                    if let identity, try namespace.identity() != identity { continue }
                    return namespace
                } catch { continue }  // The process has ended.
            }
        }
        throw IOError("network namespace", code: 2, object: "\(anchor)")
    }

    /// The processes in a cgroup and below it.
    func processes(below path: String) -> [Int32] {
        var pids = ((try? hierarchy.processes(in: path)) ?? []).filter { $0 > 0 }
        for child in (try? hierarchy.children(of: path)) ?? [] { pids += processes(below: child) }
        return pids
    }
}
