/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * own_listeners: which workload listens where, {network namespace, address or any, port} -> workload. A callback can't
 * refuse: a port that two workloads take, or one of the mesh's, is reported to meshd.
 */
#pragma once

#include "original_destination.h"

static __always_inline void report_listening(const struct mesh_owner_key *key, __u32 workload, enum mesh_reason reason)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_LISTENING };

	if (reason != MESH_REASON_NONE)
		mesh_count(reason);
	event.reason = reason;
	event.at_ns = bpf_ktime_get_boot_ns();
	event.socket.version = MESH_ABI_VERSION;
	event.socket.workload = workload;
	event.socket.netns_cookie = key->netns_cookie;
	event.socket.destination.address = key->address;
	event.socket.destination.port_be = key->port_be;
	mesh_send_event(&event);
}

static __always_inline void note_listener(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
					  const struct mesh_settings *settings)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct mesh_owner_key key = {};
	struct mesh_owner owner = {}, *known;

	if (!tcp)
		return;
	owner.workload = mesh_socket_workload(tcp);
	if (!owner.workload)
		return;
	key.netns_cookie = bpf_get_netns_cookie(ctx);
	mesh_local_address(ctx, &key.address);
	if (!key.address.word[0] && !key.address.word[1] && key.address.word[2] == bpf_htonl(0xffff) &&
	    !key.address.word[3])
		key.address.word[2] = 0; /* 0.0.0.0 and :: are both "any" */
	key.port_be = mesh_local_port(ctx);
	owner.cgroup_id = tcp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup->kn->id;
	known = bpf_map_lookup_elem(&mesh_owners, &key);
	if (known && known->workload != owner.workload && known->listeners) {
		report_listening(&key, owner.workload, MESH_REASON_PORT_CONFLICT);
		return;
	}
	owner.listeners = known ? known->listeners + 1 : 1;
	if (bpf_map_update_elem(&mesh_owners, &key, &owner, BPF_ANY))
		mesh_count(MESH_REASON_QUEUE_LIMIT);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	report_listening(&key, owner.workload,
			 mesh_is_mesh_port(settings, key.port_be) ? MESH_REASON_MESH_PORT_RESERVED : MESH_REASON_NONE);
}

static __always_inline void forget_listener(struct bpf_sock_ops *ctx)
{
	struct mesh_owner_key key = {};
	struct mesh_owner *known;

	key.netns_cookie = bpf_get_netns_cookie(ctx);
	mesh_local_address(ctx, &key.address);
	if (!key.address.word[0] && !key.address.word[1] && key.address.word[2] == bpf_htonl(0xffff) &&
	    !key.address.word[3])
		key.address.word[2] = 0;
	key.port_be = mesh_local_port(ctx);
	known = bpf_map_lookup_elem(&mesh_owners, &key);
	if (!known)
		return;
	if (known->listeners > 1)
		__sync_fetch_and_add(&known->listeners, -1);
	else
		bpf_map_delete_elem(&mesh_owners, &key);
}
