import Glibc
@testable import Interception
import LinuxIO
import MeshModel
import Testing

func workload(
    _ name: String, _ processes: WorkloadSelector.Processes, networkNamespace: String? = nil, node: String = "a",
    addresses: [String] = [], ports: [UInt16] = []
) -> WorkloadResource {
    WorkloadResource(
        name: name, namespace: "shop", serviceAccount: name, node: node,
        selector: WorkloadSelector(processes, networkNamespace: networkNamespace),
        addresses: addresses.compactMap { IPAddress(parsing: $0) }, ports: ports, labels: ["app": name])
}

@Suite struct InventoryTests {
    @Test(arguments: [
        ("/a/b", "/a/b", true), ("/a/*", "/a/b", true), ("/a/*", "/a/b/c", false), ("/a/w*1", "/a/w-x-1", true),
        ("/a/w*1", "/a/w-x-2", false), ("/a/**/u.service", "/a/u.service", true),
        ("/a/**/u.service", "/a/x/y/u.service", true), ("/a/**/u.service", "/a/x/u.service/z", false),
        ("/a/*b*", "/a/xxbyy", true), ("/*", "/", false), ("/a/*.service", "/a/.service", true),
    ])
    func patternsMatchWithinOneComponent(pattern: String, path: String, expected: Bool) {
        #expect(CgroupPattern(absolute: pattern).matches(path) == expected)
    }

    @Test func hostilePatternsTakeNoTime() {
        let text = String(repeating: "a", count: 255)
        let glob = String(repeating: "*a", count: 60) + "b"
        let start = BootClock.nanoseconds()
        #expect(!CgroupPattern.component(text, matches: glob))
        #expect(BootClock.nanoseconds() - start < 100_000_000)
    }

    @Test func selectorsAreRelativeToTheNodesRoot() {
        #expect(CgroupPattern(.cgroup(pattern: "w/*"), root: "/lab/a").description == "/lab/a/w/*")
        #expect(CgroupPattern(.cgroup(pattern: "/x/y"), root: "/lab/a").description == "/x/y")
        let unit = CgroupPattern(.systemdUnit("web.service"), root: "")
        #expect(unit.description == "/**/web.service")
        #expect(unit.fixedDepths.prefix(3) == ["/web.service", "/*/web.service", "/*/*/web.service"])
    }

    @Test func realCgroupsAreFoundAndTheMeshsOwnLeftOut() throws {
        let top = try TestCgroup("scan")
        for path in ["/w/one", "/w/two", "/w/one/child", "/culvert/sockets", "/deep/x.slice/web.service"] {
            try top.hierarchy.create(top.path + path)
        }
        let inventory = CgroupInventory(hierarchy: top.hierarchy, root: top.path)
        let scan = inventory.scan([
            workload("all", .cgroup(pattern: top.hierarchy.directory(top.path) + "/w/*")),
            workload("unit", .systemdUnit("web.service")),
            workload("sockets", .cgroup(pattern: "*/sockets")), workload("none", .cgroup(pattern: "w/three")),
            workload("outside", .cgroup(pattern: "/elsewhere")),
        ])
        #expect(
            scan.found.map { String($0.path.dropFirst(top.path.count)) } == [
                "/w/one", "/w/two", "/deep/x.slice/web.service",
            ])
        #expect(scan.found.first?.id == (try top.hierarchy.id(of: top.path + "/w/one")))
        #expect(scan.problems.count == 1 && scan.problems[0].description.contains("shop/outside"))
    }

    @Test func overlapsAreReportedAndDecidedByName() throws {
        let top = try TestCgroup("overlap")
        try top.hierarchy.create(top.path + "/w/one")
        let inventory = CgroupInventory(hierarchy: top.hierarchy, root: top.path)
        let scan = inventory.scan([
            workload("zulu", .cgroup(pattern: "w/one")), workload("alfa", .cgroup(pattern: "w/*")),
        ])
        #expect(scan.found.map(\.resource.name) == ["alfa"])
        #expect(
            scan.problems == [
                .overlap(
                    path: top.path + "/w/one", winner: ResourceName(namespace: "shop", name: "alfa"),
                    loser: ResourceName(namespace: "shop", name: "zulu"))
            ])
    }

    @Test func patternsThatTheKernelCannotHoldAreReported() throws {
        let inventory = CgroupInventory(hierarchy: try CgroupHierarchy.locate(), root: "/r")
        let long = workload("long", .cgroup(pattern: String(repeating: "x", count: 300)))
        let many = (0..<5).map { workload("w\($0)", .cgroup(pattern: "p\($0)")) }
        let planned = inventory.kernelPatterns([long] + many, sizeMax: 192, countMax: 3)
        #expect(planned.patterns == ["/r/p0", "/r/p1", "/r/p2"])
        #expect(planned.problems.count == 2)
    }

    @Test func numbersSurviveARestartAndAreNeverReused() throws {
        let path = "/tmp/culvert-i\(getpid())-identities"
        defer { unlink(path) }
        let resource = ResourceName(namespace: "shop", name: "web")
        var store = try IdentityStore(path: path)
        let first = store.workload(cgroup: 10, resource: resource)
        let second = store.workload(cgroup: 11, resource: resource)
        let namespace = store.namespace(cookie: 77)
        try store.save()
        store = try IdentityStore(path: path)
        #expect(store.workload(cgroup: 10, resource: resource) == first && first != second)
        #expect(store.namespace(cookie: 77) == namespace && store.namespace(cookie: 78) != namespace)
        store.retireWorkload(cgroup: 10)
        let third = store.workload(cgroup: 10, resource: resource)
        #expect(third != first && third != second)
        // Another resource took the cgroup over: another workload.
        #expect(store.workload(cgroup: 11, resource: ResourceName(namespace: "shop", name: "db")) != second)
    }

    @Test func numbersOfAnotherBootOrABrokenFileCountAsNothing() throws {
        let path = "/tmp/culvert-i\(getpid())-broken"
        defer { unlink(path) }
        for text in ["culvert-identities 1 other\nnext 9 9\n", "", "x y z", "\0\u{1}"] {
            try TextFile.replace(path, with: Array(text.utf8))
            var store = try IdentityStore(path: path)
            #expect(store.workload(cgroup: 1, resource: ResourceName(namespace: "n", name: "x")).rawValue == 1)
        }
    }

    @Test func aNamespaceIsFoundByWhoeverOfTheWorkloadIsStillInIt() throws {
        let (named, top) = (try TestNamespace("found"), try TestCgroup("found"))
        try top.hierarchy.create(top.path + "/w/below")
        let arguments = ["/usr/sbin/ip", "netns", "exec", named.name, "/bin/sleep", "60"]
        var spawn = ProcessSpawn(path: arguments[0], arguments: arguments)
        spawn.cgroupProcs = top.hierarchy.procsFile(top.path + "/w/below")
        let stays = try spawn.start(passing: DescriptorBatch())
        defer {
            kill(stays.pid, SIGKILL)
            _ = stays.awaitEnd(milliseconds: 5_000)
            _ = stays.reap()
        }
        let cookie = try NetworkNamespace(name: named.name).cookie()
        let table = try NamespaceTable(hierarchy: top.hierarchy) { _ in NetworkNamespaceID(rawValue: 7) }
        let ended: Int32 = 1 << 22  // Beyond the largest process number there is.
        var found: NetworkNamespaceID?
        for _ in 0..<250 where found == nil {
            found = try table.resolve(pid: ended, cookie: cookie, cgroup: top.path + "/w")
            if found == nil { usleep(20_000) }
        }
        #expect(found?.rawValue == 7)
        #expect(try table.resolve(pid: ended, cookie: cookie &+ 1, cgroup: top.path + "/w") == nil)
        #expect(try table.resolve(pid: ended, cookie: cookie, cgroup: top.path + "/none") == nil)
    }
}
