package import CMeshABI
import CBPFObjects
import CLibBPF
import CLinux
import Glibc
package import LinuxIO

/// The kernel side of one node, loaded, attached and pinned. It goes on working when this object and its process end:
/// the next `load` takes over maps and links and swaps the programs without a gap.
package final class KernelPrograms {
    package let settings: BPFMap<UInt32, mesh_settings>
    package let cgroups: BPFMap<UInt64, mesh_cgroup>
    package let workloads: BPFMap<UInt32, mesh_workload>
    package let destinations: BPFMap<mesh_destination_key, mesh_destination>
    package let listeners: BPFMap<mesh_listeners_key, mesh_listeners>
    package let nodes: BPFMap<mesh_address, UInt32>
    package let patterns: BPFMap<UInt32, mesh_pattern>
    package let egress: BPFMap<mesh_egress_key, mesh_egress>
    package let owners: BPFMap<mesh_owner_key, mesh_owner>
    package let handovers: BPFMap<mesh_tuple, mesh_socket>
    package let vouches: BPFMap<mesh_tuple, mesh_vouch>
    package let verdicts: BPFMap<mesh_verdict_key, mesh_verdict>
    package let inboundPorts: BPFMap<mesh_inbound_port, UInt32>
    package let exemptions: BPFMap<mesh_source_key, UInt32>
    package let datagramSources: BPFMap<mesh_source_key, UInt32>
    /// The value is a socket's descriptor.
    package let inboundListeners: BPFMap<mesh_inbound_key, UInt64>
    package let beats: BPFMap<UInt64, mesh_netns_beat>
    package let inbound: InboundPrograms
    package let datagrams: BPFMap<mesh_datagram_key, mesh_datagram_flow>
    package let events: EventRing
    package let live: LiveFlows
    package let listenerScan: ListenerScan
    package let fence: EgressFence
    package let older: OlderSockets
    private let counterMap: Int32
    private let object: BPFObject
    private let attachments: [Attachment]
    package let pinDirectory: String

    /// `cgroupRoot` and `socketsCgroup` are directories; the second must exist and hold no process but the socket maker.
    /// `pinDirectory` is made, in a mounted BPF file system.
    package init(pinDirectory: String, cgroupRoot: String, socketsCgroup: String) throws(BPFError) {
        try KernelPrograms.check(pinDirectory)
        let former = FormerLayout.all(beside: pinDirectory)
        var omitted: String?
        do throws(BPFError) {
            object = try BPFObject.load(pinDirectory: pinDirectory, former: former)
        } catch  where error.code == EPERM {
            // Security modules are known to refuse this one alone; whatever else it was fails again.
            omitted = LiveFlows.program
            object = try BPFObject.load(
                pinDirectory: pinDirectory, former: former, omitting: LiveFlows.program)
        }
        self.pinDirectory = pinDirectory
        settings = try object.map("mesh_settings", UInt32.self, mesh_settings.self)
        cgroups = try object.map("mesh_cgroups", UInt64.self, mesh_cgroup.self)
        workloads = try object.map("mesh_workloads", UInt32.self, mesh_workload.self)
        destinations = try object.map("mesh_dests", mesh_destination_key.self, mesh_destination.self)
        listeners = try object.map("mesh_listeners", mesh_listeners_key.self, mesh_listeners.self)
        nodes = try object.map("mesh_nodes", mesh_address.self, UInt32.self)
        patterns = try object.map("mesh_patterns", UInt32.self, mesh_pattern.self)
        egress = try object.map("mesh_egress", mesh_egress_key.self, mesh_egress.self)
        owners = try object.map("mesh_owners", mesh_owner_key.self, mesh_owner.self)
        handovers = try object.map("mesh_handover", mesh_tuple.self, mesh_socket.self)
        verdicts = try object.map("mesh_verdicts", mesh_verdict_key.self, mesh_verdict.self)
        vouches = try object.map("mesh_vouches", mesh_tuple.self, mesh_vouch.self)
        inboundPorts = try object.map("mesh_in_ports", mesh_inbound_port.self, UInt32.self)
        exemptions = try object.map("mesh_exempt", mesh_source_key.self, UInt32.self)
        datagramSources = try object.map("mesh_dgram_in", mesh_source_key.self, UInt32.self)
        inboundListeners = try object.map("mesh_inbound", mesh_inbound_key.self, UInt64.self)
        beats = try object.map("mesh_beats", UInt64.self, mesh_netns_beat.self)
        inbound = try InboundPrograms(
            template: try object.program(InboundPrograms.program), pinDirectory: pinDirectory)
        datagrams = try object.map("mesh_datagrams", mesh_datagram_key.self, mesh_datagram_flow.self)
        counterMap = try object.mapDescriptor("mesh_counters")
        events = try EventRing(mapDescriptor: try object.mapDescriptor("mesh_events"))
        live =
            if omitted == nil {
                try LiveFlows(
                    program: try object.program(LiveFlows.program),
                    mapDescriptor: try object.mapDescriptor("mesh_sockets"))
            } else {
                try LiveFlows(programForEachNamespace: try object.program(LiveFlows.programForEachNamespace))
            }
        listenerScan = try ListenerScan(program: try object.program("mesh_listening"))
        older = try OlderSockets(
            program: try object.program("mesh_older"),
            holders: try object.map("mesh_holders", UInt64.self, UInt32.self), listenerScan: listenerScan)
        for layout in former { try layout.shareLinks(pinDirectory: pinDirectory) }
        fence = try EgressFence(
            program: try object.programDescriptor("mesh_fence"), pinDirectory: pinDirectory)
        attachments = Attachment.all(root: cgroupRoot, sockets: socketsCgroup)
        for attachment in attachments {
            try attachment.install(try object.programDescriptor(attachment.program), pinDirectory: pinDirectory)
        }
        for layout in former { try layout.remove() }
        removeStrangers()
    }

    /// The layout of the pinned maps that the embedded programs have; in the pin path.
    package static var layout: UInt32 { culvert_bpf_layout() }
    /// Of the structures in `mesh_abi.h` that they use.
    package static var abiVersion: UInt8 { culvert_bpf_abi_version() }

    /// Programs of a later version that we know nothing of must not go on judging, and what they remembered must not be
    /// found by the next one: a downgrade ends them.
    private func removeStrangers() {
        for name in PinDirectory.names(pinDirectory) {
            if name.hasPrefix("link_") ? !object.hasProgram(ofLink: name) : !object.hasMap(ofPin: name) {
                unlink("\(pinDirectory)/\(name)")
            }
        }
    }

    /// Programs that are not in their place any more, as somebody removed a pin or detached a link: one sentence each.
    package func faults() -> [String] {
        attachments.compactMap { $0.fault(pinDirectory: pinDirectory) } + fence.faults() + inbound.faults()
    }

    /// How often each reason was counted, over all processors, by its number.
    package func counters() throws(IOError) -> [UInt64] {
        let processors = Int(libbpf_num_possible_cpus())
        guard processors > 0 else { throw IOError("libbpf_num_possible_cpus", code: Int32(-processors)) }
        var sums = [UInt64](repeating: 0, count: Int(mesh_reason.MESH_REASON_MAX.rawValue))
        var failed: Int32 = 0
        withUnsafeTemporaryAllocation(of: UInt64.self, capacity: processors) { values in
            for index in sums.indices where failed == 0 {
                var key = UInt32(index)
                failed = bpf_map_lookup_elem(counterMap, &key, values.baseAddress)
                if failed == 0 { sums[index] = values.reduce(0, &+) }
            }
        }
        if failed < 0 { throw IOError("bpf_map_lookup_elem", code: -failed, object: "mesh_counters") }
        return sums
    }

    /// Detaches every program and removes every pin of a node (for uninstall). No error when there are none.
    package static func uninstall(pinDirectory: String) throws(BPFError) {
        for layout in FormerLayout.all(beside: pinDirectory) { try layout.remove() }
        try PinDirectory.remove(pinDirectory)
    }

    // MARK: private

    private static func check(_ pinDirectory: String) throws(BPFError) {
        try KernelVersion.check(release: KernelVersion.runningRelease())
        guard access("/sys/kernel/btf/vmlinux", R_OK) == 0 else {
            throw BPFError("find kernel types", code: errno, object: "/sys/kernel/btf/vmlinux")
        }
        var path = ""
        for part in pinDirectory.split(separator: "/") {
            path += "/" + part
            guard mkdir(path, 0o700) == 0 || errno == EEXIST else {
                throw BPFError("make pin directory", code: errno, object: path)
            }
        }
        guard clinux_is_bpffs(pinDirectory) == 1 else {
            throw BPFError("check pin directory", code: EINVAL, object: pinDirectory)
        }
    }
}
