/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * datagram_flows: the table of who exchanges datagrams with whom. Entries are made when a socket is judged, or by the first
 * packet, and removed by meshd when they have been idle; a full table counts what it can't hold.
 */
#pragma once

#include "mesh_lookup.h"

/* flags: MESH_SOCKET_SERVES where the peer begins it. */
static __always_inline struct mesh_datagram_flow *datagram_flow(const struct mesh_datagram_key *key, __u32 workload,
								const struct mesh_endpoint *local, __u8 flags)
{
	struct mesh_datagram_flow *flow = bpf_map_lookup_elem(&mesh_datagrams, key);
	struct mesh_datagram_flow fresh = {};

	if (flow)
		return flow;
	fresh.socket.version = MESH_ABI_VERSION;
	fresh.socket.role = MESH_ROLE_DATAGRAM;
	fresh.socket.flags = flags;
	fresh.socket.workload = workload;
	fresh.socket.cookie = key->cookie;
	fresh.socket.opened_ns = bpf_ktime_get_boot_ns();
	fresh.socket.source = *local;
	fresh.socket.destination = key->remote;
	fresh.last_ns = fresh.socket.opened_ns;
	if (bpf_map_update_elem(&mesh_datagrams, key, &fresh, BPF_NOEXIST))
		mesh_count(MESH_REASON_DATAGRAM_FLOWS_FULL);
	return bpf_map_lookup_elem(&mesh_datagrams, key);
}

/* Whether the peer began it, and is let in by the policies in force: what goes there is an answer. */
static __always_inline bool is_datagram_answer(__u64 cookie, const struct mesh_endpoint *remote)
{
	struct mesh_datagram_key key = { .cookie = cookie, .remote = *remote };
	struct mesh_datagram_flow *flow = bpf_map_lookup_elem(&mesh_datagrams, &key);

	return flow && (flow->socket.flags & (MESH_SOCKET_SERVES | MESH_SOCKET_DENIED)) == MESH_SOCKET_SERVES;
}
