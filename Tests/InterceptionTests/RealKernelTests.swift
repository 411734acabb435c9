import CMeshABI
import Glibc
@testable import Interception
import LinuxIO
import MeshModel
import ProxyControl
import Testing

/// The interceptor with the programs of bpf/: what a workload's connect() meets.
@Suite struct RealKernelTests {
    private let resources = [
        workload("web", .cgroup(pattern: "w/web"), addresses: ["10.0.0.1"]),
        workload("db", .cgroup(pattern: "x"), node: "b", addresses: ["10.0.0.2"]),
    ]

    @Test func aConnectIsHandedToTheProxyWithItsDestination() throws {
        let node = try Node("capture", resources, isReal: true)
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        try node.start()
        #expect(try node.run { node.isReady("/w/web") })
        #expect(try node.connects(from: "/w/web", to: "10.0.0.2"))
        let counters = try #require(try node.counters())
        #expect(counters.connectionsTotal == 1 && counters.bytesToTunnels == 0x0a00_0002)
    }

    @Test func aNewCgroupIsRefusedUntilItIsReadyAndThenWorks() throws {
        let node = try Node("fresh", resources, isReal: true)
        try node.start()
        #expect(try node.run { node.hellos == 1 })
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        // The reactor has not turned: nobody but classify_cgroup knows it.
        let id = try node.cgroup.hierarchy.id(of: node.cgroup.path + "/w/web")
        #expect(try node.nodeKernel?.tables.cgroups.get(id)?.state == 1)
        #expect(try node.run(until: { node.isReady("/w/web") }, milliseconds: 1_000))
        #expect(try node.connects(from: "/w/web", to: "10.0.0.2"))
        // And its entry goes with it.
        for _ in 0..<50 {
            do {
                try node.cgroup.hierarchy.remove(node.cgroup.path + "/w/web")
                break
            } catch { usleep(10_000) }
        }
        #expect(try node.run(until: { try node.nodeKernel?.tables.cgroups.get(id) == nil }, milliseconds: 1_000))
    }

    @Test func anUnreachableNodeIsRefusedInConnect() throws {
        let node = try Node("refuse", resources, isReal: true)
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        try node.start()
        #expect(try node.run { node.isReady("/w/web") })
        let b = try #require(node.interceptor?.snapshot?.allNodes.first { $0.name == "b" }?.id)
        node.interceptor?.broadcast(.retireCertificate(principal: "unreachable \(b.rawValue)"))
        #expect(try node.run { node.interceptor?.unreachableNodes[b] == EHOSTUNREACH })
        #expect(try !node.connects(from: "/w/web", to: "10.0.0.2"))
        #expect(try node.run { node.events.contains { $0.kind == 3 && $0.reason == 9 } })
        node.interceptor?.broadcast(.retireCertificate(principal: "reachable \(b.rawValue)"))
        #expect(try node.run { node.interceptor?.unreachableNodes.isEmpty ?? false })
        #expect(try node.connects(from: "/w/web", to: "10.0.0.2"))
    }

    @Test func aNamespaceThatAWorkloadEntersIsServedAfterItsFirstConnect() throws {
        let named = try TestNamespace("entered")
        let node = try Node("entered", resources, isReal: true)
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        _ = try node.runProcess(in: "/w/web")
        try node.start()
        #expect(try node.run { node.isReady("/w/web") })
        #expect(try !node.connects(from: "/w/web", to: "10.0.0.2", namespace: named.name))
        // The process that asked is gone by then, so it takes one that stays to find the namespace.
        _ = try node.runProcess(in: "/w/web", namespace: named.name)
        usleep(200_000)
        _ = try node.connects(from: "/w/web", to: "10.0.0.2", namespace: named.name)
        #expect(
            try node.run {
                try node.connects(from: "/w/web", to: "10.0.0.2", namespace: named.name)
            })
    }

    @Test func aNewDaemonTakesTheKernelSideOverWithoutAGap() throws {
        let node = try Node("takeover", resources, isReal: true)
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        try node.start()
        #expect(try node.run { node.isReady("/w/web") })
        node.interceptor?.shutdown()
        node.interceptor = nil
        node.nodeKernel = nil
        // Nobody serves the control socket; capture and proxy go on.
        #expect(try node.connects(from: "/w/web", to: "10.0.0.2"))
        try node.start()
        #expect(try node.connects(from: "/w/web", to: "10.0.0.2"))
        #expect(try node.run { node.hellos == 2 })
        #expect(try node.connects(from: "/w/web", to: "10.0.0.2"))
        #expect(try #require(try node.counters()).connectionsTotal == 3)
    }

    @Test func aKilledProxyIsBackInSeconds() throws {
        let node = try Node("proxykill", resources, isReal: true)
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        try node.start()
        #expect(try node.run { node.isReady("/w/web") })
        let pid = try #require(node.interceptor?.proxyPID)
        kill(pid, SIGKILL)
        usleep(50_000)
        // Its listeners are kept: a connection waits in them for the next one.
        #expect(try node.connects(from: "/w/web", to: "10.0.0.2"))
        #expect(try node.run(until: { node.hellos == 2 }, milliseconds: 2_000))
        var served: UInt64 = 0
        #expect(
            try node.run {
                served += try node.counters()?.connectionsTotal ?? 0
                return served == 1
            }, "\(served), \(node.reports)")
    }

    @Test func listenersOfAProxyThatDoesNotComeBackAreClosed() throws {
        let node = try Node("orphans", resources, isReal: true)
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        try node.start()
        #expect(try node.run { node.isReady("/w/web") })
        let pid = try #require(node.interceptor?.proxyPID)
        // None is started any more.
        node.interceptor?.supervisor?.isStopped = true
        kill(pid, SIGKILL)
        #expect(try node.run(until: { try !node.connects(from: "/w/web", to: "10.0.0.2") }, milliseconds: 8_000))
    }

    @Test func aListenerThatIsOlderThanTheDaemonIsKnown() throws {
        let named = try TestNamespace("older")
        let node = try Node("older", resources, isReal: true)
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        let script = "import socket, time; s = socket.create_server(('', 8888)); time.sleep(300)"
        let server = try node.runProcess(in: "/w/web", namespace: named.name, ["/usr/bin/python3", "-c", script])
        // 22B8 is 8888, 0A listening.
        #expect(
            try node.run {
                try TextFile.read("/proc/\(server)/net/tcp").contains(":22B8 00000000:0000 0A")
            })
        try node.start()
        #expect(try node.run { node.isReady("/w/web") })
        let workload = try #require(
            try node.nodeKernel?.tables.cgroups.get(
                node.cgroup.hierarchy.id(of: node.cgroup.path + "/w/web"))?.workload)
        let owner = try #require(try node.nodeKernel?.owners().first { $0.key.port_be == UInt16(8888).bigEndian })
        #expect(owner.owner.workload == workload && owner.owner.listeners == 1)
        kill(server, SIGKILL)
        #expect(try node.run { try node.nodeKernel?.owners().isEmpty ?? false })
    }

    @Test func aListenerOnAPortOfTheMeshIsClosedAndNamed() throws {
        let named = try TestNamespace("meshport")
        let node = try Node("meshport", resources, isReal: true)
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        // Before the programs are there: bind() is refused afterwards. 15006 is 3A9E, 0A listening.
        let script = "import socket, time; s = socket.create_server(('', 15006)); time.sleep(300)"
        let server = try node.runProcess(in: "/w/web", namespace: named.name, ["/usr/bin/python3", "-c", script])
        func listens() throws -> Bool {
            try TextFile.read("/proc/\(server)/net/tcp").contains(":3A9E 00000000:0000 0A")
        }
        #expect(try node.run { try listens() })
        try node.start()
        #expect(try node.run { try !listens() })
        let problems = try #require(node.interceptor).currentProblems
        let sign = "listened on [::]:15006, a port of the mesh: its socket was closed (mesh_port_reserved)"
        #expect(problems.contains { $0.contains("/web \(sign)") }, "\(problems)")
        #expect(node.reports.contains { $0.contains(sign) })
    }

    @Test func twoWorkloadsOnOnePortAreReportedWhileTheyAre() throws {
        let named = try TestNamespace("conflict")
        let both = resources + [workload("api", .cgroup(pattern: "w/api"), addresses: ["10.0.0.3"])]
        let node = try Node("conflict", both, isReal: true)
        for name in ["web", "api"] { try node.cgroup.hierarchy.create(node.cgroup.path + "/w/\(name)") }
        try node.start()
        #expect(try node.run { node.isReady("/w/web") && node.isReady("/w/api") })
        let script = "import socket, time; s = socket.create_server(('', 8888), reuse_port=True); time.sleep(300)"
        let command = ["/usr/bin/python3", "-c", script]
        _ = try node.runProcess(in: "/w/web", namespace: named.name, command)
        #expect(
            try node.run {
                try node.nodeKernel?.owners().contains { $0.key.port_be == UInt16(8888).bigEndian } ?? false
            })
        let second = try node.runProcess(in: "/w/api", namespace: named.name, command)
        func isReported() -> Bool {
            node.interceptor?.currentProblems.contains { $0.contains("/api listens on [::]:8888") } ?? false
        }
        #expect(try node.run { isReported() })
        // It is looked for again, and found as long as it is there.
        node.interceptor?.conflicts.keepNanoseconds = 0
        node.interceptor?.rescanThoroughly()
        #expect(try node.run { isReported() })
        kill(second, SIGKILL)
        usleep(200_000)
        node.interceptor?.rescanThoroughly()
        #expect(try node.run { !isReported() })
    }

    @Test func aProgramThatWasUnpinnedOrDetachedIsNamed() throws {
        let node = try Node("faults", resources, isReal: true)
        try node.start()
        let kernel = try #require(node.nodeKernel)
        let pins = try #require(node.interceptor?.configuration).pinDirectory
        #expect(kernel.faults() == [])
        #expect(unlink(pins + "/link_mesh_cgmkdir") == 0)
        #expect(unlink(pins + "/link_mesh_connect4") == 0)
        #expect(kernel.faults().map { $0.prefix { $0 != " " } } == ["mesh_cgmkdir", "mesh_connect4"])
    }

    @Test func uninstallLeavesNoPin() throws {
        let node = try Node("unpin", resources, isReal: true)
        try node.start()
        #expect(try node.run { node.hellos == 1 })
        let configuration = try #require(node.interceptor?.configuration)
        #expect(try !TextFile.list(configuration.pinDirectory).isEmpty)
        node.interceptor?.uninstall()
        try NodeKernel.uninstall(configuration)
        #expect(access(configuration.pinDirectory, F_OK) != 0)
    }
}

extension Node {
    func isReady(_ path: String) -> Bool {
        guard let id = try? cgroup.hierarchy.id(of: cgroup.path + path) else { return false }
        return (try? nodeKernel?.tables.cgroups.get(id))?.state == 2
    }
}
