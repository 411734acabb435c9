/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Why something was refused, reset or closed: one closed list for the kernel side, the proxy, the flow table,
 * the records and the metrics. Numbers are append-only and never reused: they are stored in pinned maps and in
 * records on disk. The names that users see are the enumerators without prefix, in lower case.
 */
#pragma once

enum __attribute__((enum_extensibility(closed))) mesh_reason {
	MESH_REASON_NONE = 0,

	/* Decided in the kernel */
	MESH_REASON_WORKLOAD_NOT_READY = 1, /* meshed, but meshd has not finished its listeners */
	MESH_REASON_SOCKET_OWNER_MISMATCH = 2, /* the socket's cgroup belongs to another workload than the caller */
	MESH_REASON_BOUND_TO_DEVICE = 3, /* SO_BINDTODEVICE and a redirect exclude each other */
	MESH_REASON_HANDOVER_FULL = 4, /* too many captured connections of this workload wait for the proxy */
	MESH_REASON_HANDOVER_MISSING = 5, /* an accepted socket came without an original destination */
	MESH_REASON_NO_LISTENER = 6, /* no mesh listener in the caller's network namespace */
	MESH_REASON_PROXY_STALE = 7, /* the listener's beat is older than the restart grace */
	MESH_REASON_PROXY_OVERLOADED = 8, /* the listener's beat says overloaded */
	MESH_REASON_ENDPOINT_UNREACHABLE = 9, /* meshd knows the destination to be unreachable */
	MESH_REASON_NO_ENDPOINTS = 10, /* the service has no endpoint */
	MESH_REASON_MESH_PORT_RESERVED = 11, /* an application tried to bind or to call a port of the mesh */
	MESH_REASON_STORAGE_FAILED = 12, /* the kernel could not allocate socket storage */
	MESH_REASON_STATE_MISSING = 13, /* a map entry that must exist does not */
	MESH_REASON_DIAL_OUT_OF_SCOPE = 14, /* a dial socket was used beyond what it was made for */
	MESH_REASON_PRESENTATION_FAILED = 15, /* the client's address could not be handed to the application's socket */
	MESH_REASON_PORT_CONFLICT = 16, /* two workloads listen on one address and port */
	MESH_REASON_EVENT_LOST = 17, /* the event ring was full */
	MESH_REASON_NO_SERVICE_PORT = 18, /* a service address without this port */
	MESH_REASON_FAIL_OPEN = 19, /* passed in plain text because failureMode is open and the mesh is away */

	/* TLS and identity */
	MESH_REASON_NO_CLIENT_CERTIFICATE = 32,
	MESH_REASON_TRUST_DOMAIN_MISMATCH = 33,
	MESH_REASON_CERTIFICATE_EXPIRED = 34,
	MESH_REASON_CERTIFICATE_INVALID = 35, /* no chain to the trust bundle, or not a SPIFFE leaf */
	MESH_REASON_SERVER_PRINCIPAL_MISMATCH = 36, /* the server presented another principal than the expected */
	MESH_REASON_PRINCIPAL_UNKNOWN = 37, /* the client's principal is in no workload of the snapshot */
	MESH_REASON_PRINCIPAL_NOT_ON_NODE = 38, /* the snapshot places the client's principal on other nodes only */
	MESH_REASON_PEER_NODE_UNKNOWN = 39, /* the peer's address belongs to no Node */
	MESH_REASON_SNI_UNKNOWN = 40,
	MESH_REASON_NO_CERTIFICATE = 41, /* this node has no certificate for the workload */
	MESH_REASON_PLAINTEXT_ON_TUNNEL_PORT = 42,
	MESH_REASON_TLS_FAILED = 43,
	MESH_REASON_ALPN_MISMATCH = 44,
	MESH_REASON_HANDSHAKE_TIMEOUT = 45,

	/* HTTP/2 and HBONE */
	MESH_REASON_PROTOCOL_ERROR = 64,
	MESH_REASON_HEADERS_TOO_LARGE = 65,
	MESH_REASON_STREAM_LIMIT = 66,
	MESH_REASON_RESET_FLOOD = 67,
	MESH_REASON_CONTROL_FLOOD = 68,
	MESH_REASON_CONTINUATION_FLOOD = 69,
	MESH_REASON_EMPTY_DATA_FLOOD = 70,
	MESH_REASON_FLOW_CONTROL_ERROR = 71,
	MESH_REASON_SLOW_PEER = 72, /* the peer takes too long to read or to complete what it began */
	MESH_REASON_HEADERS_TIMEOUT = 73,
	MESH_REASON_AUTHORITY_MALFORMED = 74,
	MESH_REASON_AUTHORITY_UNKNOWN = 75, /* no endpoint on this node has the authority's address and port */
	MESH_REASON_AUTHORITY_PRINCIPAL_MISMATCH = 76,
	MESH_REASON_AUTHORITY_MESH_PORT = 77,
	MESH_REASON_NOT_CONNECT = 78,
	MESH_REASON_PEER_REFUSED = 79, /* the peer answered the CONNECT with another status than 200 */
	MESH_REASON_PEER_DENIED = 80, /* ... with 401 or 403: its policy says no */

	/* Connections */
	MESH_REASON_CONNECT_REFUSED = 96, /* the application refused the connection */
	MESH_REASON_CONNECT_TIMEOUT = 97,
	MESH_REASON_CONNECT_FAILED = 98,
	MESH_REASON_TUNNEL_CONNECT_FAILED = 99, /* the peer node could not be reached */
	MESH_REASON_TUNNEL_LOST = 100,
	MESH_REASON_PING_TIMEOUT = 101,
	MESH_REASON_PEER_RESET = 102, /* the peer reset the stream */
	MESH_REASON_APPLICATION_RESET = 103, /* the local application reset its connection */
	MESH_REASON_NO_DIAL_SOCKET = 104,
	MESH_REASON_DRAIN_DEADLINE = 105,
	MESH_REASON_WORKLOAD_GONE = 106,
	MESH_REASON_NO_ROUTE = 107, /* the snapshot has no endpoint for the original destination */
	MESH_REASON_SNAPSHOT_MISSING = 108,

	/* Limits */
	MESH_REASON_MEMORY_BUDGET = 128,
	MESH_REASON_DESCRIPTOR_LIMIT = 129,
	MESH_REASON_TUNNEL_LIMIT = 130,
	MESH_REASON_QUEUE_LIMIT = 131,

	/* Policy */
	MESH_REASON_POLICY_DENIED = 160,
	MESH_REASON_PLAINTEXT_REFUSED = 161, /* the port is strict */
	MESH_REASON_PLAINTEXT_EXEMPT = 166, /* passed: a declared probe, from its source to its port */
	MESH_REASON_LISTENER_MISMATCH =
		167, /* another workload listens than the one that the connection was judged for */
	MESH_REASON_VOUCH_FULL = 168, /* the node could not note that it opened a connection itself */
	MESH_REASON_DIRECT_FAILED = 169, /* a direct connection did not arrive: that pair goes through the proxy */

	/* Egress: what leaves for destinations outside the mesh */
	MESH_REASON_EGRESS_DENIED = 170, /* the workload's egress policy does not list the destination */
	MESH_REASON_EGRESS_WITHOUT_VERDICT = 171, /* sent by a socket that nobody judged: dropped by the fence */
	MESH_REASON_RAW_SOCKET_DENIED = 172, /* a raw socket of a workload whose egress is fenced */
	MESH_REASON_PROTOCOL_NOT_JUDGED = 173, /* a socket of a protocol that the mesh can neither carry nor judge */
	MESH_REASON_PLAINTEXT_PREEXISTING = 174, /* a plaintext connection older than its workload's being meshed */
	MESH_REASON_SOCKET_FROM_OUTSIDE = 175, /* a connected socket that the workload was given from outside */

	/* Names and datagrams */
	MESH_REASON_NAMES_MALFORMED = 176, /* what came as a DNS query is none */
	MESH_REASON_NAMES_IN_FLIGHT_LIMIT = 177, /* too many forwarded queries wait for their resolvers */
	MESH_REASON_NAMES_RESOLVER_TIMEOUT = 178, /* the resolver did not answer in time */
	MESH_REASON_NAMES_RESOLVER_FAILED = 179, /* the resolver could not be reached */
	MESH_REASON_NAMES_ANSWER_MISMATCH = 180, /* an answer to something that was not asked */
	MESH_REASON_NAMES_RESOLVERS_LIMIT = 181, /* one socket asks more resolvers at once than can be told apart */
	MESH_REASON_NAMES_QUESTION_UNKNOWN = 182, /* a datagram at a names listener that no hook sent there */
	MESH_REASON_DATAGRAM_NOT_CARRIED = 183, /* a datagram to an address of the mesh: only TCP is carried */
	MESH_REASON_DATAGRAM_TO_STRICT = 184, /* a datagram, which is plain text, to a workload that takes none */
	MESH_REASON_DATAGRAM_FLOWS_FULL = 185, /* datagrams of more peers than are counted at once */

	MESH_REASON_MAX = 192, /* size of counter arrays */
};
