import BPFRuntime
import CMeshABI
import Glibc
import Interception
import LinuxIO
import MeshModel
import Testing

/// Cgroups, network namespace, BPF file system and driver process of one scene.
final class KernelWorld {
    private let hierarchy: CgroupHierarchy
    private let name: String
    private let groups = [
        "w1", "w1/child", "w1/nested", "w1/outside", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "sockets",
        "outside",
    ]
    let laterGroups = [
        "made-later", "unrelated", "pod-q-x1b", "pod-q-x1b/leaf", "pod-q-x1b/leaf2", "pod-x1", KernelWorld.longGroup,
        KernelWorld.longGroup + "/leaf",
    ]
    /// Its path is longer than a pattern may be.
    static let longGroup = "pod-" + String(repeating: "q", count: 220) + "-x1b"
    private let bpffs: String
    var pinDirectory: String { bpffs + "/pins" }

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    /// `purpose` keeps two scenes apart.
    init(_ purpose: String = "kernel") throws {
        name = "culvert-\(purpose)-\(getpid())"
        hierarchy = try CgroupHierarchy.locate()
        bpffs = "/run/\(name)"
        for group in groups { try hierarchy.create("/\(name)/\(group)") }
        try KernelWorld.shell(
            """
            mkdir -p \(bpffs) && mount -t bpf bpf \(bpffs) && ip netns add \(name) &&
            ip -n \(name) link set lo up && ip -n \(name) address add 10.9.0.1/32 dev lo &&
            ip -n \(name) address add 10.9.0.2/32 dev lo && ip -n \(name) address add 10.9.0.3/32 dev lo &&
            ip -n \(name) address add fd99::1/128 dev lo nodad &&
            ip -n \(name) address add fd98::9/128 dev lo nodad &&
            for address in 10.9.0.6 10.9.0.7 10.8.0.9 10.8.1.9 10.7.0.7 10.7.0.8 10.7.0.9; do
                ip -n \(name) address add $address/32 dev lo || exit 1
            done
            """)
    }

    func remove() {
        try? KernelPrograms.uninstall(pinDirectory: pinDirectory)
        try? KernelWorld.shell(
            "ip netns delete \(name); ip netns delete \(name)-2 2>/dev/null; umount \(bpffs); rmdir \(bpffs)")
        for group in (groups + laterGroups).reversed() { try? hierarchy.remove("/\(name)/\(group)") }
        try? hierarchy.remove("/\(name)")
    }

    func load() throws -> KernelPrograms {
        try KernelPrograms(
            pinDirectory: pinDirectory, cgroupRoot: hierarchy.directory("/\(name)"),
            socketsCgroup: hierarchy.directory("/\(name)/sockets"))
    }

    func errorOnOtherFileSystem() -> BPFError? {
        let directory = "/tmp/\(name)"
        defer { rmdir(directory) }
        do throws(BPFError) {
            _ = try KernelPrograms(pinDirectory: directory, cgroupRoot: "/nowhere", socketsCgroup: "/nowhere")
            return nil
        } catch { return error }
    }

    func cgroupID(_ group: String) throws -> UInt64 { try hierarchy.id(of: "/\(name)/\(group)") }

    /// The maps as meshd would write them: w1, w2 and w4 are ready workloads, w3 is not; within w1 one cgroup is w2's and
    /// one nobody's; w4 fails open; service 10.96.0.1:80, another that can't be reached, applications of w2 at
    /// 10.9.0.2:8080, :8090 and [fd99::1]:8080, a node at 10.9.0.3.
    func describe(_ programs: KernelPrograms) throws {
        let cookie = try NetworkNamespace(name: name).cookie()
        try describeWorkloads(programs)
        try describeEgress(programs)
        try fence(programs, ["w6", "w7", "w8"])
        let service6 = mesh_address(word: (UInt32(0xfd96_0000).bigEndian, 0, 0, UInt32(1).bigEndian))
        let refused = UInt16(ECONNREFUSED)
        for address in [KernelWorld.address(10, 96, 0, 1), service6] {
            try put(programs, address, 80, kind: .MESH_DESTINATION_SERVICE)
            try put(
                programs, address, 0, kind: .MESH_DESTINATION_SERVICE_ADDRESS, refusal: refused,
                reason: .MESH_REASON_NO_SERVICE_PORT)
        }
        try put(
            programs, KernelWorld.address(10, 96, 0, 2), 80, kind: .MESH_DESTINATION_SERVICE,
            refusal: UInt16(EHOSTUNREACH), reason: .MESH_REASON_ENDPOINT_UNREACHABLE)
        try put(
            programs, KernelWorld.address(10, 9, 0, 2), 8080, kind: .MESH_DESTINATION_WORKLOAD,
            network: MESH_DIAL_SCOPE, isLocal: true)
        try put(
            programs, KernelWorld.workloadAddress6, 8080, kind: .MESH_DESTINATION_WORKLOAD,
            network: MESH_DIAL_SCOPE, isLocal: true)
        try put(programs, KernelWorld.address(10, 9, 0, 2), 8090, kind: .MESH_DESTINATION_WORKLOAD)
        try programs.nodes.put(KernelWorld.address(10, 9, 0, 3), 1)
        try putListeners(programs, cookie)
        try putPattern(programs, 0, "/\(name)/made-*")
        try putPattern(programs, 1, "/\(name)/pod-*-x*b/leaf")
        try enable(programs)
    }

    private func describeWorkloads(_ programs: KernelPrograms) throws {
        let cgroups: [(String, UInt32, mesh_cgroup_state)] = [
            ("w1", 1, .MESH_CGROUP_READY), ("w1/nested", 2, .MESH_CGROUP_READY),
            ("w1/outside", 0, .MESH_CGROUP_OUTSIDE), ("w2", 2, .MESH_CGROUP_READY),
            ("w3", 3, .MESH_CGROUP_NOT_READY), ("w4", 4, .MESH_CGROUP_READY),
            ("w6", 6, .MESH_CGROUP_READY), ("w7", 7, .MESH_CGROUP_READY), ("w8", 8, .MESH_CGROUP_READY),
        ]
        for (group, workload, state) in cgroups {
            try programs.cgroups.put(
                cgroupID(group), mesh_cgroup(workload: workload, state: UInt8(state.rawValue), pad: (0, 0, 0)))
        }
        for workload in UInt32(1)...8 where workload != 5 { try programs.workloads.put(workload, try entry(workload)) }
    }

    private func entry(_ workload: UInt32) throws -> mesh_workload {
        var entry = mesh_workload()
        entry.netns_cookie = try NetworkNamespace(name: name).cookie()
        entry.address4 = KernelWorld.address(10, 9, 0, UInt8(workload))
        entry.address6 = KernelWorld.workloadAddress6
        entry.failure_open = workload == 4 ? 1 : 0
        switch workload {
        case 6: entry.egress_mode = UInt8(mesh_egress_mode.MESH_EGRESS_LISTED.rawValue)
        case 5, 7: entry.egress_mode = UInt8(mesh_egress_mode.MESH_EGRESS_DENY.rawValue)
        default: break
        }
        if entry.egress_mode != 0 { entry.fence = UInt8(MESH_FENCE_STRICT) }
        if workload == 8 { entry.fence = UInt8(MESH_FENCE_STRICT | MESH_FENCE_RAW_ALLOWED) }
        return entry
    }

    /// w6 may reach 10.8.0.0/16, and of 10.8.1.0/24 port 443 besides; port 9001 of fd98::/32 and 9003 of
    /// ::/0; 10.7.0.7 for an hour,
    /// 10.7.0.8 not any more.
    private func describeEgress(_ programs: KernelPrograms) throws {
        let now = BootClock.nanoseconds()
        let declared = mesh_egress_origin.MESH_EGRESS_DECLARED
        let resolved = mesh_egress_origin.MESH_EGRESS_RESOLVED
        let prefix6 = mesh_address(word: (UInt32(0xfd98_0000).bigEndian, 0, 0, 0))
        for (address, length, port, origin, expiry) in [
            (KernelWorld.address(10, 8, 0, 0), 96 + 16, 0, declared, 0),
            (KernelWorld.address(10, 8, 1, 0), 96 + 24, 443, declared, 0), (prefix6, 32, 9001, declared, 0),
            (mesh_address(), 0, 9003, declared, 0),
            (KernelWorld.address(10, 7, 0, 7), 128, 0, resolved, now + 3_600_000_000_000),
            (KernelWorld.address(10, 7, 0, 8), 128, 0, resolved, now),
        ] as [(mesh_address, UInt32, UInt16, mesh_egress_origin, UInt64)] {
            let key = mesh_egress_key(
                prefix_length: UInt32(MESH_EGRESS_FIXED_BITS) + length, workload: 6, port_be: port.bigEndian,
                version: IPAddress(address).isIPv4 ? 4 : 6, address: address)
            var value = mesh_egress()
            value.origin = UInt8(origin.rawValue)
            value.expires_ns = expiry
            value.name = origin == resolved ? 77 : 0
            try programs.egress.put(key, value)
        }
    }

    private func fence(_ programs: KernelPrograms, _ groups: [String]) throws {
        var wanted: [UInt64: String] = [:]
        for group in groups { wanted[try cgroupID(group)] = hierarchy.directory("/\(name)/\(group)") }
        try programs.fence.set(wanted)
    }

    /// Makes w5 a workload, fenced, whose listeners and connections are older than that.
    func addWorkload5(_ programs: KernelPrograms) throws {
        try programs.workloads.put(5, try entry(5))
        try fence(programs, ["w5", "w6", "w7", "w8"])
        let state = UInt8(mesh_cgroup_state.MESH_CGROUP_READY.rawValue)
        try programs.cgroups.put(cgroupID("w5"), mesh_cgroup(workload: 5, state: state, pad: (0, 0, 0)))
    }

    func noteListeners(_ programs: KernelPrograms) throws {
        try NetworkNamespace(name: name).inside { () throws(IOError) in try programs.listenerScan.run() }
    }

    func readLive(_ programs: KernelPrograms, _ body: (mesh_event) -> Void) throws {
        try NetworkNamespace(name: name).inside {
            do { try programs.live.read(body) } catch { print("live flows are not read: \(error)") }
        }
    }

    func findOlder(_ programs: KernelPrograms, holding: [UInt64: UInt32]) throws -> [mesh_older] {
        try NetworkNamespace(name: name).inside { () throws(IOError) in try programs.older.find(holding: holding) }
    }

    func end(_ connections: [mesh_older]) throws {
        try NetworkNamespace(name: name).inside { () throws(IOError) in
            for older in connections {
                let socket = older.event.socket
                _ = try ConnectionEnd.destroy(
                    local: SocketAddress(socket.source), remote: SocketAddress(socket.destination),
                    device: older.device, cookie: socket.cookie)
            }
        }
    }

    static let policyGeneration: UInt32 = 5

    private func enable(_ programs: KernelPrograms) throws {
        var settings = mesh_settings()
        settings.version = UInt8(MESH_ABI_VERSION)
        settings.enabled = 1
        settings.policy_generation = Self.policyGeneration
        settings.handover_per_workload_max = 64
        settings.sockets_cgroup_id = try cgroupID("sockets")
        settings.beat_stale_ns = 2_500_000_000
        settings.outbound_port_be = UInt16(15001).bigEndian
        settings.inbound_port_be = UInt16(15006).bigEndian
        settings.tunnel_port_be = UInt16(15008).bigEndian
        settings.dns_port_be = UInt16(15053).bigEndian
        settings.service_port_be = (UInt16(15020).bigEndian, UInt16(15021).bigEndian, 0, 0)
        settings.node_netns_cookie = try NetworkNamespace(name: name).cookie()
        try programs.settings.put(0, settings)
    }

    func startDriver(_ script: String = "driver.py", _ more: String = "") throws -> Driver {
        let directory = #filePath.split(separator: "/").dropLast().joined(separator: "/")
        let root = hierarchy.directory("/\(name)")
        return try Driver(
            "exec nsenter --net=/run/netns/\(name) /usr/bin/python3 -B /\(directory)/driver/\(script) \(root) "
                + "\(pinDirectory) \(more)", release: "/tmp/\(name)-driver")
    }

    /// Puts capture_inbound to work in the world's network namespace; the cookie of that.
    @discardableResult
    func captureInbound(_ programs: KernelPrograms) throws -> UInt64 {
        let namespace = try NetworkNamespace(name: name)
        let cookie = try namespace.cookie()
        try programs.inbound.attach(cookie: cookie, in: namespace)
        return cookie
    }

    /// Anybody may call port 8087 of workload 7 in plain text.
    func exemptPort8087(_ programs: KernelPrograms) throws {
        let everybody = mesh_source_key(
            prefix_length: UInt32(MESH_SOURCE_FIXED_BITS) + 96, workload: 7, port_be: UInt16(8087).bigEndian,
            version: 4, address: KernelWorld.address(0, 0, 0, 0))
        try programs.exemptions.put(everybody, mesh_source_verdict.MESH_SOURCE_PASSES.rawValue)
    }

    /// Port 9003 of workload 1 and all of workload 4 take plain text; 10.9.0.3 may probe port 9004 of workload 2.
    func describeInbound(_ programs: KernelPrograms) throws {
        try programs.inboundPorts.put(
            mesh_inbound_port(workload: 1, port_be: UInt16(9003).bigEndian, pad: 0),
            mesh_inbound_mode.MESH_INBOUND_PERMISSIVE.rawValue)
        var fourth = try #require(try programs.workloads.get(4))
        fourth.inbound_mode = UInt8(mesh_inbound_mode.MESH_INBOUND_PERMISSIVE.rawValue)
        try programs.workloads.put(4, fourth)
        let probe = mesh_source_key(
            prefix_length: UInt32(MESH_SOURCE_FIXED_BITS) + 128, workload: 2, port_be: UInt16(9004).bigEndian,
            version: 4,
            address: KernelWorld.address(10, 9, 0, 3))
        try programs.exemptions.put(probe, mesh_source_verdict.MESH_SOURCE_PASSES.rawValue)
    }

    /// Anybody may send datagrams to port 9103 of workload 1, but from 10.9.0.6, and to port 9109 of workload 7.
    func describeDatagrams(_ programs: KernelPrograms) throws {
        let denied = KernelWorld.address(10, 9, 0, 6)
        for (workload, port, address, length, verdict) in [
            (1, 9103, KernelWorld.address(0, 0, 0, 0), 96, .MESH_SOURCE_PASSES),
            (1, 9103, mesh_address(), 0, .MESH_SOURCE_PASSES), (1, 9103, denied, 128, .MESH_SOURCE_DENIED),
            (7, 9109, KernelWorld.address(0, 0, 0, 0), 96, .MESH_SOURCE_PASSES),
        ] as [(UInt32, UInt16, mesh_address, UInt32, mesh_source_verdict)] {
            let key = mesh_source_key(
                prefix_length: UInt32(MESH_SOURCE_FIXED_BITS) + length, workload: workload, port_be: port.bigEndian,
                version: IPAddress(address).isIPv4 ? 4 : 6, address: address)
            try programs.datagramSources.put(key, verdict.rawValue)
        }
    }

    /// What `describeDatagrams` opened for IPv4 is shut again.
    func closePort9103(_ programs: KernelPrograms) throws {
        let key = mesh_source_key(
            prefix_length: UInt32(MESH_SOURCE_FIXED_BITS) + 96, workload: 1, port_be: UInt16(9103).bigEndian,
            version: 4, address: KernelWorld.address(0, 0, 0, 0))
        try programs.datagramSources.put(key, mesh_source_verdict.MESH_SOURCE_STRICT.rawValue)
    }

    /// A network namespace with an address that the world's has too; its cookie.
    func makeNamespaceWithEqualAddress() throws -> UInt64 {
        try KernelWorld.shell("ip netns add \(name)-2 && ip -n \(name)-2 address add 10.9.0.2/32 dev lo")
        return try NetworkNamespace(name: "\(name)-2").cookie()
    }

    /// Whether workload 1 has the network namespace to itself.
    func setAlone(_ isAlone: Bool, _ programs: KernelPrograms) throws {
        var first = try #require(try programs.workloads.get(1))
        first.has_own_netns = isAlone ? 1 : 0
        try programs.workloads.put(1, first)
    }

    // MARK: private

    private func put(
        _ programs: KernelPrograms, _ address: mesh_address, _ port: UInt16, kind: mesh_destination_kind,
        refusal: UInt16 = 0, reason: mesh_reason = .MESH_REASON_NONE, network: UInt32 = 0, isLocal: Bool = false
    ) throws {
        var value = mesh_destination()
        value.id = isLocal ? 2 : 9
        value.kind = UInt8(kind.rawValue)
        value.local = isLocal ? 1 : 0
        value.refuse_errno = refusal
        value.refuse_reason = UInt16(reason.rawValue)
        try programs.destinations.put(
            mesh_destination_key(network: network, port_be: port.bigEndian, pad: 0, address: address), value)
    }

    private func putListeners(_ programs: KernelPrograms, _ cookie: UInt64) throws {
        let loopback6 = mesh_address(word: (0, 0, 0, UInt32(1).bigEndian))
        for (family, address) in [(UInt32(AF_INET), KernelWorld.address(127, 77, 0, 1)), (UInt32(AF_INET6), loopback6)]
        {
            var value = mesh_listeners()
            value.count = 1
            value.target.0 = mesh_endpoint(address: address, port_be: UInt16(15001).bigEndian, reserved: 0)
            try programs.listeners.put(mesh_listeners_key(netns_cookie: cookie, family: family, pad: 0), value)
        }
    }

    private func putPattern(_ programs: KernelPrograms, _ index: UInt32, _ text: String) throws {
        var pattern = mesh_pattern()
        pattern.length = UInt16(text.utf8.count)
        withUnsafeMutableBytes(of: &pattern.text) { $0.copyBytes(from: text.utf8) }
        try programs.patterns.put(index, pattern)
    }

    private static let workloadAddress6 = mesh_address(
        word: (UInt32(0xfd99_0000).bigEndian, 0, 0, UInt32(1).bigEndian))

    static func address(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) -> mesh_address {
        let value = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
        return mesh_address(word: (0, 0, UInt32(0xffff).bigEndian, value.bigEndian))
    }

    static func shell(_ text: String) throws {
        let status = system(text)
        guard status == 0 else { throw Failure(description: "shell ended with \(status): \(text)") }
    }
}

/// driver.py with its standard streams.
final class Driver {
    private let output: UnsafeMutablePointer<FILE>
    private let release: String

    init(_ command: String, release: String) throws {
        self.release = release
        mkfifo(release, 0o600)
        guard let stream = popen("{ \(command); } <>\(release)", "r") else {
            throw KernelWorld.Failure(description: "popen: errno \(errno)")
        }
        output = stream
    }

    /// The next line that the driver prints.
    func line() throws -> String {
        var buffer = [CChar](repeating: 0, count: 1 << 16)
        guard fgets(&buffer, Int32(buffer.count), output) != nil else {
            throw KernelWorld.Failure(description: "the driver ended early")
        }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    func go() {
        if let pipe = fopen(release, "r+") {
            fputs("go\n", pipe)
            fclose(pipe)
        }
    }

    func awaitSuccess() throws {
        let status = pclose(output)
        unlink(release)
        guard status == 0 else { throw KernelWorld.Failure(description: "the driver ended with \(status)") }
    }
}
