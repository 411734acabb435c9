import Interception
import LinuxIO
import MeshConfig
import MeshDiscovery
import MeshModel

/// Resources and running instances become the snapshot: built when one of them changes, put into force, kept on disk.
final class ResourceState {
    private var builder: SnapshotBuilder
    private var lastGood: LastGoodSnapshot
    private var resources = ResourceSet()
    private var instances: [LocalInstance] = []
    private(set) var snapshot: Snapshot?
    /// The last attempt to build or to save failed so.
    private(set) var problem: String?
    private let log: DaemonLog
    private let inForce: (Snapshot) throws(IOError) -> Void

    init(
        _ configuration: Configuration, log: DaemonLog, inForce: @escaping (Snapshot) throws(IOError) -> Void
    ) {
        self.log = log
        self.inForce = inForce
        lastGood = LastGoodSnapshot(stateDirectory: configuration.stateDirectory)
        var ids = SnapshotIDs()
        do {
            let node = configuration.node
            if let saved = try lastGood.load(localNode: node, trustDomain: configuration.trustDomain) {
                ids = SnapshotIDs(continuing: saved)
                resources = ResourceSet(of: saved)
            }
        } catch {
            log.warning("starts without the last good snapshot: \(error)")
        }
        builder = SnapshotBuilder(
            localNode: configuration.node, trustDomain: configuration.trustDomain,
            rootNamespace: configuration.rootNamespace, ids: ids)
    }

    /// What an earlier meshd left, for the time until the files are read.
    var lastGoodResources: ResourceSet { resources }

    func set(_ resources: ResourceSet) {
        self.resources = resources
        rebuild()
    }

    func set(_ instances: [LocalInstance]) {
        self.instances = instances
        rebuild()
    }

    // MARK: private

    private func rebuild() {
        do {
            let next = try builder.build(resources, instances: instances)
            guard next.version != snapshot?.version else { return }
            snapshot = next
            try inForce(next)
            log.info("snapshot \(next.version) in force (policy generation \(next.policyGeneration))")
            try lastGood.save(next)
            problem = nil
        } catch {
            problem = "\(error)"
            log.error("snapshot not in force or not saved: \(error)")
        }
    }
}
