import MeshModel

/// One flow as `meshctl flows` and `meshctl top` show it: names and numbers only, no ids of the snapshot.
/// Bytes are payload and named from the client's side on both nodes.
package struct FlowRow: Equatable, Sendable, Decodable {
    package enum State: String, Sendable, Decodable {
        case open, closed, refused
    }

    package enum Verdict: String, Sendable, Decodable {
        /// In the mesh: both ends authenticated.
        case allowed
        /// Refused; `reason` says why.
        case denied
        /// Not of the mesh: left as it was.
        case passthrough
    }

    /// Names the flow while meshd runs.
    package var id: UInt64 = 0
    package var node = ""
    package var direction = ""
    package var sourcePrincipal = ""
    package var destinationPrincipal = ""
    /// `namespace/name` of the Workload resource; empty where it is unknown.
    package var sourceWorkload = ""
    package var destinationWorkload = ""
    /// The node that the peer is on; empty for flows that stay here.
    package var peerNode = ""
    package var source = ""
    package var originalDestination = ""
    /// `namespace/name`; empty where a workload was called by its own address.
    package var service = ""
    /// `tcp` or `udp`.
    package var transport = "tcp"
    /// How it goes, once that is known: `tunnel`; within the node `direct` (kernel only) or `relayed` (by the proxy);
    /// `plain` (no mesh between). Nil in records of versions that did not write it.
    package var path: String? = ""
    package var bytesSent: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    /// Of UDP; 0 otherwise.
    package var datagramsSent: UInt64 = 0
    package var datagramsReceived: UInt64 = 0
    /// After a reset the kernel does not know what arrived.
    package var approximate = false
    /// Of the leg between the nodes; 0 where unknown.
    package var rttMicroseconds: UInt32 = 0
    /// Round-trip time and retransmits are the tunnel's, which carries other flows too.
    package var rttShared = false
    package var retransmits: UInt32 = 0
    package var ageMilliseconds: UInt64 = 0
    /// Since it ended; 0 while it is open.
    package var endedMilliseconds: UInt64 = 0
    package var state = State.open
    package var verdict = Verdict.allowed
    package var reason = "none"
    /// `namespace/name` of what decided; empty for a built-in rule, and where another node decided.
    package var policy = ""
    package var rule = ""
    /// What would have denied it if policies on trial were enforced; empty where nothing would.
    package var dryRunPolicy = ""
    package var dryRunRule = ""
    /// Of the client, when it runs on this node; 0 and empty otherwise.
    package var pid: UInt32 = 0
    package var command = ""
    /// Of the server, when it runs on this node.
    package var destinationPid: UInt32 = 0
    package var destinationCommand = ""
    /// Number of the tunnel; 0 for flows without one.
    package var tunnel: UInt32 = 0

    package init() {}

    private enum CodingKeys: String, CodingKey {
        case id, node, direction, source, service, approximate, retransmits, state, verdict, reason, pid, command
        case tunnel, policy, rule, transport, path
        case dryRunPolicy = "dry_run_policy"
        case dryRunRule = "dry_run_rule"
        case datagramsSent = "datagrams_sent"
        case datagramsReceived = "datagrams_received"
        case sourcePrincipal = "source_principal"
        case destinationPrincipal = "destination_principal"
        case sourceWorkload = "source_workload"
        case destinationWorkload = "destination_workload"
        case peerNode = "peer_node"
        case originalDestination = "original_destination"
        case bytesSent = "bytes_sent"
        case bytesReceived = "bytes_received"
        case rttMicroseconds = "rtt_us"
        case rttShared = "rtt_shared"
        case ageMilliseconds = "age_ms"
        case endedMilliseconds = "ended_ms"
        case destinationPid = "destination_pid"
        case destinationCommand = "destination_command"
    }
}

extension FlowRow {
    /// For people: the reason with the rule behind it, and what policies on trial would have done.
    package var why: String {
        var words: [String] = []
        if reason != "none" { words.append(reason) }
        if verdict == .denied && !rule.isEmpty { words += policy.isEmpty ? [rule] : [policy, rule] }
        if !dryRunRule.isEmpty { words.append("dry-run denies: \(dryRunPolicy) \(dryRunRule)") }
        return words.joined(separator: " ")
    }
}

extension FlowRow: JSONWritable {
    package func write(to json: inout JSONWriter) { json.object { writeMembers(to: &$0) } }

    fileprivate func writeMembers(to json: inout JSONWriter) {
        json.member("id", id)
        json.member("node", node)
        json.member("direction", direction)
        json.member("state", state.rawValue)
        json.member("verdict", verdict.rawValue)
        json.member("reason", reason)
        json.member("policy", policy)
        json.member("rule", rule)
        json.member("dry_run_policy", dryRunPolicy)
        json.member("dry_run_rule", dryRunRule)
        json.member("source_principal", sourcePrincipal)
        json.member("destination_principal", destinationPrincipal)
        json.member("source_workload", sourceWorkload)
        json.member("destination_workload", destinationWorkload)
        json.member("source", source)
        json.member("original_destination", originalDestination)
        json.member("service", service)
        json.member("peer_node", peerNode)
        json.member("tunnel", tunnel)
        json.member("transport", transport)
        json.member("path", path ?? "")
        json.member("bytes_sent", bytesSent)
        json.member("bytes_received", bytesReceived)
        json.member("datagrams_sent", datagramsSent)
        json.member("datagrams_received", datagramsReceived)
        json.member("approximate", approximate)
        json.member("rtt_us", rttMicroseconds)
        json.member("rtt_shared", rttShared)
        json.member("retransmits", retransmits)
        json.member("age_ms", ageMilliseconds)
        json.member("ended_ms", endedMilliseconds)
        json.member("pid", pid)
        json.member("command", command)
        json.member("destination_pid", destinationPid)
        json.member("destination_command", destinationCommand)
    }
}

/// A flow that is over, as it is kept on disk: its row and the time of day at which it ended.
package struct ConnectionRecord: Equatable, Sendable, JSONWritable {
    package var flow: FlowRow
    /// Counts from 1970.
    package var endedWallMilliseconds: Int64

    package init(_ flow: FlowRow, endedWallMilliseconds: Int64) {
        self.flow = flow
        self.endedWallMilliseconds = endedWallMilliseconds
    }

    package func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("time", UTCTime.text(milliseconds: endedWallMilliseconds))
            flow.writeMembers(to: &json)
        }
    }

    /// The time in a record's bytes, without reading the rest: it stands first.
    package static func time(in bytes: ArraySlice<UInt8>) -> Int64? {
        let start = Array("{\"time\":\"".utf8)
        guard bytes.starts(with: start) else { return nil }
        return UTCTime.milliseconds(parsing: bytes.dropFirst(start.count).prefix(24))
    }
}

extension ConnectionRecord: Decodable {
    private enum CodingKeys: String, CodingKey {
        case time
    }

    package init(from decoder: any Decoder) throws {
        let time = try decoder.container(keyedBy: CodingKeys.self).decode(String.self, forKey: .time)
        guard let milliseconds = UTCTime.milliseconds(parsing: Array(time.utf8)[...]) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "'\(time)' is no time"))
        }
        self.init(try FlowRow(from: decoder), endedWallMilliseconds: milliseconds)
    }
}

/// Records, newest first.
package struct RecordPage: Equatable, Sendable, Decodable {
    /// There are older ones that were asked for and are too many.
    package var more: Bool
    package var records: [ConnectionRecord]

    package init(more: Bool = false, records: [ConnectionRecord] = []) {
        self.more = more
        self.records = records
    }

    /// The same of records that are JSON already.
    package static func json(_ records: [[UInt8]], more: Bool) -> [UInt8] {
        var bytes = Array("{\"more\":\(more),\"records\":[".utf8)
        for (index, record) in records.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            bytes += record
        }
        return bytes + Array("]}".utf8)
    }
}

/// Flows in the order in which they last changed, so that a reader can ask for what came after.
package struct FlowPage: Equatable, Sendable, Decodable, JSONWritable {
    /// Pass it as `after` for what changes from now on.
    package var next: UInt64
    /// There is more right now: ask again at once.
    package var more: Bool
    /// Kernel events, proxy records and flows that had to be left out, since meshd started.
    package var lost: UInt64
    package var flows: [FlowRow]

    package init(next: UInt64 = 0, more: Bool = false, lost: UInt64 = 0, flows: [FlowRow] = []) {
        self.next = next
        self.more = more
        self.lost = lost
        self.flows = flows
    }

    package func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("next", next)
            json.member("more", more)
            json.member("lost", lost)
            json.key("flows")
            json.array(flows) { $1.write(to: &$0) }
        }
    }
}

extension FlowRow {
    init(_ flow: Flow, now: UInt64, node: String) {
        self.init()
        id = flow.id
        self.node = node
        direction = flow.direction.name
        sourcePrincipal = flow.sourcePrincipal.text
        destinationPrincipal = flow.destinationPrincipal.text
        sourceWorkload = flow.sourceFacts?.workload ?? ""
        destinationWorkload = flow.destinationFacts?.workload ?? ""
        peerNode = flow.peerNode.text
        source = flow.source.text
        originalDestination = flow.destination.text
        service = flow.marks.contains(.serviceInferred) ? "" : flow.service?.service ?? ""
        transport = flow.marks.contains(.datagram) ? "udp" : "tcp"
        path = flow.path
        bytesSent = flow.bytesSent
        bytesReceived = flow.bytesReceived
        datagramsSent = flow.datagramsSent
        datagramsReceived = flow.datagramsReceived
        approximate = flow.marks.contains(.approximate)
        rttMicroseconds = flow.rttMicroseconds
        rttShared = flow.tunnel != 0
        retransmits = flow.retransmits
        let end = flow.endedNanoseconds == 0 ? now : flow.endedNanoseconds
        ageMilliseconds = end > flow.openedNanoseconds ? (end - flow.openedNanoseconds) / 1_000_000 : 0
        if flow.endedNanoseconds != 0, now > flow.endedNanoseconds {
            endedMilliseconds = (now - flow.endedNanoseconds) / 1_000_000
        }
        switch flow.progress {
        case .open: state = .open
        case .closed: state = .closed
        case .refused: state = .refused
        }
        verdict =
            flow.marks.contains(.denied) ? .denied : flow.marks.contains(.passthrough) ? .passthrough : .allowed
        reason = Reason(number: flow.reason)?.name ?? "unknown"
        (policy, rule) = flow.decidedBy.asRule
        (dryRunPolicy, dryRunRule) = flow.dryRunDenial.asRule
        pid = flow.pid
        command = flow.command.text
        destinationPid = flow.destinationPid
        destinationCommand = flow.destinationCommand.text
        tunnel = flow.tunnel
    }
}

extension SharedName {
    /// Names of policies have no space, and neither have rules.
    fileprivate var asRule: (policy: String, rule: String) {
        let parts = text.split(separator: " ").map(String.init)
        return parts.count == 2 ? (parts[0], parts[1]) : ("", text)
    }
}

extension SocketAddress {
    fileprivate var text: String { address.isUnspecified && port == 0 ? "" : description }
}
