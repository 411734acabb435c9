/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What the BPF programs and the Swift side share: map keys and values, socket options, events. Declared once, here,
 * and imported by Swift as a C module. Append-only: a new field takes reserved space and raises MESH_ABI_VERSION, so
 * that programs of neighbouring versions work mixed on one set of pinned maps.
 *
 * Addresses are 128 bits, IPv4 mapped (::ffff:a.b.c.d), in network order. Ports are in network order where the name
 * ends in _be. Times are CLOCK_BOOTTIME nanoseconds.
 */
#pragma once

#include <linux/types.h>

#include "mesh_reason.h"

#ifndef MESH_LAYOUT /* tools/build --next-layout makes a binary with higher numbers, for tests */
#define MESH_ABI_VERSION 4
#define MESH_LAYOUT 1 /* of the pinned maps; in the pin path */
#endif

#define MESH_ABI_EGRESS_NAME 4 /* the first version whose sockets have egress_name */

#define MESH_COMMAND_MAX 16 /* TASK_COMM_LEN */
#define MESH_ANCESTORS_MAX 16 /* cgroup levels that a lookup walks */
#define MESH_PATTERNS_MAX 256 /* selector patterns that classify_cgroup knows */
#define MESH_PATTERN_SIZE 192 /* bytes of a cgroup path pattern, with its NUL */
#define MESH_LISTENERS_MAX 16 /* redirect targets of one family in a network namespace */
#define MESH_NAMES_PORT 53 /* whom a workload asks at this port is a resolver */
#define MESH_RESOLVERS_MAX 4 /* resolvers that one socket may have asked and wait for; libc keeps 3 */

#define MESH_VERDICT_TARGETS_MAX 8 /* endpoints of a service among which a verdict chooses; a power of two */

#define MESH_SERVICE_PORTS_MAX 4 /* metrics and readiness use two */

struct mesh_address {
	__be32 word[4];
};

struct mesh_endpoint {
	struct mesh_address address;
	__be16 port_be;
	__u16 reserved;
};

/* --- maps that meshd writes ------------------------------------------------------------------------------------- */

/* mesh_settings: ARRAY, 1 entry */
struct mesh_settings {
	__u8 version; /* MESH_ABI_VERSION of the writer */
	__u8 enabled; /* 0: every program passes */
	__u16 handover_per_workload_max;
	__u32 policy_generation; /* of the snapshot in force: verdicts of another one are void; 0: all are */
	__u64 sockets_cgroup_id; /* the socket maker's cgroup */
	__u64 beat_stale_ns; /* a beat older than this (restart grace included) is no listener */
	__u64 node_netns_cookie;
	__be16 outbound_port_be; /* 15001 */
	__be16 inbound_port_be; /* 15006 */
	__be16 tunnel_port_be; /* 15008 */
	__be16 dns_port_be; /* 15053, and for IPv6 those up to 15056 (MESH_RESOLVERS_MAX); 0: names are left alone */
	__u32 root_level; /* depth of the node's cgroup root; workloads lie below */
	__be16 service_port_be[MESH_SERVICE_PORTS_MAX]; /* meshd's own, in the node's network namespace; 0: none */
	__u32 reserved1;
	__u64 reserved[7];
};

/* mesh_cgroups: HASH, cgroup id (__u64) -> struct mesh_cgroup */
enum __attribute__((enum_extensibility(closed))) mesh_cgroup_state {
	MESH_CGROUP_OUTSIDE = 0, /* judged by meshd: not a workload (stops the walk to the ancestors) */
	MESH_CGROUP_NOT_READY = 1, /* matches a pattern, meshd has not made it ready yet */
	MESH_CGROUP_READY = 2,
};

struct mesh_cgroup {
	__u32 workload; /* 0 while not known */
	__u8 state; /* enum mesh_cgroup_state */
	__u8 pad[3];
};

/* What becomes of plain text that comes to a workload from outside the mesh */
enum __attribute__((enum_extensibility(closed))) mesh_inbound_mode {
	MESH_INBOUND_STRICT = 0, /* refused at once */
	MESH_INBOUND_PERMISSIVE = 1, /* handed to the proxy, which judges it as unauthenticated */
};

/* mesh_workloads: HASH, workload id (__u32) -> struct mesh_workload. Local workloads only */
struct mesh_workload {
	__u32 network; /* scope of its addresses */
	__u32 principal;
	struct mesh_address address4; /* its own IPv4 address, mapped, or zero */
	struct mesh_address address6;
	__u8 failure_open;
	__u8 pad[3];
	__u32 handovers; /* captured connections on their way to the proxy; written by the programs */
	__u8 inbound_mode; /* enum mesh_inbound_mode, for ports without an entry in mesh_in_ports */
	__u8 has_own_netns; /* 1: alone in its network namespace, whose loopback is its own business */
	__u8 egress_mode; /* enum mesh_egress_mode */
	__u8 fence; /* MESH_FENCE_* */
	__u8 reserved_bytes[4];
	__u64 netns_cookie; /* of the network namespace that it lives in; 0: not known */
	__u64 reserved[2];
};

/* What a workload may reach outside the mesh */
enum __attribute__((enum_extensibility(closed))) mesh_egress_mode {
	MESH_EGRESS_ALLOW = 0, /* everything, seen as passthrough flows */
	MESH_EGRESS_DENY = 1,
	MESH_EGRESS_LISTED = 2, /* what mesh_egress has an entry for */
};

#define MESH_FENCE_STRICT 0x01 /* what it sends without a verdict is dropped, and it makes no raw socket */
#define MESH_FENCE_RAW_ALLOWED 0x02 /* raw sockets, and protocols that no hook judges, are its own business */

/*
 * mesh_egress: LPM_TRIE, struct mesh_egress_key -> struct mesh_egress. Looked up with the port first, then with port_be 0
 * (any port): either will do, so a longer prefix never takes away what a shorter one gives.
 */
struct mesh_egress_key {
	__u32 prefix_length; /* bits of what follows: MESH_EGRESS_FIXED_BITS and those of the address, IPv4 mapped */
	__u32 workload;
	__be16 port_be;
	__u16 version; /* 4 or 6: the prefix ::/0 holds no IPv4 address */
	struct mesh_address address;
};

#define MESH_EGRESS_FIXED_BITS 64

enum __attribute__((enum_extensibility(closed))) mesh_egress_origin {
	MESH_EGRESS_DECLARED = 1, /* a policy's CIDR */
	MESH_EGRESS_RESOLVED = 2, /* of a policy's name, as answered to the workload */
};

struct mesh_egress {
	__u8 origin; /* enum mesh_egress_origin */
	__u8 pad[3];
	__u32 name; /* of a resolved one: which of the policy's names it stands for (a hash), so that it goes with it */
	__u64 expires_ns; /* 0: never; later it counts for nothing */
};

/* mesh_in_ports: HASH -> __u32 enum mesh_inbound_mode, for ports whose mode is another than their workload's */
struct mesh_inbound_port {
	__u32 workload;
	__be16 port_be;
	__u16 pad;
};

/*
 * mesh_exempt: LPM_TRIE -> __u32 enum mesh_source_verdict, sources whose plain text to this port passes whatever the mode:
 * declared probes. mesh_dgram_in: the same for every datagram that a workload did not ask for. Looked up with the port, then
 * with port_be 0 (ports that no policy names). No entry: refused, as strict. Policies judged each as nobody
 */
#define MESH_SOURCE_FIXED_BITS 64 /* of the prefix: what comes before the address */

struct mesh_source_key {
	__u32 prefix_length; /* MESH_SOURCE_FIXED_BITS and the bits of the address */
	__u32 workload;
	__be16 port_be;
	__u16 version; /* 4 or 6: the prefix ::/0 holds no IPv4 address */
	struct mesh_address address;
};

enum __attribute__((enum_extensibility(closed))) mesh_source_verdict {
	MESH_SOURCE_PASSES = 1,
	MESH_SOURCE_STRICT = 2, /* the port takes no plain text */
	MESH_SOURCE_DENIED = 3, /* by an authorization policy */
};

/* mesh_inbound: SOCKHASH of the proxy's inbound listeners, one of each family; mesh_beats tells of their life */
struct mesh_inbound_key {
	__u64 netns_cookie;
	__u32 family;
	__u32 pad;
};

/* mesh_dests: HASH. Looked up with the port first, then with port_be 0 (the address alone) */
#define MESH_DIAL_SCOPE 0x80000000u /* | netns, as network: where dial sockets made for that namespace may go */

struct mesh_destination_key {
	__u32 network;
	__be16 port_be; /* 0: any port of the address */
	__u16 pad;
	struct mesh_address address;
};

enum __attribute__((enum_extensibility(closed))) mesh_destination_kind {
	MESH_DESTINATION_WORKLOAD = 1,
	MESH_DESTINATION_SERVICE = 2,
	MESH_DESTINATION_SERVICE_ADDRESS = 3, /* any other port of a virtual address: refused, no_service_port */
};

struct mesh_destination {
	__u32 id; /* workload or service */
	__u8 kind; /* enum mesh_destination_kind */
	__u8 local; /* 1: a workload of this node listens there (a dial socket may connect to it) */
	__u16 refuse_errno; /* not 0: refuse with this errno and ... */
	__u16 refuse_reason; /* ... this enum mesh_reason */
	__u8 datagrams; /* 1: a workload that takes plain text, so that datagrams may go to it */
	__u8 pad;
	__u32 netns; /* meshd's number of the network namespace that a local workload lives in */
	__u64 reserved[2];
};

/* mesh_listeners: HASH of redirect targets that meshd has made. The hook still checks that the socket is there */
struct mesh_listeners_key {
	__u64 netns_cookie;
	__u32 family; /* AF_INET, or AF_INET6 for sockets that are V6ONLY */
	__u32 pad;
};

struct mesh_listeners {
	__u32 count;
	__u32 pad;
	struct mesh_endpoint target[MESH_LISTENERS_MAX];
};

/*
 * mesh_verdicts: HASH, struct mesh_verdict_key -> struct mesh_verdict: what a workload may reach on this node without the
 * proxy. Written by meshd alone, which has judged each target and seen that the way to it leads there. No entry: by the proxy
 */
struct mesh_verdict_key {
	__u64 netns_cookie; /* the caller's: where addresses lead depends on it */
	struct mesh_address address; /* as dialled */
	__u32 workload; /* who dials */
	__u32 policy_generation;
	__be16 port_be;
	__u16 pad[3];
};

struct mesh_verdict_target {
	struct mesh_endpoint endpoint;
	__u32 workload; /* who must be listening */
};

struct mesh_verdict {
	__u32 count;
	__u32 pad;
	struct mesh_verdict_target target[MESH_VERDICT_TARGETS_MAX]; /* each as likely as the other */
};

/* mesh_nodes: HASH, struct mesh_address -> __u32 node. Where dial sockets made for tunnels may go */

/* mesh_patterns: ARRAY, MESH_PATTERNS_MAX entries of struct mesh_pattern; '*' matches within one path component */
struct mesh_pattern {
	__u16 length; /* 0: unused */
	__u8 pad[6];
	char text[MESH_PATTERN_SIZE]; /* absolute cgroup path from the hierarchy's root */
};

/* --- maps that the programs write ------------------------------------------------------------------------------- */

/* mesh_counters: PERCPU_ARRAY, MESH_REASON_MAX entries of __u64, by enum mesh_reason */

/* mesh_owners: HASH, who listens where; written by own_listeners */
struct mesh_owner_key {
	__u64 netns_cookie;
	struct mesh_address address; /* zero: any */
	__be16 port_be;
	__u16 protocol; /* IPPROTO_UDP; 0: TCP */
	__u16 pad[2];
};

struct mesh_owner {
	__u32 workload;
	__u32 listeners;
	__u64 cgroup_id;
};

#define MESH_WORKLOAD_PENDING                                                                                          \
	0xffffffffu /* who listens in a cgroup that is marked: mesh_cgroups says when it is known */

/* mesh_beats: HASH, cookie of a network namespace (__u64) -> the last beat of a mesh listener there */
struct mesh_netns_beat {
	__u64 beat_ns;
	__u32 state; /* enum mesh_listener_state */
	__u32 pad;
};

/*
 * mesh_vouches: HASH, {destination network namespace, four-tuple} -> struct mesh_vouch: this node itself opened that
 * connection. Written when the source port is known and no SYN sent; deleted on accept and on close. Never LRU
 */
enum __attribute__((enum_extensibility(closed))) mesh_vouch_kind {
	MESH_VOUCH_DIAL = 1, /* the mesh's own dial socket, on a Permit */
	MESH_VOUCH_OWN = 2, /* a workload's connect to its own address or to loopback */
	MESH_VOUCH_DIRECT = 3, /* let through by a verdict */
	MESH_VOUCH_PROBE = 4, /* meshd's question whether the way leads here: noted and refused */
};

struct mesh_vouch {
	__u32 workload; /* who must be listening */
	__u32 source_workload;
	__u32 principal; /* of the source, where it is direct */
	__u32 policy_generation;
	__u64 cookie; /* of the connecting socket */
	__u8 kind; /* enum mesh_vouch_kind */
	__u8 has_arrived; /* a probe: at a listener of the workload's */
	__u8 pad[6];
	__u64 reserved;
};

/* mesh_handover: HASH, never LRU: entries are deleted on hand-over and on close */
struct mesh_tuple {
	__u64 netns_cookie;
	struct mesh_address local; /* as the connecting socket sees itself */
	struct mesh_address remote;
	__be16 local_port_be;
	__be16 remote_port_be;
	__u32 pad;
};

enum __attribute__((enum_extensibility(closed))) mesh_socket_role {
	MESH_ROLE_NONE = 0,
	MESH_ROLE_CAPTURED = 1, /* a workload's socket that the mesh carries */
	MESH_ROLE_PASSTHROUGH = 2, /* a workload's socket to a destination outside the mesh */
	MESH_ROLE_SERVED = 3, /* an application's accepted socket whose peer is the mesh */
	MESH_ROLE_REFUSED = 4, /* a connect() that the hook refused; only in events */
	MESH_ROLE_DIAL = 5, /* the mesh's own dial socket */
	MESH_ROLE_ACCEPTED = 6, /* the mesh's own accepted socket */
	MESH_ROLE_DIRECT = 7, /* either end of a same-node connection without the proxy */
	MESH_ROLE_INBOUND_PLAIN =
		8, /* an accepted socket whose peer is outside the mesh: the proxy's or an application's */
	MESH_ROLE_DATAGRAM = 9, /* a workload's UDP socket and one peer */
	MESH_ROLE_PREEXISTING = 10, /* connected in plain text before its workload was meshed */
	MESH_ROLE_OWN = 11, /* a workload's socket to itself, or what it accepted from itself: judged, but no flow */
};

/*
 * mesh_sockets: SK_STORAGE. What the kernel side knows of a socket, its flow included; the value of the hand-over is
 * the same structure. mesh_live iterates over it.
 */
struct mesh_socket {
	__u8 version;
	__u8 role; /* enum mesh_socket_role */
	__u8 flags; /* MESH_SOCKET_* */
	__u8 pad0;
	__u32 workload; /* whose socket: the client's workload, or the application's */
	__u32 peer_principal; /* snapshot's number of the authenticated peer, or 0 */
	__u32 pid; /* thread group */
	__u64 cgroup_id;
	__u64 netns_cookie;
	__u64 cookie; /* of this socket; in a hand-over, of the socket that handed over */
	__u64 peer_cookie; /* of the mesh's socket at the other end of the loopback leg, or 0 */
	__u64 opened_ns;
	struct mesh_endpoint source; /* captured: the caller's own address. served: the presented client */
	struct mesh_endpoint destination; /* the original destination, or the address that was accepted on */
	__u32 uid;
	__u32 policy_generation;
	char command[MESH_COMMAND_MAX];
	__u64 peer_netns_cookie; /* direct, the side that connected: where the other one is */
	__u32 peer_workload; /* direct: the other side's */
	__u32 egress_name; /* passthrough: the name of a policy that let it out, as in mesh_egress; 0: none did */
};

#define MESH_SOCKET_COUNTED 0x01 /* counts in its workload's handovers */
#define MESH_SOCKET_OPENED 0x02 /* an open event was sent */
#define MESH_SOCKET_REPORTED 0x04 /* the fence has sent an event of it */
#define MESH_SOCKET_SERVES                                                                                             \
	0x08 /* direct: the side that accepted; its peer_cookie is the other's. UDP: the peer began */
#define MESH_SOCKET_MISMATCH 0x10 /* direct: accepted by another workload than the one judged, to be ended */
#define MESH_SOCKET_FAILED_OPEN 0x20 /* passthrough: to the mesh while that was away; no egress policy was asked */
#define MESH_SOCKET_DATAGRAM 0x40 /* UDP, where the role does not say so: in events of refusals */
#define MESH_SOCKET_DENIED 0x80 /* UDP, the peer began: policies deny it by now; set by meshd */

/* mesh_datagrams: HASH. Made by the programs, read and removed by meshd */
struct mesh_datagram_key {
	__u64 cookie;
	struct mesh_endpoint remote;
	__u32 pad;
};

struct mesh_datagram_flow {
	struct mesh_socket socket; /* source: this side, destination: the peer */
	__u64 last_ns;
	__u64 datagrams_sent;
	__u64 datagrams_received;
	__u64 bytes_sent; /* payload */
	__u64 bytes_received;
};

/*
 * mesh_sent: LRU_HASH, struct mesh_tuple (local is the sender, in its network namespace) -> struct mesh_sent: who sent a
 * datagram there without having been asked to, so that answers may come back
 */
struct mesh_sent {
	__u32 workload; /* 0: the mesh itself, to a resolver */
	__u32 pad;
	__u64 at_ns; /* of the last one, within a second */
};

/* mesh_events: RINGBUF */
enum __attribute__((enum_extensibility(closed))) mesh_event_kind {
	MESH_EVENT_OPEN = 1,
	MESH_EVENT_CLOSE = 2,
	MESH_EVENT_REFUSED =
		3, /* a connect or bind that a hook refused, or plain text to a workload; with its reason */
	MESH_EVENT_CGROUP_MADE = 4, /* value: cgroup id; matched a pattern */
	MESH_EVENT_CGROUP_REMOVED = 5,
	MESH_EVENT_LISTENING = 6, /* a workload listens: destination is where */
	MESH_EVENT_NEEDS_LISTENER = 7, /* a ready workload connects from a network namespace without listeners */
};

struct mesh_event {
	__u8 version;
	__u8 kind; /* enum mesh_event_kind */
	__u16 reason; /* enum mesh_reason */
	__u32 errno_value;
	__u64 at_ns;
	__u64 value;
	struct mesh_socket socket;
	__u64 bytes_sent; /* payload, by the socket's owner; SYN and FIN taken off */
	__u64 bytes_received;
	__u32 rtt_us; /* smoothed; of no meaning on a loopback leg */
	__u32 retransmits;
	__u8 approximate; /* closed by a reset: unacknowledged bytes are unknown */
	__u8 tcp_state;
	__u8 pad[6];
};

/* What the mesh_live iterator writes for each socket: the same event, kind MESH_EVENT_OPEN, counters as of now. */

/* mesh_holders: HASH, inode of a socket (__u64) -> __u32 workload that holds it. Filled by meshd for a run of mesh_older */

/* What the mesh_older iterator writes for each: role MESH_ROLE_PREEXISTING, kind MESH_EVENT_OPEN */
struct mesh_older {
	struct mesh_event event; /* reason: whether the socket is older than its workload, or from outside */
	__u32 device; /* that the socket is bound to, or 0 */
	__u32 inbound; /* 1: it came to a listener of the workload's */
};

#include "mesh_options.h"

#define MESH_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)

MESH_SIZE(struct mesh_address, 16);
MESH_SIZE(struct mesh_endpoint, 20);
MESH_SIZE(struct mesh_cgroup, 8);
MESH_SIZE(struct mesh_workload, 80);
MESH_SIZE(struct mesh_egress_key, 28);
MESH_SIZE(struct mesh_egress, 16);
MESH_SIZE(struct mesh_destination_key, 24);
MESH_SIZE(struct mesh_destination, 32);
MESH_SIZE(struct mesh_tuple, 48);
MESH_SIZE(struct mesh_socket, 136);
MESH_SIZE(struct mesh_owner_key, 32);
MESH_SIZE(struct mesh_settings, 112);
MESH_SIZE(struct mesh_source_key, 28);
MESH_SIZE(struct mesh_verdict_key, 40);
MESH_SIZE(struct mesh_verdict, 200);
MESH_SIZE(struct mesh_vouch, 40);
MESH_SIZE(struct mesh_present, 28);
MESH_SIZE(struct mesh_datagram_key, 32);
MESH_SIZE(struct mesh_datagram_flow, 176);
MESH_SIZE(struct mesh_sent, 16);
MESH_SIZE(struct mesh_question_key, 44);
MESH_SIZE(struct mesh_question, 28);
