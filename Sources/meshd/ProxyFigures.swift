import ProxyControl
import Telemetry

/// The figures that every proxy of this node reports of itself, and what those had counted that have ended since meshd
/// started: sums only grow.
struct ProxyFigures {
    private struct Figures {
        var counters = ProxyCounters()
        var tunnels: [TunnelStatus] = []
    }

    private var running: [Int32: Figures] = [:]
    private var ended = ProxyCounters()
    private(set) var reasons = ContinuedSums()

    mutating func take(_ counters: ProxyCounters, of proxy: Int32) {
        running[proxy, default: Figures()].counters = counters
        reasons.report(counters.reasons, of: proxy)
    }

    mutating func take(_ tunnels: [TunnelStatus], of proxy: Int32) {
        running[proxy, default: Figures()].tunnels = tunnels
    }

    mutating func end(_ proxy: Int32) {
        guard let last = running.removeValue(forKey: proxy) else { return }
        ended.addTotals(last.counters)
        reasons.end(proxy)
    }

    var tunnels: [TunnelStatus] { running.sorted { $0.key < $1.key }.flatMap(\.value.tunnels) }

    var sum: ProxyCounters {
        var sum = ended
        for figures in running.values {
            let counters = figures.counters
            sum.addTotals(counters)
            sum.connections &+= counters.connections
            sum.tunnels &+= counters.tunnels
            sum.memoryHeld &+= counters.memoryHeld
            sum.memoryBudget &+= counters.memoryBudget
            sum.descriptors &+= counters.descriptors
            sum.descriptorsMax &+= counters.descriptorsMax
            sum.isOverloaded = sum.isOverloaded || counters.isOverloaded
        }
        return sum
    }
}

extension ProxyCounters {
    /// Adds what only grows; the reasons are summed elsewhere. What a proxy says is not trusted to stay in bounds.
    fileprivate mutating func addTotals(_ other: ProxyCounters) {
        connectionsTotal &+= other.connectionsTotal
        tunnelsTotal &+= other.tunnelsTotal
        handshakesTotal &+= other.handshakesTotal
        bytesToTunnels &+= other.bytesToTunnels
        bytesFromTunnels &+= other.bytesFromTunnels
        recordsLost &+= other.recordsLost
        namesAnswered &+= other.namesAnswered
        namesForwarded &+= other.namesForwarded
        tunnelsUnderLossTotal &+= other.tunnelsUnderLossTotal
    }
}
