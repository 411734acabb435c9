/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * own_listeners: which workload listens where, {network namespace, address or any, port} -> workload. A callback can't
 * refuse: a port that two workloads take, or one of the mesh's, is reported to meshd. A socket counts in one entry at most
 * and keeps which one, so that only what was noted is forgotten. The listener of a cgroup that is only marked yet is noted
 * as pending, with the marked cgroup's id: so it is judged from its first connection on.
 */
#pragma once

#include "original_destination.h"

#define OWN_TRIES_MAX 2

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

/* Counts a listener in the entry of its place. An entry may go while it is counted in, then a new one is made. */
static __always_inline enum mesh_reason own_place(const struct mesh_owner_key *key, const struct mesh_owner *owner)
{
	for (int attempt = 0; attempt < OWN_TRIES_MAX; attempt++) {
		struct mesh_owner *known;

		if (!bpf_map_update_elem(&mesh_owners, key, owner, BPF_NOEXIST))
			return MESH_REASON_NONE;
		known = bpf_map_lookup_elem(&mesh_owners, key);
		if (!known)
			continue;
		if (known->workload == MESH_WORKLOAD_PENDING && known->cgroup_id == owner->cgroup_id)
			known->workload = owner->workload;
		if (known->workload != owner->workload)
			return MESH_REASON_PORT_CONFLICT;
		__sync_fetch_and_add(&known->listeners, 1);
		if (bpf_map_lookup_elem(&mesh_owners, key) == known)
			return MESH_REASON_NONE;
	}
	return MESH_REASON_QUEUE_LIMIT;
}

/* Of a socket that does not listen any more, or for another workload. None, or never noted: nothing. */
static __always_inline void forget_listener(struct mesh_noted *noted)
{
	struct mesh_owner *known;
	__u32 workload;

	if (!noted || !noted->workload)
		return;
	workload = noted->workload;
	noted->workload = 0;
	known = bpf_map_lookup_elem(&mesh_owners, &noted->key);
	if (!known || (known->workload != workload && workload != MESH_WORKLOAD_PENDING))
		return;
	if (__sync_fetch_and_add(&known->listeners, -1) == 1)
		bpf_map_delete_elem(&mesh_owners, &noted->key);
}

/* The key's address 0.0.0.0 becomes ::, as both are "any". What the socket counted in before, it does no more. */
static __always_inline enum mesh_reason note_place(struct mesh_noted *noted, struct mesh_owner_key *key, __u32 workload,
						   __u64 cgroup_id)
{
	struct mesh_owner owner = { .workload = workload, .listeners = 1, .cgroup_id = cgroup_id };
	enum mesh_reason reason;

	if (mesh_is_unspecified(&key->address))
		key->address.word[2] = 0;
	forget_listener(noted);
	reason = own_place(key, &owner);
	if (reason == MESH_REASON_NONE) {
		noted->key = *key;
		noted->workload = workload;
	}
	return reason;
}

/*
 * A UDP socket with a port. Of two workloads that share a port (multicast) the first counts: each socket is judged once more
 * by itself.
 */
static __always_inline void note_bound_place(struct mesh_noted *noted, struct mesh_owner_key *key, __u32 workload,
					     __u64 cgroup_id)
{
	key->protocol = IPPROTO_UDP;
	if (noted)
		note_place(noted, key, workload, cgroup_id);
	else
		mesh_count(MESH_REASON_STORAGE_FAILED);
}

static __always_inline void note_listener(struct mesh_noted *noted, struct mesh_owner_key *key, __u32 workload,
					  __u64 cgroup_id, const struct mesh_settings *settings)
{
	enum mesh_reason reason;

	if (!noted) {
		mesh_count(MESH_REASON_STORAGE_FAILED);
		return;
	}
	reason = note_place(noted, key, workload, cgroup_id);
	if (reason == MESH_REASON_NONE && mesh_is_mesh_port(settings, key->port_be))
		reason = MESH_REASON_MESH_PORT_RESERVED;
	report_listening(key, workload, reason);
}

static __always_inline void listener_began(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
					   const struct mesh_settings *settings)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct mesh_owner_key key = {};
	__u64 cgroup_id = 0;
	__u32 workload;

	if (!tcp)
		return;
	workload = mesh_socket_owner(tcp, &cgroup_id);
	if (!workload)
		return;
	key.netns_cookie = bpf_get_netns_cookie(ctx);
	mesh_local_address(ctx, &key.address);
	key.port_be = mesh_local_port(ctx);
	note_listener(bpf_sk_storage_get(&mesh_noted, sk, 0, BPF_SK_STORAGE_GET_F_CREATE), &key, workload, cgroup_id,
		      settings);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}
