import CMeshABI
import Glibc
@testable import Interception
import LinuxIO
import MeshModel
import ProxyControl
import Testing

@Suite struct InterceptorTests {
    private let web = workload("web", .cgroup(pattern: "w/web"), addresses: ["10.0.0.1"])

    @Test func aWorkloadBecomesReadyOnceTheProxyKnowsIt() throws {
        let node = try Node("ready", [web])
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        try node.start()
        // Found, but the proxy has not said that it uses the snapshot.
        #expect(node.state(of: "/w/web")?.state == 1)
        #expect(try node.run { node.state(of: "/w/web")?.state == 2 })
        let workload = try #require(node.state(of: "/w/web")?.workload)
        #expect(node.kernel.workloads[workload] != nil && node.kernel.settings.enabled == 1)
        #expect(node.kernel.settings.root_level == 1)
        let cookie = try NetworkNamespace.cookieOfCallingThread()
        #expect(node.kernel.listeners[mesh_listeners_key(netns_cookie: cookie, family: 2, pad: 0)]?.count == 4)
        // Four IPv4 listeners, one IPv6, one for tunnels, eight for names; 64 dial sockets of each node pool in use, and
        // four for names.
        let counters = try #require(try node.counters())
        // Listeners are looked for where the workload is, once.
        #expect(node.kernel.listenerScans == 1)
        #expect(counters.handshakesTotal == 14 && counters.tunnels == 14 + 64 + 64 + 4)
    }

    @Test func newCgroupsAreFoundByTheirEventAndForgottenWhenRemoved() throws {
        let node = try Node("event", [web])
        try node.start()
        #expect(try node.run { node.hellos == 1 })
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        let id = try node.cgroup.hierarchy.id(of: node.cgroup.path + "/w/web")
        try node.kernel.tables.cgroups.put(id, mesh_cgroup(workload: 0, state: 1, pad: (0, 0, 0)))
        var event = mesh_event()
        event.kind = 4
        event.value = id
        node.interceptor?.handle(event)
        #expect(try node.run(until: { node.kernel.cgroups[id]?.state == 2 }, milliseconds: 1_000))
        let workload = try #require(node.kernel.cgroups[id]?.workload)
        try node.cgroup.hierarchy.remove(node.cgroup.path + "/w/web")
        event.kind = 5
        node.interceptor?.handle(event)
        #expect(try node.run(until: { node.kernel.cgroups[id] == nil }, milliseconds: 1_000))
        #expect(node.kernel.workloads[workload] == nil)
    }

    @Test func aNamespaceGetsItsListenersAndLosesThemWithinASecondOfItsEnd() throws {
        let named = try TestNamespace("shop")
        let own = workload("own", .cgroup(pattern: "w/own"), addresses: ["10.0.0.3"])
        let node = try Node("namespace", [own])
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/own")
        try node.start()
        #expect(try node.run { node.hellos == 1 })
        let process = try node.runProcess(in: "/w/own", namespace: named.name)
        let cookie = try NetworkNamespace(name: named.name).cookie()
        let key = mesh_listeners_key(netns_cookie: cookie, family: 2, pad: 0)
        #expect(try node.run { node.kernel.listeners[key]?.count == 4 })
        let first = try #require(node.state(of: "/w/own")?.workload)
        #expect(try node.run { (try node.counters()?.handshakesTotal ?? 0) >= 27 })
        // The name goes first, then the process: nobody but the mesh's sockets is left.
        try command("/usr/sbin/ip", "netns", "del", named.name)
        kill(process, SIGKILL)
        #expect(try node.run(until: { node.kernel.listeners[key] == nil }, milliseconds: 1_000))
        #expect(try node.run { (try node.counters()?.handshakesTotal ?? 99) <= 14 })
        // What starts there next is another workload.
        #expect(try node.run { node.state(of: "/w/own").map { $0.workload != first && $0.state == 2 } ?? false })
    }

    @Test func aDeclaredNamespaceThatIsMissingIsWaitedFor() throws {
        let name = "culvert-i\(getpid())-late"
        let node = try Node("late", [workload("late", .cgroup(pattern: "w/late"), networkNamespace: name)])
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/late")
        try node.start()
        #expect(try node.run { node.hellos == 1 })
        #expect(try node.run { node.reports.contains { $0.contains(name) } })
        #expect(node.state(of: "/w/late")?.state == 1)
        let named = try TestNamespace("late")
        #expect(try node.run { node.state(of: "/w/late")?.state == 2 })
        let cookie = try NetworkNamespace(name: named.name).cookie()
        #expect(node.kernel.listeners[mesh_listeners_key(netns_cookie: cookie, family: 2, pad: 0)] != nil)
    }

    @Test func aWorkloadThatMovedElsewhereGetsListenersOnDemand() throws {
        let named = try TestNamespace("moved")
        let node = try Node("moved", [web])
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        _ = try node.runProcess(in: "/w/web")
        try node.start()
        #expect(try node.run { node.state(of: "/w/web")?.state == 2 })
        let process = try node.runProcess(in: "/w/web", namespace: named.name)
        usleep(200_000)
        var event = mesh_event()
        event.kind = 7
        event.socket.workload = try #require(node.state(of: "/w/web")?.workload)
        event.socket.pid = UInt32(process)
        event.socket.netns_cookie = try NetworkNamespace(name: named.name).cookie()
        node.interceptor?.handle(event)
        let key = mesh_listeners_key(netns_cookie: event.socket.netns_cookie, family: 2, pad: 0)
        #expect(try node.run(until: { node.kernel.listeners[key]?.count == 4 }, milliseconds: 1_000))
    }

    @Test func aTakenPortIsReportedUntilItIsFree() throws {
        let node = try Node("port", [web])
        try command("/usr/sbin/ip", "link", "set", "lo", "up")
        var squatter: PlainListener? = try PlainListener(SocketAddress(IPAddress(ipv4: 0x7f4d_0001), 15001))
        try node.start()
        #expect(try node.run { node.reports.contains { $0.contains("bind") && $0.contains("127.77.0.1:15001") } })
        #expect(node.interceptor?.currentProblems.isEmpty == false)
        #expect(squatter != nil)
        squatter = nil
        #expect(try node.run(until: { node.interceptor?.currentProblems.isEmpty ?? false }, milliseconds: 8_000))
    }

    @Test func unreachableNodesAreRefusedInTheKernelUntilAProbeSucceeds() throws {
        let node = try Node("probe", [web, workload("db", .cgroup(pattern: "x"), node: "b", addresses: ["10.0.0.2"])])
        try node.start()
        #expect(try node.run { node.hellos == 1 })
        let snapshot = try #require(node.interceptor?.snapshot)
        let b = try #require(snapshot.allNodes.first { $0.name == "b" }?.id)
        let key = mesh_destination_key(
            network: 0, port_be: 0, pad: 0, address: IPAddress(ipv4: 0x0a00_0002).meshAddress)
        #expect(node.kernel.destinations[key]?.refuse_errno == 0)
        node.interceptor?.broadcast(.retireCertificate(principal: "unreachable \(b.rawValue)"))
        #expect(try node.run { node.kernel.destinations[key]?.refuse_errno == UInt16(EHOSTUNREACH) })
        node.interceptor?.broadcast(.retireCertificate(principal: "reachable \(b.rawValue)"))
        #expect(try node.run { node.kernel.destinations[key]?.refuse_errno == 0 })
    }

    @Test func dialPoolsAreRefilledWithinTheirBounds() throws {
        let node = try Node("pools", [web])
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        try node.start()
        #expect(try node.run { node.state(of: "/w/web")?.state == 2 })
        let before = try #require(try node.counters()).tunnels
        node.interceptor?.broadcast(.retireCertificate(principal: "need 0"))
        #expect(try node.run { (try node.counters()?.tunnels ?? 0) >= before + 200 })
        // A pool that there is no reason for is not filled.
        node.interceptor?.broadcast(.retireCertificate(principal: "need 77"))
        #expect(try #require(try node.counters()).tunnels == before + 200)
    }

    @Test func aNewDaemonGoesOnWithProxyListenersAndNumbers() throws {
        let node = try Node("again", [web])
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        try node.start()
        #expect(try node.run { node.state(of: "/w/web")?.state == 2 })
        let workload = try #require(node.state(of: "/w/web")?.workload)
        let pid = try #require(node.interceptor?.proxyPID)
        let held = try #require(try node.counters()).tunnels
        node.interceptor?.shutdown()
        node.kernel.cgroups.journal = []
        try node.start()
        #expect(try node.run { node.hellos == 2 })
        // Never refused in between: the entry was not written again.
        #expect(node.kernel.cgroups.journal.isEmpty && node.state(of: "/w/web")?.workload == workload)
        #expect(node.interceptor?.proxyPID == pid)
        let counters = try #require(try node.counters())
        #expect(counters.handshakesTotal == 14 && counters.tunnels == held)
    }

    @Test func aKilledProxyGetsEverythingAgain() throws {
        let node = try Node("killed", [web])
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        try node.start()
        #expect(try node.run { node.state(of: "/w/web")?.state == 2 })
        let pid = try #require(node.interceptor?.proxyPID)
        kill(pid, SIGKILL)
        #expect(try node.run(until: { node.hellos == 2 }, milliseconds: 2_000))
        let counters = try #require(try node.counters())
        #expect(counters.handshakesTotal == 14 && counters.tunnels == 146)
        #expect(node.state(of: "/w/web")?.state == 2)
    }

    @Test func theNextProxyServesTheVerySameListeners() throws {
        let node = try Node("heir", [web])
        try node.cgroup.hierarchy.create(node.cgroup.path + "/w/web")
        try node.start()
        #expect(try node.run { node.state(of: "/w/web")?.state == 2 })
        let old = try #require(node.interceptor?.proxyPID)
        let before = try #require(try node.counters())
        let sockets = try listeners(of: old)
        #expect(sockets.count == 6)
        // The next meshd knows only what the proxy gives it back.
        node.interceptor?.shutdown()
        node.replacedProxyPID = old
        try node.start()
        #expect(try node.run { node.interceptor?.proxyPID != old && access("/proc/\(old)", F_OK) != 0 })
        let new = try #require(node.interceptor?.proxyPID)
        #expect(try listeners(of: new) == sockets)
        let counters = try #require(try node.counters())
        #expect(counters.handshakesTotal == before.handshakesTotal && counters.tunnels == before.tunnels)
        #expect(node.state(of: "/w/web")?.state == 2)
        // And a proxy that is killed leaves them to the one after.
        kill(new, SIGKILL)
        #expect(try node.run { node.hellos == 4 })
        #expect(try node.run { try node.interceptor?.proxyPID.map { try listeners(of: $0) == sockets } ?? false })
    }

    /// The inodes of the listening sockets that a process has open.
    private func listeners(of pid: Int32) throws -> Set<String> {
        var listening: Set<String> = []
        for file in ["tcp", "tcp6"] {
            for line in try TextFile.read("/proc/thread-self/net/\(file)").split(separator: "\n") {
                let fields = line.split(separator: " ")
                if fields.count > 9, fields[3] == "0A" { listening.insert("socket:[\(fields[9])]") }
            }
        }
        var found: Set<String> = []
        for entry in try TextFile.list("/proc/\(pid)/fd") {
            var buffer = [CChar](repeating: 0, count: 64)
            guard readlink("/proc/\(pid)/fd/\(entry.name)", &buffer, 63) > 0 else { continue }
            let name = buffer.withUnsafeBufferPointer { bytes in
                String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            }
            if listening.contains(name) { found.insert(name) }
        }
        return found
    }

    @Test func uninstallLeavesNoProcessCgroupOrFile() throws {
        let node = try Node("uninstall", [web])
        try node.start()
        #expect(try node.run { node.hellos == 1 })
        let pid = try #require(node.interceptor?.proxyPID)
        node.interceptor?.uninstall()
        #expect(access("/proc/\(pid)", F_OK) != 0)
        #expect(access(node.cgroup.hierarchy.directory(node.cgroup.path) + "/culvert", F_OK) != 0)
        #expect(try TextFile.list(node.directory).isEmpty)
    }
}
