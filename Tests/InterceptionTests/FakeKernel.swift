import CMeshABI
@testable import Interception
import LinuxIO

/// Maps in memory, with a journal of what was written.
final class FakeTable<Key: BitwiseCopyable, Value: BitwiseCopyable> {
    var content: [Raw<Key>: Raw<Value>] = [:]
    var journal: [String] = []

    var table: KernelTable<Key, Value> {
        KernelTable(
            put: { [self] key, value in
                content[Raw(key)] = Raw(value)
                journal.append("put")
            },
            remove: { [self] key in
                content[Raw(key)] = nil
                journal.append("remove")
            },
            get: { [self] in content[Raw($0)]?.value }, keys: { [self] in content.keys.map(\.value) })
    }

    subscript(key: Key) -> Value? { content[Raw(key)]?.value }
}

final class FakeKernel {
    var settings = mesh_settings()
    let cgroups = FakeTable<UInt64, mesh_cgroup>()
    let workloads = FakeTable<UInt32, mesh_workload>()
    let destinations = FakeTable<mesh_destination_key, mesh_destination>()
    let listeners = FakeTable<mesh_listeners_key, mesh_listeners>()
    let nodes = FakeTable<mesh_address, UInt32>()
    let patterns = FakeTable<UInt32, mesh_pattern>()

    let verdicts = FakeTable<mesh_verdict_key, mesh_verdict>()
    let vouches = FakeTable<mesh_tuple, mesh_vouch>()
    let egress = FakeTable<mesh_egress_key, mesh_egress>()
    var fenced: [UInt64: String] = [:]
    var older: [mesh_older] = []
    let inboundPorts = FakeTable<mesh_inbound_port, UInt32>()
    let exemptions = FakeTable<mesh_source_key, UInt32>()
    let datagramSources = FakeTable<mesh_source_key, UInt32>()
    /// Where capture_inbound is at work.
    var inboundCaptures: Set<UInt64> = []
    /// The namespaces, by cookie and family, that have a listener for plain text.
    var inboundListeners: Set<Raw<mesh_inbound_key>> = []
    /// What `attach` fails with.
    var inboundFailure: IOError?

    var listenerScans = 0

    var tables: KernelTables {
        KernelTables(
            settings: { [self] in settings = $0 }, cgroups: cgroups.table, workloads: workloads.table,
            destinations: destinations.table, listeners: listeners.table, nodes: nodes.table,
            egress: egress.table, patterns: patterns.table, noteListeners: { [self] in listenerScans += 1 },
            fence: { [self] in fenced = $0 }, findOlder: { [self] _ in older },
            inbound: inbound,
            direct: DirectTables(verdicts: verdicts.table, vouches: vouches.table))
    }

    private var inbound: InboundTables {
        InboundTables(
            ports: inboundPorts.table, exemptions: exemptions.table, datagramSources: datagramSources.table,
            setListener: { [self] key, _ in inboundListeners.insert(Raw(key)) }, forgetBeat: { _ in },
            attach: { [self] cookie, _ throws(IOError) in
                if let inboundFailure { throw inboundFailure }
                inboundCaptures.insert(cookie)
            },
            detach: { [self] in inboundCaptures.remove($0) }, attached: { [self] in inboundCaptures })
    }
}
