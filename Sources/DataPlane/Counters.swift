import CMeshABI
import MeshModel
import ProxyControl

/// What one loop counts. The loop alone writes it; copies are handed to the control thread.
struct LoopCounters: Sendable {
    var reasons = [UInt64](repeating: 0, count: Int(Reason.MESH_REASON_MAX.rawValue))
    var connections: UInt32 = 0
    var connectionsTotal: UInt64 = 0
    var tunnels: UInt32 = 0
    var tunnelsTotal: UInt64 = 0
    var handshakesTotal: UInt64 = 0
    var bytesToTunnels: UInt64 = 0
    var bytesFromTunnels: UInt64 = 0
    var namesAnswered: UInt64 = 0
    var namesForwarded: UInt64 = 0
    var tunnelsUnderLossTotal: UInt64 = 0

    mutating func count(_ reason: Reason) {
        guard reason != .MESH_REASON_NONE else { return }
        reasons[Int(reason.rawValue)] += 1
    }
}

extension ProxyCounters {
    mutating func add(_ loop: LoopCounters) {
        for (number, count) in loop.reasons.enumerated() where count != 0 {
            reasons[UInt16(number), default: 0] += count
        }
        connections += loop.connections
        connectionsTotal += loop.connectionsTotal
        tunnels += loop.tunnels
        tunnelsTotal += loop.tunnelsTotal
        handshakesTotal += loop.handshakesTotal
        bytesToTunnels += loop.bytesToTunnels
        bytesFromTunnels += loop.bytesFromTunnels
        namesAnswered += loop.namesAnswered
        namesForwarded += loop.namesForwarded
        tunnelsUnderLossTotal += loop.tunnelsUnderLossTotal
    }
}
