import CMeshABI
import Glibc
@testable import Interception
import LinuxIO
import MeshModel
import ProxyControl
import Testing

/// meshd's composition in small: a reactor, maps in memory or the real programs, the fixture as proxy, snapshots built on every change.
final class Node {
    let network: OwnNetwork
    let cgroup: TestCgroup
    let directory: String
    let reactor: Reactor
    let kernel = FakeKernel()
    let isReal: Bool
    var nodeKernel: NodeKernel?
    var events: [mesh_event] = []
    var interceptor: Interceptor?
    var builder = SnapshotBuilder(localNode: "a", trustDomain: "culvert.example")
    var resources = ResourceSet()
    var messages: [ProxyMessage] = []
    var reports: [String] = []
    var hellos = 0
    /// nil: the fixture.
    var proxyExecutable: String?
    var replacedProxyPID: Int32?
    private var children: [Int32] = []

    /// With `isReal`, the programs of bpf/ on a BPF file system of its own.
    init(_ suffix: String, _ workloads: [WorkloadResource], isReal: Bool = false) throws {
        self.isReal = isReal
        network = try OwnNetwork(suffix)
        cgroup = try TestCgroup(suffix)
        directory = "/tmp/culvert-i\(getpid())-\(suffix)"
        reactor = try Reactor()
        resources.workloads = workloads
        resources.nodes = [
            NodeResource(name: "a", tunnelAddresses: [IPAddress(ipv4: 0x7f00_0001)]),
            NodeResource(name: "b", tunnelAddresses: [IPAddress(ipv4: 0xc000_0202)]),
        ]
    }

    deinit {
        interceptor?.uninstall()
        nodeKernel = nil
        if isReal {
            umount(directory + "/bpf")
            rmdir(directory + "/bpf")
        }
        for child in children { kill(child, SIGKILL) }
        rmdir(directory)
    }

    func start() throws {
        var configuration = Interceptor.Configuration(
            node: "a", cgroupRoot: cgroup.hierarchy.directory(cgroup.path), runtimeDirectory: directory,
            executable: try meshdPath(), proxyUID: 65_534,
            proxyGID: 65_534)
        configuration.marksSockets = isReal
        configuration.bpffs = directory + "/bpf"
        configuration.proxyExecutable =
            try proxyExecutable ?? meshdPath().replacingSuffix("meshd", "interception-fixture")
        configuration.replacedProxyPID = replacedProxyPID
        let tables = try loadKernel(configuration)
        let interceptor = try Interceptor(
            configuration, tables: tables, reactor: reactor,
            callbacks: .init(
                instancesChanged: { [unowned self] in apply($0) },
                proxyConnected: { [unowned self] _, _ in
                    hellos += 1
                    return [.welcome(ProxySettings())]
                },
                proxyEnded: { _ in }, proxyMessage: { [unowned self] message, _ in messages.append(message) },
                report: { [unowned self] in reports.append($0.text) }))
        self.interceptor = interceptor
        try interceptor.setWorkloads(resources.workloads)
        apply(interceptor.instances.localInstances)
        try interceptor.start()
    }

    private func loadKernel(_ configuration: Interceptor.Configuration) throws -> KernelTables {
        guard isReal else {
            try MeshCgroups(root: cgroup.path, cgroup.hierarchy).prepare(cgroup.hierarchy, movesCaller: false)
            return kernel.tables
        }
        if access(configuration.bpffs, F_OK) != 0 {
            try TextFile.createDirectory(configuration.bpffs)
            try #require(mount("bpf", configuration.bpffs, "bpf", 0, nil) == 0)
        }
        let loaded = try NodeKernel(configuration, movesCaller: false)
        nodeKernel = loaded
        try loaded.watchEvents(on: reactor) { [unowned self] event in
            events.append(event)
            interceptor?.handle(event)
        }
        return loaded.tables
    }

    func apply(_ instances: [LocalInstance]) {
        do { try interceptor?.apply(builder.build(resources, instances: instances)) } catch {
            Issue.record("\(error)")
        }
    }

    func run(until isDone: () throws -> Bool, milliseconds: UInt64 = 5_000) throws -> Bool {
        let deadline = BootClock.nanoseconds() + milliseconds * 1_000_000
        while try !isDone(), BootClock.nanoseconds() < deadline { try reactor.turn(limitMilliseconds: 20) }
        return try isDone()
    }

    /// A process in the cgroup, in the namespace if one is named.
    func runProcess(
        in path: String, namespace: String? = nil, _ command: [String] = ["/bin/sleep", "300"]
    ) throws -> Int32 {
        let child = try spawn(command, in: path, namespace: namespace)
        children.append(child.pid)
        return child.pid
    }

    /// Whether a process in the cgroup can connect to `address` port 80. The reactor goes on meanwhile.
    func connects(from path: String, to address: String, namespace: String? = nil) throws -> Bool {
        let script = "exec 3<>/dev/tcp/\(address)/80"
        let child = try spawn(["/bin/bash", "-c", script], in: path, namespace: namespace)
        while !child.hasEnded() { try reactor.turn(limitMilliseconds: 10) }
        return child.reap() == .exited(code: 0)
    }

    private func spawn(_ command: [String], in path: String, namespace: String?) throws -> ChildProcess {
        let enter = namespace.map { ["/usr/sbin/ip", "netns", "exec", $0] } ?? []
        let arguments = enter + command
        var spawn = ProcessSpawn(path: arguments[0], arguments: arguments)
        spawn.environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        spawn.cgroupProcs = cgroup.hierarchy.procsFile(cgroup.path + path)
        return try spawn.start(passing: DescriptorBatch())
    }

    /// What the proxy says it holds.
    func counters() throws -> ProxyCounters? {
        messages = []
        interceptor?.broadcast(.report)
        _ = try run { !messages.isEmpty }
        guard case .counters(let counters) = messages.first else { return nil }
        return counters
    }

    func state(of path: String) -> mesh_cgroup? {
        (try? cgroup.hierarchy.id(of: cgroup.path + path)).flatMap { kernel.cgroups[$0] }
    }
}

extension String {
    fileprivate func replacingSuffix(_ old: String, _ new: String) -> String {
        hasSuffix(old) ? dropLast(old.count) + new : self
    }
}
