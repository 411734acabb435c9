import Telemetry

/// What the rows of `top` stand for.
package enum TopGrouping: String, CaseIterable, Sendable {
    case flow, workload, service, node
}

/// A line of `top`: one flow, or all flows of a group.
package struct TopRow: Equatable, Sendable {
    /// Of a group; empty for a flow.
    package var name = ""
    package var source = ""
    package var destination = ""
    package var service = ""
    package var process = ""
    package var node = ""
    package var state = ""
    package var reason = ""
    package var flows = 0
    package var open = 0
    package var denied = 0
    package var sentPerSecond = 0.0
    package var receivedPerSecond = 0.0
    package var sent: UInt64 = 0
    package var received: UInt64 = 0
    package var rttMicroseconds: UInt32 = 0
    package var isRttShared = false
    package var retransmits: UInt64 = 0
    package var ageMilliseconds: UInt64 = 0
    package var isApproximate = false

    init(flow: FlowRow, rates: FlowRates) {
        source = Self.first(flow.sourceWorkload, flow.sourcePrincipal, flow.source)
        destination = Self.first(flow.destinationWorkload, flow.destinationPrincipal, flow.originalDestination)
        service = flow.service
        node = flow.peerNode
        process = [(flow.command, flow.pid), (flow.destinationCommand, flow.destinationPid)]
            .filter { $0.1 != 0 }.map { "\($0.0)[\($0.1)]" }.joined(separator: ">")
        state = flow.verdict == .passthrough && flow.state == .open ? "plain" : flow.state.rawValue
        reason = flow.why
        flows = 1
        open = flow.state == .open ? 1 : 0
        denied = flow.verdict == .denied ? 1 : 0
        (sentPerSecond, receivedPerSecond) = (rates.sent, rates.received)
        (sent, received) = (flow.bytesSent, flow.bytesReceived)
        rttMicroseconds = flow.rttMicroseconds
        isRttShared = flow.rttShared
        retransmits = UInt64(flow.retransmits)
        ageMilliseconds = flow.ageMilliseconds
        isApproximate = flow.approximate
    }

    /// An empty group.
    init(name: String) { self.name = name }

    /// Counts a flow in. Times are the largest: sums of them would mean nothing.
    mutating func add(_ row: TopRow) {
        flows += 1
        open += row.open
        denied += row.denied
        sentPerSecond += row.sentPerSecond
        receivedPerSecond += row.receivedPerSecond
        sent &+= row.sent
        received &+= row.received
        rttMicroseconds = max(rttMicroseconds, row.rttMicroseconds)
        isRttShared = isRttShared || row.isRttShared
        // A tunnel's retransmits are told by each of its flows.
        retransmits = row.isRttShared ? max(retransmits, row.retransmits) : retransmits + row.retransmits
        ageMilliseconds = max(ageMilliseconds, row.ageMilliseconds)
        isApproximate = isApproximate || row.isApproximate
    }

    private static func first(_ texts: String...) -> String { texts.first { !$0.isEmpty } ?? "" }
}

/// Payload bytes for each second, between the last two samples.
struct FlowRates: Equatable, Sendable {
    var sent = 0.0
    var received = 0.0
}

/// What can be shown of a row, and sorted by.
package enum TopColumn: String, CaseIterable, Sendable {
    case name, source, destination, flows, open, denied, sentRate, receivedRate, rtt, retransmits, age, state, sent,
        received, service, process, node, reason

    /// In the order in which they find room on a line.
    package static func columns(_ grouping: TopGrouping) -> [TopColumn] {
        switch grouping {
        case .flow:
            [
                .source, .destination, .sentRate, .receivedRate, .rtt, .retransmits, .age, .state, .sent, .received,
                .process, .service, .reason, .node,
            ]
        case .workload, .service, .node:
            [.name, .flows, .open, .denied, .sentRate, .receivedRate, .sent, .received, .rtt, .retransmits]
        }
    }

    /// At most seven characters for columns of figures.
    package var title: String {
        switch self {
        case .name: "NAME"
        case .source: "SOURCE"
        case .destination: "DESTINATION"
        case .flows: "FLOWS"
        case .open: "OPEN"
        case .denied: "DENIED"
        case .sentRate: "OUT/S"
        case .receivedRate: "IN/S"
        case .rtt: "RTT"
        case .retransmits: "RETR"
        case .age: "AGE"
        case .state: "STATE"
        case .sent: "SENT"
        case .received: "RECV"
        case .service: "SERVICE"
        case .process: "PROCESS"
        case .node: "NODE"
        case .reason: "REASON"
        }
    }

    package var isText: Bool {
        switch self {
        case .name, .source, .destination, .state, .service, .process, .node, .reason: true
        default: false
        }
    }

    /// Characters of its cells; columns of names take what is left over beyond it.
    var width: Int {
        switch self {
        case .name: 20
        case .source, .destination: 14
        case .retransmits: 4
        case .flows, .open, .denied: 6
        case .service, .process: 18
        case .reason: 22
        case .node: 8
        default: 7
        }
    }

    var isFlexible: Bool { self == .name || self == .source || self == .destination }

    package func text(_ row: TopRow) -> String {
        let mark = row.isApproximate ? "~" : ""
        return switch self {
        case .name: row.name
        case .source: row.source
        case .destination: row.destination
        case .flows: "\(row.flows)"
        case .open: "\(row.open)"
        case .denied: "\(row.denied)"
        case .sentRate: row.sentPerSecond < 0.5 ? "0" : Figures.bytes(Figures.whole(row.sentPerSecond))
        case .receivedRate: row.receivedPerSecond < 0.5 ? "0" : Figures.bytes(Figures.whole(row.receivedPerSecond))
        case .rtt: Figures.microseconds(row.rttMicroseconds) + (row.isRttShared && row.rttMicroseconds > 0 ? "*" : "")
        case .retransmits: "\(row.retransmits)"
        case .age: Figures.duration(milliseconds: row.ageMilliseconds)
        case .state: row.state
        case .sent: mark + Figures.bytes(row.sent)
        case .received: mark + Figures.bytes(row.received)
        case .service: row.service
        case .process: row.process
        case .node: row.node
        case .reason: row.reason
        }
    }

    func number(_ row: TopRow) -> Double {
        switch self {
        case .flows: Double(row.flows)
        case .open: Double(row.open)
        case .denied: Double(row.denied)
        case .sentRate: row.sentPerSecond
        case .receivedRate: row.receivedPerSecond
        case .rtt: Double(row.rttMicroseconds)
        case .retransmits: Double(row.retransmits)
        case .age: Double(row.ageMilliseconds)
        case .sent: Double(row.sent)
        case .received: Double(row.received)
        default: 0
        }
    }
}
