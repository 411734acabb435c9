package import CMeshABI

/// Why something was refused, reset or closed: the same closed list as the kernel side's (`bpf/abi/mesh_reason.h`).
package typealias Reason = mesh_reason

extension mesh_reason {
    /// Every reason in order of number, without `MESH_REASON_MAX`, which is a bound and no reason.
    package static let all: [Reason] = [
        .MESH_REASON_NONE,
        .MESH_REASON_WORKLOAD_NOT_READY,
        .MESH_REASON_SOCKET_OWNER_MISMATCH,
        .MESH_REASON_BOUND_TO_DEVICE,
        .MESH_REASON_HANDOVER_FULL,
        .MESH_REASON_HANDOVER_MISSING,
        .MESH_REASON_NO_LISTENER,
        .MESH_REASON_PROXY_STALE,
        .MESH_REASON_PROXY_OVERLOADED,
        .MESH_REASON_ENDPOINT_UNREACHABLE,
        .MESH_REASON_NO_ENDPOINTS,
        .MESH_REASON_MESH_PORT_RESERVED,
        .MESH_REASON_STORAGE_FAILED,
        .MESH_REASON_STATE_MISSING,
        .MESH_REASON_DIAL_OUT_OF_SCOPE,
        .MESH_REASON_PRESENTATION_FAILED,
        .MESH_REASON_PORT_CONFLICT,
        .MESH_REASON_EVENT_LOST,
        .MESH_REASON_NO_SERVICE_PORT,
        .MESH_REASON_FAIL_OPEN,
        .MESH_REASON_NO_CLIENT_CERTIFICATE,
        .MESH_REASON_TRUST_DOMAIN_MISMATCH,
        .MESH_REASON_CERTIFICATE_EXPIRED,
        .MESH_REASON_CERTIFICATE_INVALID,
        .MESH_REASON_SERVER_PRINCIPAL_MISMATCH,
        .MESH_REASON_PRINCIPAL_UNKNOWN,
        .MESH_REASON_PRINCIPAL_NOT_ON_NODE,
        .MESH_REASON_PEER_NODE_UNKNOWN,
        .MESH_REASON_SNI_UNKNOWN,
        .MESH_REASON_NO_CERTIFICATE,
        .MESH_REASON_PLAINTEXT_ON_TUNNEL_PORT,
        .MESH_REASON_TLS_FAILED,
        .MESH_REASON_ALPN_MISMATCH,
        .MESH_REASON_HANDSHAKE_TIMEOUT,
        .MESH_REASON_PROTOCOL_ERROR,
        .MESH_REASON_HEADERS_TOO_LARGE,
        .MESH_REASON_STREAM_LIMIT,
        .MESH_REASON_RESET_FLOOD,
        .MESH_REASON_CONTROL_FLOOD,
        .MESH_REASON_CONTINUATION_FLOOD,
        .MESH_REASON_EMPTY_DATA_FLOOD,
        .MESH_REASON_FLOW_CONTROL_ERROR,
        .MESH_REASON_SLOW_PEER,
        .MESH_REASON_HEADERS_TIMEOUT,
        .MESH_REASON_AUTHORITY_MALFORMED,
        .MESH_REASON_AUTHORITY_UNKNOWN,
        .MESH_REASON_AUTHORITY_PRINCIPAL_MISMATCH,
        .MESH_REASON_AUTHORITY_MESH_PORT,
        .MESH_REASON_NOT_CONNECT,
        .MESH_REASON_PEER_REFUSED, .MESH_REASON_PEER_DENIED,
        .MESH_REASON_CONNECT_REFUSED,
        .MESH_REASON_CONNECT_TIMEOUT,
        .MESH_REASON_CONNECT_FAILED,
        .MESH_REASON_TUNNEL_CONNECT_FAILED,
        .MESH_REASON_TUNNEL_LOST,
        .MESH_REASON_PING_TIMEOUT,
        .MESH_REASON_PEER_RESET,
        .MESH_REASON_APPLICATION_RESET,
        .MESH_REASON_NO_DIAL_SOCKET,
        .MESH_REASON_DRAIN_DEADLINE,
        .MESH_REASON_WORKLOAD_GONE,
        .MESH_REASON_NO_ROUTE,
        .MESH_REASON_SNAPSHOT_MISSING,
        .MESH_REASON_MEMORY_BUDGET,
        .MESH_REASON_DESCRIPTOR_LIMIT,
        .MESH_REASON_TUNNEL_LIMIT,
        .MESH_REASON_QUEUE_LIMIT,
        .MESH_REASON_POLICY_DENIED,
        .MESH_REASON_PLAINTEXT_REFUSED,
        .MESH_REASON_PLAINTEXT_EXEMPT,
        .MESH_REASON_LISTENER_MISMATCH,
        .MESH_REASON_VOUCH_FULL,
        .MESH_REASON_DIRECT_FAILED,
        .MESH_REASON_EGRESS_DENIED,
        .MESH_REASON_EGRESS_WITHOUT_VERDICT,
        .MESH_REASON_RAW_SOCKET_DENIED,
        .MESH_REASON_PROTOCOL_NOT_JUDGED,
        .MESH_REASON_PLAINTEXT_PREEXISTING,
        .MESH_REASON_SOCKET_FROM_OUTSIDE,
        .MESH_REASON_NAMES_MALFORMED,
        .MESH_REASON_NAMES_IN_FLIGHT_LIMIT,
        .MESH_REASON_NAMES_RESOLVER_TIMEOUT,
        .MESH_REASON_NAMES_RESOLVER_FAILED,
        .MESH_REASON_NAMES_ANSWER_MISMATCH,
        .MESH_REASON_NAMES_RESOLVERS_LIMIT,
        .MESH_REASON_NAMES_QUESTION_UNKNOWN,
        .MESH_REASON_DATAGRAM_NOT_CARRIED,
        .MESH_REASON_DATAGRAM_TO_STRICT,
        .MESH_REASON_DATAGRAM_FLOWS_FULL,
    ]

    /// The reason with this number, for numbers from maps, messages and records. `init(rawValue:)` of a C enum checks
    /// nothing, and a value outside the list is undefined behaviour in a `switch`: never use it for input.
    package init?(number: some BinaryInteger) {
        guard let index = UInt32(exactly: number).map(Int.init), index < Self.byNumber.count,
            let known = Self.byNumber[index]
        else { return nil }
        self = known
    }

    /// The reason that users see as `name`.
    package init?(name: some StringProtocol) {
        guard let known = Self.byName[String(name)] else { return nil }
        self = known
    }

    /// Whether a policy, or the mode of a port, decided it.
    package var isPolicy: Bool { self == .MESH_REASON_POLICY_DENIED || self == .MESH_REASON_PLAINTEXT_REFUSED }

    /// Decided by an EgressPolicy.
    package var isEgressPolicy: Bool { self == .MESH_REASON_EGRESS_DENIED }

    private static let byNumber: [Reason?] = {
        var table = [Reason?](repeating: nil, count: Int(Reason.MESH_REASON_MAX.rawValue))
        for reason in all { table[Int(reason.rawValue)] = reason }
        return table
    }()

    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    /// What users see in logs, records, metrics and flows: the enumerator without prefix, in lower case.
    package var name: String {
        // Exhaustive on purpose: a new reason in the header does not compile until it has its name here and a place
        // in `all` (a test compares the two).
        switch self {
        case .MESH_REASON_NONE: "none"
        case .MESH_REASON_WORKLOAD_NOT_READY: "workload_not_ready"
        case .MESH_REASON_SOCKET_OWNER_MISMATCH: "socket_owner_mismatch"
        case .MESH_REASON_BOUND_TO_DEVICE: "bound_to_device"
        case .MESH_REASON_HANDOVER_FULL: "handover_full"
        case .MESH_REASON_HANDOVER_MISSING: "handover_missing"
        case .MESH_REASON_NO_LISTENER: "no_listener"
        case .MESH_REASON_PROXY_STALE: "proxy_stale"
        case .MESH_REASON_PROXY_OVERLOADED: "proxy_overloaded"
        case .MESH_REASON_ENDPOINT_UNREACHABLE: "endpoint_unreachable"
        case .MESH_REASON_NO_ENDPOINTS: "no_endpoints"
        case .MESH_REASON_MESH_PORT_RESERVED: "mesh_port_reserved"
        case .MESH_REASON_STORAGE_FAILED: "storage_failed"
        case .MESH_REASON_STATE_MISSING: "state_missing"
        case .MESH_REASON_DIAL_OUT_OF_SCOPE: "dial_out_of_scope"
        case .MESH_REASON_PRESENTATION_FAILED: "presentation_failed"
        case .MESH_REASON_PORT_CONFLICT: "port_conflict"
        case .MESH_REASON_EVENT_LOST: "event_lost"
        case .MESH_REASON_NO_SERVICE_PORT: "no_service_port"
        case .MESH_REASON_FAIL_OPEN: "fail_open"
        case .MESH_REASON_NO_CLIENT_CERTIFICATE: "no_client_certificate"
        case .MESH_REASON_TRUST_DOMAIN_MISMATCH: "trust_domain_mismatch"
        case .MESH_REASON_CERTIFICATE_EXPIRED: "certificate_expired"
        case .MESH_REASON_CERTIFICATE_INVALID: "certificate_invalid"
        case .MESH_REASON_SERVER_PRINCIPAL_MISMATCH: "server_principal_mismatch"
        case .MESH_REASON_PRINCIPAL_UNKNOWN: "principal_unknown"
        case .MESH_REASON_PRINCIPAL_NOT_ON_NODE: "principal_not_on_node"
        case .MESH_REASON_PEER_NODE_UNKNOWN: "peer_node_unknown"
        case .MESH_REASON_SNI_UNKNOWN: "sni_unknown"
        case .MESH_REASON_NO_CERTIFICATE: "no_certificate"
        case .MESH_REASON_PLAINTEXT_ON_TUNNEL_PORT: "plaintext_on_tunnel_port"
        case .MESH_REASON_TLS_FAILED: "tls_failed"
        case .MESH_REASON_ALPN_MISMATCH: "alpn_mismatch"
        case .MESH_REASON_HANDSHAKE_TIMEOUT: "handshake_timeout"
        case .MESH_REASON_PROTOCOL_ERROR: "protocol_error"
        case .MESH_REASON_HEADERS_TOO_LARGE: "headers_too_large"
        case .MESH_REASON_STREAM_LIMIT: "stream_limit"
        case .MESH_REASON_RESET_FLOOD: "reset_flood"
        case .MESH_REASON_CONTROL_FLOOD: "control_flood"
        case .MESH_REASON_CONTINUATION_FLOOD: "continuation_flood"
        case .MESH_REASON_EMPTY_DATA_FLOOD: "empty_data_flood"
        case .MESH_REASON_FLOW_CONTROL_ERROR: "flow_control_error"
        case .MESH_REASON_SLOW_PEER: "slow_peer"
        case .MESH_REASON_HEADERS_TIMEOUT: "headers_timeout"
        case .MESH_REASON_AUTHORITY_MALFORMED: "authority_malformed"
        case .MESH_REASON_AUTHORITY_UNKNOWN: "authority_unknown"
        case .MESH_REASON_AUTHORITY_PRINCIPAL_MISMATCH: "authority_principal_mismatch"
        case .MESH_REASON_AUTHORITY_MESH_PORT: "authority_mesh_port"
        case .MESH_REASON_NOT_CONNECT: "not_connect"
        case .MESH_REASON_PEER_REFUSED: "peer_refused"
        case .MESH_REASON_PEER_DENIED: "peer_denied"
        case .MESH_REASON_CONNECT_REFUSED: "connect_refused"
        case .MESH_REASON_CONNECT_TIMEOUT: "connect_timeout"
        case .MESH_REASON_CONNECT_FAILED: "connect_failed"
        case .MESH_REASON_TUNNEL_CONNECT_FAILED: "tunnel_connect_failed"
        case .MESH_REASON_TUNNEL_LOST: "tunnel_lost"
        case .MESH_REASON_PING_TIMEOUT: "ping_timeout"
        case .MESH_REASON_PEER_RESET: "peer_reset"
        case .MESH_REASON_APPLICATION_RESET: "application_reset"
        case .MESH_REASON_NO_DIAL_SOCKET: "no_dial_socket"
        case .MESH_REASON_DRAIN_DEADLINE: "drain_deadline"
        case .MESH_REASON_WORKLOAD_GONE: "workload_gone"
        case .MESH_REASON_NO_ROUTE: "no_route"
        case .MESH_REASON_SNAPSHOT_MISSING: "snapshot_missing"
        case .MESH_REASON_MEMORY_BUDGET: "memory_budget"
        case .MESH_REASON_DESCRIPTOR_LIMIT: "descriptor_limit"
        case .MESH_REASON_TUNNEL_LIMIT: "tunnel_limit"
        case .MESH_REASON_QUEUE_LIMIT: "queue_limit"
        case .MESH_REASON_POLICY_DENIED: "policy_denied"
        case .MESH_REASON_PLAINTEXT_REFUSED: "plaintext_refused"
        case .MESH_REASON_PLAINTEXT_EXEMPT: "plaintext_exempt"
        case .MESH_REASON_LISTENER_MISMATCH: "listener_mismatch"
        case .MESH_REASON_VOUCH_FULL: "vouch_full"
        case .MESH_REASON_DIRECT_FAILED: "direct_failed"
        case .MESH_REASON_EGRESS_DENIED: "egress_denied"
        case .MESH_REASON_EGRESS_WITHOUT_VERDICT: "egress_without_verdict"
        case .MESH_REASON_RAW_SOCKET_DENIED: "raw_socket_denied"
        case .MESH_REASON_PROTOCOL_NOT_JUDGED: "protocol_not_judged"
        case .MESH_REASON_PLAINTEXT_PREEXISTING: "plaintext_preexisting"
        case .MESH_REASON_SOCKET_FROM_OUTSIDE: "socket_from_outside"
        case .MESH_REASON_NAMES_MALFORMED: "names_malformed"
        case .MESH_REASON_NAMES_IN_FLIGHT_LIMIT: "names_in_flight_limit"
        case .MESH_REASON_NAMES_RESOLVER_TIMEOUT: "names_resolver_timeout"
        case .MESH_REASON_NAMES_RESOLVER_FAILED: "names_resolver_failed"
        case .MESH_REASON_NAMES_ANSWER_MISMATCH: "names_answer_mismatch"
        case .MESH_REASON_NAMES_RESOLVERS_LIMIT: "names_resolvers_limit"
        case .MESH_REASON_NAMES_QUESTION_UNKNOWN: "names_question_unknown"
        case .MESH_REASON_DATAGRAM_NOT_CARRIED: "datagram_not_carried"
        case .MESH_REASON_DATAGRAM_TO_STRICT: "datagram_to_strict"
        case .MESH_REASON_DATAGRAM_FLOWS_FULL: "datagram_flows_full"
        case .MESH_REASON_MAX: "max"
        }
    }
}
