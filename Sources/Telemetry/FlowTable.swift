/// Every flow of the node: what the kernel saw of the application's sockets joined with what the proxy decided.
/// Bounded; what does not fit is counted. Times are CLOCK_BOOTTIME nanoseconds. One thread owns it.
package struct FlowTable {
    package struct Settings: Sendable {
        package var flowsMax = 65_536
        /// How long a flow that ended is shown.
        package var keepNanoseconds: UInt64 = 60_000_000_000
        package var seriesMax = 10_000
        /// How long a series without a connection is exported.
        package var seriesIdleNanoseconds: UInt64 = 900_000_000_000
        package init() {}
    }

    /// The kernel's and the proxy's records of one connection come on different ways.
    /// The kernel's last word on what an earlier meshd has told of comes within this time, or was lost.
    static let toldNanoseconds: UInt64 = 60_000_000_000
    static let decisionWaitNanoseconds: UInt64 = 2_000_000_000
    /// Rows for what peers were refused: more of them would push the node's own flows out.
    static let peerRefusalsMax = 1_024

    /// A number that a proxy gave.
    struct ProxyNumber<Number: Hashable & Sendable>: Hashable, Sendable {
        var proxy: Int32
        var number: Number
    }

    struct TunnelFigures {
        var rttMicroseconds: UInt32
        var retransmits: UInt32
    }

    /// Names for what is recorded from now on.
    package var names: FlowNames?
    /// Flows that found no room.
    package internal(set) var lost: UInt64 = 0
    /// Flows that ended and were never among those of `takeSettled`.
    package internal(set) var unsettled: UInt64 = 0
    package internal(set) var connect = LatencyByDirection()
    package internal(set) var firstByte = LatencyByDirection()
    package internal(set) var policies = PolicyCounters()

    let settings: Settings
    /// What opened before is known to an earlier meshd.
    /// Sockets of connections that an earlier meshd has told of to their end.
    var told: Set<UInt64> = []
    let began: UInt64
    var storage = FlowStorage()
    var series: IstioSeries
    var pool = NamePool()
    /// By the cookie of the client's socket and of the dial socket: both are unique among the kernel's sockets.
    var bySocket: [UInt64: Int32] = [:]
    var byProxyID: [ProxyNumber<UInt64>: Int32] = [:]
    var tunnels: [ProxyNumber<UInt32>: TunnelFigures] = [:]
    var ended = WaitingFlows()
    /// Flows whose sockets are closed, until the proxy's word comes or the wait is over.
    var closing = WaitingFlows()
    /// Ended flows of which no record was taken yet.
    var unrecorded = WaitingFlows()
    var peerRefusals = 0
    /// Counts the readings of the live sockets.
    var sweep: UInt32 = 0
    var sweepBegan: UInt64 = 0
    var nextID: UInt64 = 1

    /// `began`: when this meshd started to count.
    package init(_ settings: Settings = Settings(), began: UInt64 = 0) {
        self.settings = settings
        self.began = began
        series = IstioSeries(seriesMax: settings.seriesMax, idleNanoseconds: settings.seriesIdleNanoseconds)
    }

    package var count: Int { storage.count }
    package var seriesCount: Int { series.count }
    /// Connections that no series had room for.
    package var seriesDropped: UInt64 { series.dropped }

    /// Forgets what ended long enough ago; call it every second or so.
    package mutating func expire(now: UInt64) {
        while let oldest = closing.oldest, now >= oldest.at &+ Self.decisionWaitNanoseconds {
            _ = closing.removeOldest()
            if storage[oldest.index].id == oldest.id { end(oldest.index, .closed, now: oldest.at) }
        }
        while let oldest = ended.oldest, now >= oldest.at &+ settings.keepNanoseconds {
            _ = ended.removeOldest()
            _ = remove(oldest)
        }
        if now >= began &+ Self.toldNanoseconds { told = [] }
        series.expire(now: now)
    }

    /// Flows that changed (opened, were decided, ended) after `change`, oldest change first, with counters as of the
    /// last live reading. 0 is the beginning. `lost` is what was lost elsewhere.
    package func page(changedAfter change: UInt64, limit: Int, now: UInt64, lost: UInt64 = 0) -> FlowPage {
        // A number from before a restart of meshd means nothing here: its reader begins anew.
        let start = change > storage.newestChange ? 0 : change
        var page = FlowPage(next: start, lost: self.lost + lost)
        var index = storage.firstIndex(changedAfter: start)
        while let current = index {
            guard page.flows.count < limit else {
                page.more = true
                return page
            }
            page.flows.append(row(storage[current], now: now))
            page.next = storage[current].change
            index = storage.index(after: current)
        }
        return page
    }

    /// The flows that ended and have had time for the kernel's last word (`isLast`: all that ended), each once. Call it
    /// every second or so. At most `limit`, so that a storm of connections costs no disk; what exceeds it, and what the
    /// table had to forget meanwhile, is counted.
    package mutating func takeSettled(now: UInt64, limit: Int, isLast: Bool = false) -> [FlowRow] {
        var rows: [FlowRow] = []
        while let oldest = unrecorded.oldest, isLast || now >= oldest.at &+ Self.decisionWaitNanoseconds {
            _ = unrecorded.removeOldest()
            if storage[oldest.index].id == oldest.id, rows.count < limit {
                rows.append(row(storage[oldest.index], now: now))
            } else {
                unsettled += 1
            }
        }
        return rows
    }

    // MARK: private

    private func row(_ flow: Flow, now: UInt64) -> FlowRow {
        var row = FlowRow(flow, now: now, node: names?.node ?? "")
        if flow.progress == .open, flow.tunnel != 0, let figures = tunnels[flow.tunnelKey] {
            row.rttMicroseconds = figures.rttMicroseconds
            row.retransmits = figures.retransmits
        }
        return row
    }
}
