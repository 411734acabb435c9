import Glibc
package import LinuxIO
package import MeshModel

/// This node's running workloads: the cgroups that the inventory finds, each with an identity and a network namespace,
/// and whether anything runs in it.
package final class LocalInstances {
    package struct Instance {
        package var path: String
        package var cgroupID: UInt64
        package var resource: ResourceName
        package var workload: WorkloadID
        package var networkNamespace: NetworkNamespaceID
        /// False while the declared namespace does not exist: its connections are refused so long.
        package var isResolved: Bool
        package var isPopulated: Bool
        /// Why it can't be ready.
        package var problem: String?
        fileprivate var declaredNamespace: String?
        fileprivate var watch: FileWatch.WatchID?
        /// Until when its namespace is looked at again: a process may enter its namespace after its cgroup.
        fileprivate var unsettledUntilNanoseconds: UInt64 = 0

        /// Whether `refresh` may find another namespace without an event.
        package var isUnsettled: Bool {
            !isResolved || (declaredNamespace == nil && BootClock.nanoseconds() < unsettledUntilNanoseconds)
        }
    }

    private static let settlingNanoseconds: UInt64 = 3_000_000_000

    /// What a change means to the rest.
    package struct Changes {
        /// Whether the list of instances is another than before.
        package var isChanged = false
        /// Found now.
        package var appeared: [UInt64] = []
        /// Their connections are to be closed.
        package var gone: [WorkloadID] = []
    }

    private let hierarchy: CgroupHierarchy
    private let namespaces: NamespaceTable
    private let events: FileWatch
    private let identities: IdentityKeeper
    private var byCgroup: [UInt64: Instance] = [:]
    private var isWatching = false

    package init(
        hierarchy: CgroupHierarchy, identities: IdentityKeeper, namespaces: NamespaceTable
    ) throws(IOError) {
        self.hierarchy = hierarchy
        self.identities = identities
        self.namespaces = namespaces
        events = try FileWatch()
    }

    /// By workload id.
    package var all: [Instance] { byCgroup.values.sorted { $0.workload.rawValue < $1.workload.rawValue } }

    /// For the snapshot.
    package var localInstances: [LocalInstance] {
        all.map {
            LocalInstance(
                resource: $0.resource, workload: $0.workload, networkNamespace: $0.networkNamespace,
                cgroupID: $0.cgroupID)
        }
    }

    package func instance(cgroup: UInt64) -> Instance? { byCgroup[cgroup] }
    package func instance(_ workload: WorkloadID) -> Instance? { byCgroup.values.first { $0.workload == workload } }

    /// Takes over what a scan found.
    package func update(_ found: [CgroupInventory.Found]) throws(IOError) -> Changes {
        var changes = Changes()
        let wanted = Dictionary(found.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        for (cgroup, instance) in byCgroup {
            let still = wanted[cgroup]
            if still?.resource == instance.resource, still?.networkNamespace == instance.declaredNamespace { continue }
            remove(instance)
            changes.gone.append(instance.workload)
            changes.isChanged = true
        }
        for found in found where byCgroup[found.id] == nil {
            add(found, &changes)
            changes.appeared.append(found.id)
            changes.isChanged = true
        }
        identities.store.keepWorkloads(of: Set(byCgroup.keys))
        try identities.store.save()
        return changes
    }

    /// Readable when a cgroup may have been filled or emptied: then call `refresh`.
    package func watch(
        on reactor: Reactor, body: @escaping () -> Void
    ) throws(IOError) -> Reactor.WatchID {
        isWatching = true
        return try reactor.watch(events.descriptor) { [weak self] _ in
            _ = try? self?.events.events()
            body()
        }
    }

    /// Looks again at who is populated and at the namespaces.
    package func refresh() throws(IOError) -> Changes {
        var changes = Changes()
        for (cgroup, instance) in byCgroup {
            // Gone between two scans: the next one removes it.
            guard let isPopulated = try? hierarchy.isPopulated(instance.path) else { continue }
            byCgroup[cgroup]?.isPopulated = isPopulated
            if isPopulated && !instance.isPopulated {
                byCgroup[cgroup]?.unsettledUntilNanoseconds = BootClock.nanoseconds() + Self.settlingNanoseconds
                resolve(cgroup, &changes)
            } else if instance.isUnsettled {
                resolve(cgroup, &changes)
            }
        }
        try identities.store.save()
        return changes
    }

    /// `namespace` is dead. Workloads that lived in it have ended; if their cgroups remain, what starts there next is
    /// another workload.
    package func retire(_ namespace: NetworkNamespaceID, cookie: UInt64?) throws(IOError) -> Changes {
        var changes = Changes()
        if let cookie { identities.store.retireNamespace(cookie: cookie) }
        for (cgroup, instance) in byCgroup where instance.networkNamespace == namespace && namespace != .node {
            changes.gone.append(instance.workload)
            changes.isChanged = true
            identities.store.retireWorkload(cgroup: cgroup)
            remove(instance)
            let found = CgroupInventory.Found(
                path: instance.path, id: cgroup, resource: instance.resource,
                networkNamespace: instance.declaredNamespace)
            // Else the next scan finds out that it is gone.
            if (try? hierarchy.id(of: instance.path)) == cgroup { add(found, &changes) }
        }
        try identities.store.save()
        return changes
    }

    /// A workload whose namespace was only assumed connects from another: it lives there. False when nothing changed.
    package func move(_ workload: WorkloadID, to namespace: NetworkNamespaceID) -> Bool {
        guard let instance = instance(workload), instance.declaredNamespace == nil,
            instance.networkNamespace == .node, namespace != .node
        else { return false }
        byCgroup[instance.cgroupID]?.networkNamespace = namespace
        return true
    }

    // MARK: private

    private func add(_ found: CgroupInventory.Found, _ changes: inout Changes) {
        var instance = Instance(
            path: found.path, cgroupID: found.id, resource: found.resource,
            workload: identities.store.workload(cgroup: found.id, resource: found.resource), networkNamespace: .node,
            isResolved: false, isPopulated: (try? hierarchy.isPopulated(found.path)) ?? false,
            declaredNamespace: found.networkNamespace)
        do throws(IOError) {
            instance.watch = try events.add(hierarchy.directory(found.path) + "/cgroup.events", .modified)
        } catch {
            instance.problem = "can't watch cgroup \(found.path): \(error)"
        }
        // Filled before anybody looked. What ran before meshd did has its namespace already.
        if instance.isPopulated && isWatching {
            instance.unsettledUntilNanoseconds = BootClock.nanoseconds() + Self.settlingNanoseconds
        }
        byCgroup[found.id] = instance
        resolve(found.id, &changes)
    }

    private func remove(_ instance: Instance) {
        if let watch = instance.watch { events.remove(watch) }
        byCgroup[instance.cgroupID] = nil
    }

    private func resolve(_ cgroup: UInt64, _ changes: inout Changes) {
        guard var instance = byCgroup[cgroup] else { return }
        let before = (instance.networkNamespace, instance.isResolved)
        do throws(IOError) {
            if let name = instance.declaredNamespace {
                instance.networkNamespace = try namespaces.resolve(.name(name))
            } else if instance.isPopulated {
                instance.networkNamespace = try namespaces.resolve(.cgroup(path: instance.path))
            }
            // An empty cgroup without a declaration counts as the node's until something runs in it: for most that is
            // right at once, and the others' first connection elsewhere is reported by the connect hook.
            instance.isResolved = true
            instance.problem = nil
        } catch  where instance.declaredNamespace == nil && error.code == ENOENT {
            // Its last process ended between two looks: as empty as one that has none.
            instance.isResolved = true
            instance.problem = nil
        } catch {
            instance.isResolved = instance.declaredNamespace == nil
            instance.problem = "workload \(instance.resource) (\(instance.path)): \(error)"
        }
        byCgroup[cgroup] = instance
        if before != (instance.networkNamespace, instance.isResolved) { changes.isChanged = true }
    }
}
