import CMeshABI
import MeshModel

/// The labels that Istio's TCP metrics have for each end, without the principal.
struct IstioWorkloadLabels {
    var workload = unknown
    var namespace = unknown
    var app = unknown
    var version = unknown
    var canonicalService = unknown
    var canonicalRevision = "latest"
    var cluster = unknown

    static let unknown = "unknown"
    static let unknownSource = IstioWorkloadLabels().text(prefix: "source")
    static let unknownDestination = IstioWorkloadLabels().text(prefix: "destination")

    func text(prefix: String) -> String {
        PrometheusText.labelText([
            ("\(prefix)_workload", workload), ("\(prefix)_workload_namespace", namespace), ("\(prefix)_app", app),
            ("\(prefix)_version", version), ("\(prefix)_canonical_service", canonicalService),
            ("\(prefix)_canonical_revision", canonicalRevision), ("\(prefix)_cluster", cluster),
        ])
    }
}

/// Istio's word for why a connection failed (the closed list of its L4 proxy).
enum ResponseFlags: String, Sendable {
    case none = "-"
    case deny = "DENY"
    case connect = "CONNECT"
    case tlsFailure = "TLS_FAILURE"
    case http2HandshakeFailure = "H2_HANDSHAKE_FAILURE"
    case identityError = "IDENTITY_ERROR"

    /// `isDenied`: it never opened, so that whatever the reason, it is no success.
    init(_ reason: Reason, isDenied: Bool) {
        let flags = Self.flags(reason)
        self = flags == .none && isDenied ? .connect : flags
    }

    // MARK: private

    /// Exhaustive on purpose: with a new reason comes the word for it, or it would look like a success.
    private static func flags(_ reason: Reason) -> ResponseFlags {
        switch reason {
        // Ends that are no failure of the mesh: the applications' own, and what is told of connections that passed.
        case .MESH_REASON_NONE, .MESH_REASON_APPLICATION_RESET, .MESH_REASON_PEER_RESET, .MESH_REASON_WORKLOAD_GONE,
            .MESH_REASON_FAIL_OPEN, .MESH_REASON_EVENT_LOST, .MESH_REASON_PLAINTEXT_EXEMPT,
            .MESH_REASON_DATAGRAM_FLOWS_FULL, .MESH_REASON_MAX:
            .none
        case .MESH_REASON_POLICY_DENIED, .MESH_REASON_PEER_DENIED, .MESH_REASON_LISTENER_MISMATCH,
            .MESH_REASON_AUTHORITY_PRINCIPAL_MISMATCH, .MESH_REASON_AUTHORITY_UNKNOWN,
            .MESH_REASON_AUTHORITY_MALFORMED, .MESH_REASON_AUTHORITY_MESH_PORT, .MESH_REASON_PRINCIPAL_NOT_ON_NODE,
            .MESH_REASON_PRINCIPAL_UNKNOWN, .MESH_REASON_PEER_NODE_UNKNOWN, .MESH_REASON_MESH_PORT_RESERVED,
            .MESH_REASON_SOCKET_OWNER_MISMATCH, .MESH_REASON_BOUND_TO_DEVICE, .MESH_REASON_DIAL_OUT_OF_SCOPE,
            .MESH_REASON_PORT_CONFLICT, .MESH_REASON_EGRESS_DENIED, .MESH_REASON_EGRESS_WITHOUT_VERDICT,
            .MESH_REASON_RAW_SOCKET_DENIED, .MESH_REASON_PROTOCOL_NOT_JUDGED, .MESH_REASON_PLAINTEXT_PREEXISTING,
            .MESH_REASON_SOCKET_FROM_OUTSIDE, .MESH_REASON_PLAINTEXT_REFUSED, .MESH_REASON_DATAGRAM_NOT_CARRIED,
            .MESH_REASON_DATAGRAM_TO_STRICT:
            .deny
        case .MESH_REASON_CONNECT_REFUSED, .MESH_REASON_CONNECT_TIMEOUT, .MESH_REASON_CONNECT_FAILED,
            .MESH_REASON_TUNNEL_CONNECT_FAILED, .MESH_REASON_ENDPOINT_UNREACHABLE, .MESH_REASON_NO_ENDPOINTS,
            .MESH_REASON_NO_SERVICE_PORT, .MESH_REASON_NO_ROUTE, .MESH_REASON_NO_DIAL_SOCKET,
            .MESH_REASON_PEER_REFUSED, .MESH_REASON_NO_LISTENER, .MESH_REASON_PROXY_STALE,
            .MESH_REASON_PROXY_OVERLOADED:
            .connect
        // What the node lacked: room, state, time.
        case .MESH_REASON_WORKLOAD_NOT_READY, .MESH_REASON_HANDOVER_FULL, .MESH_REASON_HANDOVER_MISSING,
            .MESH_REASON_STORAGE_FAILED, .MESH_REASON_STATE_MISSING, .MESH_REASON_PRESENTATION_FAILED,
            .MESH_REASON_SNAPSHOT_MISSING, .MESH_REASON_MEMORY_BUDGET, .MESH_REASON_DESCRIPTOR_LIMIT,
            .MESH_REASON_TUNNEL_LIMIT, .MESH_REASON_QUEUE_LIMIT, .MESH_REASON_DRAIN_DEADLINE, .MESH_REASON_VOUCH_FULL,
            .MESH_REASON_DIRECT_FAILED:
            .connect
        // No connection ends by these.
        case .MESH_REASON_NAMES_MALFORMED, .MESH_REASON_NAMES_IN_FLIGHT_LIMIT, .MESH_REASON_NAMES_RESOLVER_TIMEOUT,
            .MESH_REASON_NAMES_RESOLVER_FAILED, .MESH_REASON_NAMES_ANSWER_MISMATCH,
            .MESH_REASON_NAMES_RESOLVERS_LIMIT, .MESH_REASON_NAMES_QUESTION_UNKNOWN:
            .connect
        // The tunnel, while it carried the connection.
        case .MESH_REASON_TUNNEL_LOST, .MESH_REASON_PING_TIMEOUT, .MESH_REASON_SLOW_PEER, .MESH_REASON_STREAM_LIMIT,
            .MESH_REASON_RESET_FLOOD, .MESH_REASON_CONTROL_FLOOD, .MESH_REASON_CONTINUATION_FLOOD,
            .MESH_REASON_EMPTY_DATA_FLOOD, .MESH_REASON_FLOW_CONTROL_ERROR:
            .connect
        case .MESH_REASON_NO_CLIENT_CERTIFICATE, .MESH_REASON_TRUST_DOMAIN_MISMATCH, .MESH_REASON_CERTIFICATE_EXPIRED,
            .MESH_REASON_CERTIFICATE_INVALID, .MESH_REASON_SERVER_PRINCIPAL_MISMATCH, .MESH_REASON_SNI_UNKNOWN,
            .MESH_REASON_PLAINTEXT_ON_TUNNEL_PORT, .MESH_REASON_TLS_FAILED, .MESH_REASON_HANDSHAKE_TIMEOUT:
            .tlsFailure
        case .MESH_REASON_ALPN_MISMATCH, .MESH_REASON_HEADERS_TIMEOUT, .MESH_REASON_NOT_CONNECT,
            .MESH_REASON_PROTOCOL_ERROR, .MESH_REASON_HEADERS_TOO_LARGE:
            .http2HandshakeFailure
        case .MESH_REASON_NO_CERTIFICATE: .identityError
        }
    }
}

/// Istio's word for how a connection was protected.
enum ConnectionSecurity: String, Sendable {
    case mutualTLS = "mutual_tls"
    case none
    case unknown
}

/// Istio's TCP metrics, by label set. Bounded: beyond the cap a connection is counted in no series and the loss is
/// counted; series that nothing has touched for a while, with no open connection, are dropped.
struct IstioSeries {
    struct Labels: Hashable {
        var isSourceReporter: Bool
        var source: String
        var destination: String
        var sourcePrincipal: String
        var destinationPrincipal: String
        var service: String
        var flags: ResponseFlags
        var security: ConnectionSecurity

        var text: String {
            PrometheusText.labelText([("reporter", isSourceReporter ? "source" : "destination")]) + "," + source + ","
                + destination + ","
                + PrometheusText.labelText([
                    ("source_principal", Self.orUnknown(sourcePrincipal)),
                    ("destination_principal", Self.orUnknown(destinationPrincipal)),
                ]) + "," + service + ","
                + PrometheusText.labelText([
                    ("request_protocol", "tcp"), ("response_flags", flags.rawValue),
                    ("connection_security_policy", security.rawValue),
                ])
        }

        private static func orUnknown(_ text: String) -> String { text.isEmpty ? "unknown" : text }
    }

    private struct Series {
        var labels: Labels
        var opened: UInt64 = 0
        var closed: UInt64 = 0
        var failed: UInt64 = 0
        var sent: UInt64 = 0
        var received: UInt64 = 0
        var open = 0
        var touched: UInt64
        var isFree = false
    }

    /// Of no series.
    static let none: Int32 = -1
    private var series: [Series] = []
    private var free: [Int32] = []
    private var byLabels: [Labels: Int32] = [:]
    private let seriesMax: Int
    private let idleNanoseconds: UInt64
    /// Connections that no series had room for.
    private(set) var dropped: UInt64 = 0

    var count: Int { byLabels.count }

    init(seriesMax: Int, idleNanoseconds: UInt64) {
        self.seriesMax = seriesMax
        self.idleNanoseconds = idleNanoseconds
    }

    /// The series of a connection that opens now.
    /// `isCounted` is false for a connection that an earlier process has counted.
    mutating func open(_ labels: Labels, isCounted: Bool = true, now: UInt64) -> Int32 {
        let index = find(labels, now: now)
        modify(index, now: now) {
            if isCounted { $0.opened += 1 }
            $0.open += 1
        }
        return index
    }

    /// A connection that was refused and of which no flow is kept.
    mutating func refuse(_ labels: Labels, flags: ResponseFlags, now: UInt64) {
        close(open(labels, now: now), flags: flags, now: now)
    }

    mutating func add(_ index: Int32, sent: UInt64, received: UInt64, now: UInt64) {
        guard sent > 0 || received > 0 else { return }
        modify(index, now: now) {
            // A proxy that was taken over may say anything; meshd does not end over it.
            $0.sent &+= sent
            $0.received &+= received
        }
    }

    /// The connection ends; with `flags` it is counted in the series that carries them.
    mutating func close(_ index: Int32, flags: ResponseFlags, now: UInt64) {
        guard index != Self.none else { return }
        let labels = series[Int(index)].labels
        modify(index, now: now) { $0.open -= 1 }
        var target = index
        if flags != labels.flags {
            var flagged = labels
            flagged.flags = flags
            target = find(flagged, now: now)
        }
        modify(target, now: now) {
            $0.closed += 1
            if flags != .none { $0.failed += 1 }
        }
    }

    mutating func expire(now: UInt64) {
        for index in series.indices {
            let entry = series[index]
            guard !entry.isFree, entry.open == 0, now >= entry.touched &+ idleNanoseconds else { continue }
            byLabels[entry.labels] = nil
            series[index].isFree = true
            free.append(Int32(index))
        }
    }

    func write(to text: inout PrometheusText) {
        let lines = series.filter { !$0.isFree }.map { (labels: $0.labels.text, series: $0) }.sorted {
            $0.labels < $1.labels
        }
        let families: [(String, String, KeyPath<Series, UInt64>)] = [
            ("istio_tcp_connections_opened_total", "TCP connections opened.", \.opened),
            ("istio_tcp_connections_closed_total", "TCP connections closed.", \.closed),
            ("istio_tcp_connections_failed_total", "TCP connections that failed, by response_flags.", \.failed),
            ("istio_tcp_sent_bytes_total", "Payload bytes of responses: from server to client.", \.received),
            ("istio_tcp_received_bytes_total", "Payload bytes of requests: from client to server.", \.sent),
        ]
        for (name, help, value) in families {
            text.family(name, .counter, help)
            for line in lines { text.line(name, labels: line.labels, value: String(line.series[keyPath: value])) }
        }
        text.family("istio_tcp_sockets_open", .gauge, "TCP connections that are open now.")
        for line in lines where line.series.labels.flags == .none {
            text.line("istio_tcp_sockets_open", labels: line.labels, value: String(line.series.open))
        }
    }

    // MARK: private

    private mutating func find(_ labels: Labels, now: UInt64) -> Int32 {
        if let known = byLabels[labels] { return known }
        guard byLabels.count < seriesMax else {
            dropped += 1
            return Self.none
        }
        let entry = Series(labels: labels, touched: now)
        let index: Int32
        if let reused = free.popLast() {
            index = reused
            series[Int(index)] = entry
        } else {
            index = Int32(series.count)
            series.append(entry)
        }
        byLabels[labels] = index
        return index
    }

    private mutating func modify(_ index: Int32, now: UInt64, _ body: (inout Series) -> Void) {
        guard index != Self.none else { return }
        series[Int(index)].touched = now
        body(&series[Int(index)])
    }
}
