/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * arrivals: what comes to a workload from outside the mesh, as the programs see it that judge it: who sent it to whom, what
 * the policies say to that source, and what becomes of a refusal.
 */
#pragma once

#include "mesh_lookup.h"

#define REFUSAL_EVENTS_PER_SECOND_MAX 256
#define SECOND_NS 1000000000ULL

struct pace {
	__u64 second;
	__u64 events;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pace);
} mesh_pace MESH_MAP;

/* Of datagrams, which cost a stranger one packet each. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pace);
} mesh_dgram_pace MESH_MAP;

struct arrival {
	struct mesh_tuple tuple; /* local is the peer, as the sending side sees itself */
	__u32 workload; /* whom it comes to */
	__u32 ifindex; /* by which device */
	bool is_datagram;
};

/* Strangers can make as many refusals as they like: all are counted, a bounded number is told. */
static __always_inline bool may_tell(bool is_datagram, __u64 now)
{
	__u32 zero = 0;
	struct pace *pace =
		is_datagram ? bpf_map_lookup_elem(&mesh_dgram_pace, &zero) : bpf_map_lookup_elem(&mesh_pace, &zero);
	__u64 second = now / SECOND_NS;

	if (!pace)
		return false;
	if (pace->second != second) {
		pace->second = second;
		pace->events = 0;
	}
	return __sync_fetch_and_add(&pace->events, 1) < REFUSAL_EVENTS_PER_SECOND_MAX;
}

static __always_inline void count_refused_arrival(const struct arrival *arrival, enum mesh_reason reason)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_REFUSED };

	mesh_count(reason);
	event.at_ns = bpf_ktime_get_boot_ns();
	if (!may_tell(arrival->is_datagram, event.at_ns))
		return;
	event.reason = reason;
	event.errno_value = ECONNREFUSED;
	event.socket.version = MESH_ABI_VERSION;
	event.socket.role = MESH_ROLE_INBOUND_PLAIN;
	event.socket.flags = arrival->is_datagram ? MESH_SOCKET_DATAGRAM : 0;
	event.socket.workload = arrival->workload;
	event.socket.netns_cookie = arrival->tuple.netns_cookie;
	event.socket.source.address = arrival->tuple.local;
	event.socket.source.port_be = arrival->tuple.local_port_be;
	event.socket.destination.address = arrival->tuple.remote;
	event.socket.destination.port_be = arrival->tuple.remote_port_be;
	mesh_send_event(&event);
}

static __always_inline struct mesh_source_key source_key(const struct arrival *arrival, __be16 port_be)
{
	struct mesh_source_key key = {
		.prefix_length = MESH_SOURCE_FIXED_BITS + 128,
		.workload = arrival->workload,
		.port_be = port_be,
		.version = mesh_is_mapped(&arrival->tuple.local) ? 4 : 6,
		.address = arrival->tuple.local,
	};

	return key;
}
