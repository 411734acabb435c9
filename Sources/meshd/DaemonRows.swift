import AdminAPI
import Interception
import LinuxIO
import MeshModel
import ProxyControl

// The lists of the admin socket: what the snapshot says, with what is known of it now.
extension DaemonFacts {
    func services() -> [ServiceRow] {
        (daemonSnapshot?.allServices.map { service in
            var row = ServiceRow()
            row.service = service.key.description
            row.addresses = service.virtualAddresses.map(\.description)
            row.ports = service.ports.map {
                .init(port: $0.port, target: $0.targetPort, endpoints: service.endpoints(port: $0.port).count)
            }
            return row
        } ?? []).sorted { $0.service < $1.service }
    }

    func workloads() -> [WorkloadRow] {
        guard let snapshot = daemonSnapshot else { return [] }
        let networks = Dictionary(
            snapshot.allNetworks.map { ($0.id, $0.name) }, uniquingKeysWith: { first, _ in first })
        return snapshot.allWorkloads.map { workload in
            var row = WorkloadRow()
            row.id = workload.id.rawValue
            row.workload = workload.key.description
            row.node = snapshot.node(workload.node)?.name ?? ""
            row.principal = snapshot.principal(workload.principal) ?? ""
            row.addresses = [false, true].compactMap { workload.address(isIPv6: $0)?.description }
            row.ports = workload.ports
            row.network = networks[workload.network] ?? ""
            row.running = workload.isRunning
            row.local = workload.isLocal
            return row
        }
        .sorted { ($0.node, $0.workload, $0.id) < ($1.node, $1.workload, $1.id) }
    }

    func nodes() -> [NodeRow] {
        guard let snapshot = daemonSnapshot else { return [] }
        return snapshot.allNodes.map { node in
            var row = NodeRow()
            row.node = node.name
            row.addresses = node.tunnelAddresses.map(\.description)
            row.local = node.isLocal
            row.workloads = snapshot.allWorkloads.count { $0.node == node.id }
            row.tunnels = tunnelList.count { $0.peerNode == node.id }
            row.unreachable = unreachableReason(node.id)
            return row
        }
        .sorted { $0.node < $1.node }
    }

    func tunnels() -> [TunnelRow] {
        let now = BootClock.nanoseconds()
        return tunnelList.map { tunnel in
            var row = TunnelRow()
            row.id = tunnel.id
            row.direction = tunnel.isOutbound ? "outbound" : "inbound"
            row.peerNode = daemonSnapshot?.node(tunnel.peerNode)?.name ?? ""
            row.peer = tunnel.peer.description
            row.localPrincipal = tunnel.localPrincipal
            row.peerPrincipal = tunnel.peerPrincipal
            row.streams = tunnel.streams
            row.streamsTotal = tunnel.streamsTotal
            row.rttMicroseconds = tunnel.rttMicroseconds
            row.retransmits = tunnel.retransmits
            row.bytesSent = tunnel.bytesSent
            row.bytesReceived = tunnel.bytesReceived
            row.ageMilliseconds = now > tunnel.openedNanoseconds ? (now - tunnel.openedNanoseconds) / 1_000_000 : 0
            return row
        }
    }
}
