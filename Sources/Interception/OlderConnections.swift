import CMeshABI
import Glibc
import LinuxIO
import MeshModel

/// Connections in plain text that workloads have although no hook saw them begin, as of the last look, and the packet
/// sockets that no hook ever sees.
struct OlderConnections {
    /// The processes of each workload at the last look.
    var processes: [WorkloadID: Set<Int32>] = [:]
    /// By the socket's cookie.
    var known: [UInt64: mesh_older] = [:]
    var packetSocketHolders: [WorkloadID: Int32] = [:]
    var failure: IOError?

    /// For `meshctl check`: one sentence for each workload.
    func problems(_ name: (WorkloadID) -> String) -> [String] {
        var lines: [String] = []
        let byWorkload = Dictionary(grouping: known.values) { WorkloadID(rawValue: $0.event.socket.workload) }
        for (workload, connections) in byWorkload {
            let first = connections.map { "\(SocketAddress($0.event.socket.destination))" }.min() ?? ""
            let rest = connections.count > 1 ? " and \(connections.count - 1) more" : ""
            lines.append(
                "workload \(name(workload)) has a plaintext connection to \(first)\(rest) that the mesh did not see "
                    + "begin: restart the workload")
        }
        for (workload, pid) in packetSocketHolders {
            lines.append(
                "workload \(name(workload)) holds a packet socket (process \(pid)), which no hook judges: take "
                    + "CAP_NET_RAW from it")
        }
        if let failure {
            lines.append("plaintext connections that are older than the mesh are not looked for: \(failure)")
        }
        return lines
    }
}

extension Interceptor {
    var olderProblems: [String] {
        older.problems { id in instances.instance(id).map { "\($0.resource)" } ?? "\(id.rawValue)" }
    }

    /// Looks at workloads whose processes are not those of the last look, thus at each that has become ready;
    /// `isThorough`: also at those whose egress is fenced, which may be given a connection at any time.
    func lookForOlderConnections(isThorough: Bool = false) {
        guard instanceWatch != nil else { return }  // Not started: the programs are off.
        var due: [LocalInstances.Instance] = []
        var processes: [WorkloadID: Set<Int32>] = [:]
        let held = Set(older.known.values.map { WorkloadID(rawValue: $0.event.socket.workload) })
        for instance in instances.all where instance.isResolved && readiness.isReady(instance.workload) {
            let now = Set(namespaces.processes(below: instance.path))
            processes[instance.workload] = now
            if now.isEmpty { continue }
            let isOpen = kernel.isFenced(instance.workload) || held.contains(instance.workload)
            if older.processes[instance.workload] != now || (isThorough && isOpen) { due.append(instance) }
        }
        older.processes = processes
        let inhabited = Set(processes.filter { !$0.value.isEmpty }.keys)
        older.known = older.known.filter { inhabited.contains(WorkloadID(rawValue: $0.value.event.socket.workload)) }
        older.packetSocketHolders = older.packetSocketHolders.filter { inhabited.contains($0.key) }
        if !due.isEmpty { look(at: due) }
    }

    // MARK: private

    private func look(at due: [LocalInstances.Instance]) {
        var holders = SocketHolders()
        var entrances: [NetworkNamespace.Identity: Int32] = [:]
        for instance in due {
            for pid in older.processes[instance.workload] ?? [] {
                // It may have ended meanwhile.
                guard let identity = try? NetworkNamespace(pid: pid).identity() else { continue }
                entrances[identity] = pid
                holders.add(pid: pid, workload: instance.workload)
            }
        }
        let workloads = Set(due.map(\.workload))
        let before = older.known
        older.known = before.filter { !workloads.contains(WorkloadID(rawValue: $0.value.event.socket.workload)) }
        older.packetSocketHolders = older.packetSocketHolders.filter { !workloads.contains($0.key) }
        older.failure = holders.isCutShort ? IOError("sockets of workloads", code: EMFILE, object: "/proc") : nil
        for pid in entrances.values {
            do throws(IOError) {
                try NetworkNamespace(pid: pid).inside { () throws(IOError) in
                    for found in try kernel.findOlder(holding: holders.workloads) { take(found, before) }
                }
            } catch {
                if error.code != ENOENT && error.code != ESRCH { older.failure = error }
            }
            for inode in SocketHolders.packetSockets(pid: pid) {
                if let holder = holders.workloads[inode] {
                    older.packetSocketHolders[WorkloadID(rawValue: holder)] = pid
                }
            }
        }
    }

    /// Whether it would be refused if it began now.
    private func isRefused(_ found: mesh_older) -> Bool {
        let workload = WorkloadID(rawValue: found.event.socket.workload)
        if kernel.isFenced(workload) { return true }
        guard found.inbound != 0, let snapshot else { return false }
        let port = SocketAddress(found.event.socket.source).port
        let client = SocketAddress(found.event.socket.destination).address
        return snapshot.inboundMode(of: workload, port: port) == .strict
            && !snapshot.isExempt(client, to: workload, port: port)
    }

    /// In the connection's network namespace. What would be refused now is ended, so that both ends learn of it.
    private func take(_ found: mesh_older, _ before: [UInt64: mesh_older]) {
        var event = found.event
        let isNew = before[event.socket.cookie] == nil
        if isRefused(found) {
            do throws(IOError) {
                let isEnded = try ConnectionEnd.destroy(
                    local: SocketAddress(event.socket.source), remote: SocketAddress(event.socket.destination),
                    device: found.device, cookie: event.socket.cookie)
                event.kind = UInt8(truncatingIfNeeded: mesh_event_kind.MESH_EVENT_REFUSED.rawValue)
                event.errno_value = UInt32(ECONNABORTED)
                if isEnded { callbacks.olderConnection(event) }
                return
            } catch { older.failure = error }
        }
        older.known[event.socket.cookie] = found
        if isNew { callbacks.olderConnection(event) }
    }
}
