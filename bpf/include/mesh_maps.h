/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Every map, once. Weak, because each program file includes this and bpftool links them into one object. */
#pragma once

#include "mesh_kernel.h"

#define MESH_MAP SEC(".maps") __weak

#ifndef MESH_NODES_MAX /* tools/build --next-layout gives that table another shape */
#define MESH_NODES_MAX 16384
#endif

/* What the kernel side keeps on the mesh's own sockets. Never leaves the kernel. */
struct mesh_own {
	__u8 version;
	__u8 kind; /* enum mesh_purpose_kind */
	__u8 presents; /* present is set */
	__u8 beat_state; /* enum mesh_listener_state; 0: no beat yet */
	__u32 netns;
	struct mesh_present present;
	__u32 destination; /* application: the workload that the connect hook found there; names: who asks */
	__u64 beat_ns;
	__u64 reserved[2]; /* pinned with the others, so append-only like the ABI */
};

/* Kept with a listening socket: the entry of mesh_owners that it counts in, so that its end takes back what it gave. */
struct mesh_noted {
	struct mesh_owner_key key;
	__u32 workload; /* 0: it counts in none (any more) */
	__u32 held; /* 1: made elsewhere, and held by a process of the workload's when meshd looked */
	__u64 reserved[2]; /* pinned too */
};

/* Kept with a UDP socket of a workload: what was made of its destinations, so that answers come from whom it asked. */
struct mesh_asked_resolver {
	struct mesh_endpoint resolver; /* as the application wrote it */
	struct mesh_endpoint target; /* as it was rewritten */
	__u64 used_ns;
};

struct mesh_asked {
	__u8 version;
	__u8 kind; /* enum mesh_asked_kind */
	__u8 pad[2];
	__u32 workload;
	struct mesh_asked_resolver resolver[MESH_RESOLVERS_MAX];
	__u64 netns_cookie;
	__u64 looked_ns; /* no workload's: when that was found */
};

enum mesh_asked_kind {
	MESH_ASKED_NOTHING = 0,
	MESH_ASKED_NAMES = 1,
	MESH_ASKED_VIRTUAL = 2, /* connected to a virtual address, of which only TCP is carried */
};

struct mesh_resolver_key {
	__u64 netns_cookie;
	struct mesh_address address;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mesh_settings);
} mesh_settings MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct mesh_cgroup);
} mesh_cgroups MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct mesh_workload);
} mesh_workloads MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_destination_key);
	__type(value, struct mesh_destination);
} mesh_dests MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_listeners_key);
	__type(value, struct mesh_listeners);
} mesh_listeners MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_verdict_key);
	__type(value, struct mesh_verdict);
} mesh_verdicts MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MESH_NODES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_address);
	__type(value, __u32);
} mesh_nodes MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_egress_key);
	__type(value, struct mesh_egress);
} mesh_egress MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MESH_PATTERNS_MAX);
	__type(key, __u32);
	__type(value, struct mesh_pattern);
} mesh_patterns MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MESH_REASON_MAX);
	__type(key, __u32);
	__type(value, __u64);
} mesh_counters MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_owner_key);
	__type(value, struct mesh_owner);
} mesh_owners MESH_MAP;

/* Never LRU: a captured connection must not lose its destination to another one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_tuple);
	__type(value, struct mesh_socket);
} mesh_handover MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} mesh_holders MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_tuple);
	__type(value, struct mesh_vouch);
} mesh_vouches MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_inbound_port);
	__type(value, __u32);
} mesh_in_ports MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_source_key);
	__type(value, __u32);
} mesh_exempt MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_source_key);
	__type(value, __u32);
} mesh_dgram_in MESH_MAP;

/* LRU: of what is lost the answer may be refused, and is asked for again. Only this node's workloads fill it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct mesh_tuple);
	__type(value, struct mesh_sent);
} mesh_sent MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 16384);
	__type(key, struct mesh_inbound_key);
	__type(value, __u64);
} mesh_inbound MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct mesh_netns_beat);
} mesh_beats MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_socket);
} mesh_sockets MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_own);
} mesh_own MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_noted);
} mesh_noted MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_asked);
} mesh_asked MESH_MAP;

/* Grows with use, and meshd takes out what is idle. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct mesh_datagram_key);
	__type(value, struct mesh_datagram_flow);
} mesh_datagrams MESH_MAP;

/* With a names listener: the question that the proxy looked at last. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct mesh_question);
} mesh_looked_at MESH_MAP;

/* LRU: each datagram notes its question anew, and one that is lost is asked again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct mesh_question_key);
	__type(value, struct mesh_question);
} mesh_questions MESH_MAP;

/* Where dial sockets made for names may go: whom workloads of that network namespace asked. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct mesh_resolver_key);
	__type(value, __u64);
} mesh_resolvers MESH_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} mesh_events MESH_MAP;
