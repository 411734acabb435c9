import CMeshABI
import LinuxIO
import MeshModel

/// Keeps mesh_verdicts: which connections of this node go without the proxy. A path is learnt from a connection that took
/// the proxy's way, judged here, tried with a probe, and written; with each snapshot it is judged anew. What is not (yet)
/// there goes through the proxy, so nothing here can let anything through that was not judged.
final class DirectPaths {
    typealias Path = DirectPlan.Path
    typealias Target = DirectPlan.Target

    /// What the paths need of the node.
    struct Surroundings {
        /// Runs the body in the network namespace with this cookie; throws ENOENT when it is gone.
        var inside: (_ cookie: UInt64, _ body: () throws(KernelTableError) -> Void) throws(KernelTableError) -> Void
        /// Of the network namespace that a workload lives in.
        var cookie: (WorkloadID) -> UInt64?
        /// Calls once, later.
        var after: (_ milliseconds: UInt64, _ body: @escaping () -> Void) -> Void
        var now: () -> UInt64
    }

    private struct Entry {
        var plan: DirectPlan
        /// The policy generation of its verdict; 0: there is none, as its targets are still being tried.
        var generation: UInt32 = 0
        /// Above 0: one of them was not reached, and it is not tried again before that.
        var closedUntil: UInt64 = 0
    }

    private struct Way: Hashable {
        var source: IPAddress
        var namespaceCookie: UInt64
        var target: Target
    }

    /// Fits the kernel's map.
    private let pathsMax: Int
    private let tables: DirectTables
    private let tunnelPort: UInt16
    private let surroundings: Surroundings
    private var entries: [Path: Entry] = [:]
    /// Ways on which a probe has arrived.
    private var open: Set<Way> = []
    private var probed: Set<Way> = []
    private var snapshot: Snapshot?
    private var isCleared = false

    private(set) var written = 0
    /// Connections that could have gone direct and found no verdict.
    private(set) var missed: UInt64 = 0
    /// Paths that had to make room for others.
    private(set) var evicted: UInt64 = 0

    static let closedNanoseconds: UInt64 = 10_000_000_000
    /// Outstanding at once, a socket of meshd's each. Paths beyond go by the proxy for a while, and are tried again.
    static let probesMax = 256
    /// When an outstanding probe is looked at, after the look before.
    private static let looksMilliseconds: [UInt64] = [5, 50, 250, 700]

    init(_ tables: DirectTables, tunnelPort: UInt16, surroundings: Surroundings, pathsMax: Int = 16_384) {
        self.tables = tables
        self.tunnelPort = tunnelPort
        self.surroundings = surroundings
        self.pathsMax = pathsMax
    }

    /// Judges every path by this snapshot. Call it while the generation in the settings is not the snapshot's: what was
    /// written before is void then.
    func apply(_ snapshot: Snapshot) throws(IOError) {
        self.snapshot = snapshot
        try clear()
        for (path, entry) in entries {
            guard let plan = DirectPlan(path, snapshot, tunnelPort: tunnelPort) else {
                try remove(path)
                continue
            }
            if entry.plan == plan && entry.generation == snapshot.policyGeneration { continue }
            if entry.plan != plan { entries[path]?.closedUntil = 0 }
            entries[path]?.plan = plan
            try write(path)
        }
        open = open.filter { snapshot.workload($0.target.workload)?.isRunning ?? false }
    }

    /// A connection took the proxy's way: the next one need not, if both ends are here and policy lets it.
    func learn(_ path: Path) throws(IOError) {
        guard let snapshot else { return }
        if let known = entries[path] {
            missed += 1
            guard known.generation == 0, known.closedUntil != 0, surroundings.now() >= known.closedUntil else { return }
        }
        guard let plan = DirectPlan(path, snapshot, tunnelPort: tunnelPort) else { return }
        if entries[path] == nil {
            missed += 1
            try makeRoom()
        }
        entries[path] = Entry(plan: plan)
        try write(path)
    }

    /// A connection of this path was not accepted: the proxy's way for a while.
    func fail(_ path: Path) throws(IOError) {
        guard let entry = entries[path] else { return }
        for target in entry.plan.targets { open.remove(way(path, entry.plan, target)) }
        try close(path)
    }

    // MARK: private

    /// What an earlier meshd wrote was judged by a snapshot that we do not know.
    private func clear() throws(IOError) {
        guard !isCleared else { return }
        for key in try tables.verdicts.keys() { try tables.verdicts.remove(key) }
        try DirectProbe.forgetAll(tables)
        isCleared = true
    }

    private func makeRoom() throws(IOError) {
        guard entries.count >= pathsMax, let victim = entries.keys.first else { return }
        evicted += 1
        try remove(victim)
    }

    private func remove(_ path: Path) throws(IOError) {
        try unwrite(path)
        entries[path] = nil
    }

    private func close(_ path: Path) throws(IOError) {
        try unwrite(path)
        entries[path]?.closedUntil = surroundings.now() + Self.closedNanoseconds
    }

    private func unwrite(_ path: Path) throws(IOError) {
        guard let generation = entries[path]?.generation, generation != 0 else { return }
        try tables.verdicts.remove(key(path, generation))
        entries[path]?.generation = 0
        written -= 1
    }

    /// Once all of its targets can be reached; else their probes go on with it.
    private func write(_ path: Path) throws(IOError) {
        guard let snapshot, let entry = entries[path], entry.closedUntil == 0 else { return }
        let missing = entry.plan.targets.filter { !open.contains(way(path, entry.plan, $0)) }
        guard missing.isEmpty else {
            // What was written had other targets.
            try unwrite(path)
            for target in missing { probe(path, entry.plan, target) }
            return
        }
        if entry.generation != snapshot.policyGeneration { try unwrite(path) }
        try tables.verdicts.put(key(path, snapshot.policyGeneration), value(entry.plan))
        if entries[path]?.generation == 0 { written += 1 }
        entries[path]?.generation = snapshot.policyGeneration
    }

    private func way(_ path: Path, _ plan: DirectPlan, _ target: Target) -> Way {
        Way(source: plan.source, namespaceCookie: path.namespaceCookie, target: target)
    }

    private func key(_ path: Path, _ generation: UInt32) -> mesh_verdict_key {
        var key = mesh_verdict_key()
        key.netns_cookie = path.namespaceCookie
        key.address = path.destination.address.meshAddress
        key.workload = path.workload.rawValue
        key.policy_generation = generation
        key.port_be = path.destination.port.bigEndian
        return key
    }

    private func value(_ plan: DirectPlan) -> mesh_verdict {
        var value = mesh_verdict()
        value.count = UInt32(plan.targets.count)
        withUnsafeMutableBytes(of: &value.target) { bytes in
            let targets = bytes.bindMemory(to: mesh_verdict_target.self)
            for (index, target) in plan.targets.enumerated() {
                targets[index] = mesh_verdict_target(
                    endpoint: target.address.meshEndpoint, workload: target.workload.rawValue)
            }
        }
        return value
    }

    // MARK: probes

    private func probe(_ path: Path, _ plan: DirectPlan, _ target: Target) {
        let way = way(path, plan, target)
        guard let cookie = surroundings.cookie(target.workload), !probed.contains(way) else { return }
        guard probed.count < Self.probesMax else { return probed(path, way, hasArrived: false) }
        probed.insert(way)
        do throws(IOError) {
            var probe: DirectProbe?
            try surroundings.inside(path.namespaceCookie) { () throws(KernelTableError) in
                probe = try DirectProbe(from: plan.source, to: target, cookie: cookie, tables)
            }
            guard let probe = consume probe else { return probed(path, way, hasArrived: false) }
            look(path, way, Outstanding(probe), looksLeft: Self.looksMilliseconds[...])
        } catch {
            // No way there: no route, no such source address, nothing that listens.
            probed(path, way, hasArrived: false)
        }
    }

    /// A closure can't own what is not copyable.
    private final class Outstanding {
        var probe: DirectProbe?
        init(_ probe: consuming DirectProbe) { self.probe = consume probe }
    }

    private func look(_ path: Path, _ way: Way, _ outstanding: Outstanding, looksLeft: ArraySlice<UInt64>) {
        guard let wait = looksLeft.first else { return finish(path, way, outstanding) }
        surroundings.after(wait) { [weak self] in
            guard let self else { return }
            if (try? outstanding.probe?.hasArrived(tables)) == true { return finish(path, way, outstanding) }
            look(path, way, outstanding, looksLeft: looksLeft.dropFirst())
        }
    }

    private func finish(_ path: Path, _ way: Way, _ outstanding: Outstanding) {
        let hasArrived = (try? outstanding.probe?.hasArrived(tables)) == true
        try? outstanding.probe.take()?.end(tables)
        probed(path, way, hasArrived: hasArrived)
    }

    private func probed(_ path: Path, _ way: Way, hasArrived: Bool) {
        probed.remove(way)
        if hasArrived { open.insert(way) }
        do throws(IOError) {
            for path in entries.keys where path.namespaceCookie == way.namespaceCookie {
                guard let entry = entries[path], entry.generation == 0, entry.plan.source == way.source,
                    entry.plan.targets.contains(way.target)
                else { continue }
                if hasArrived { try write(path) } else { try close(path) }
            }
        } catch { isCleared = false }
    }
}
