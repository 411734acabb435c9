/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Where a captured connect() goes instead: one of the mesh's listeners in the caller's network namespace. meshd's map says
 * where they are; the socket itself must show that it is there, made by the mesh, and that somebody serves it.
 */
#pragma once

#include "mesh_lookup.h"

struct connect_attempt {
	struct mesh_endpoint destination;
	struct mesh_endpoint target; /* set when the verdict is tunnel */
	__u64 netns_cookie;
	bool is_ipv6;
	bool wants_ipv6_target; /* V6ONLY, which bind() to an IPv6 address sets too */
};

/* The listener at the target: there, listening, made by the mesh (only such sockets carry a beat), and alive. */
static __always_inline enum mesh_reason listener_fault(struct bpf_sock_addr *ctx, const struct mesh_settings *settings,
						       const struct mesh_endpoint *target)
{
	struct bpf_sock_tuple tuple = {};
	enum mesh_reason fault = MESH_REASON_NO_LISTENER;
	struct bpf_sock *listener;
	struct mesh_own *own;

	if (mesh_is_mapped(&target->address)) {
		tuple.ipv4.saddr = target->address.word[3];
		tuple.ipv4.daddr = target->address.word[3];
		tuple.ipv4.dport = target->port_be;
		listener = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, target->address.word, sizeof(tuple.ipv6.saddr));
		__builtin_memcpy(tuple.ipv6.daddr, target->address.word, sizeof(tuple.ipv6.daddr));
		tuple.ipv6.dport = target->port_be;
		listener = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!listener)
		return fault;
	own = bpf_sk_storage_get(&mesh_own, listener, 0, 0);
	if (own && own->kind == MESH_PURPOSE_LISTENER && own->beat_state) {
		if (bpf_ktime_get_boot_ns() - own->beat_ns > settings->beat_stale_ns)
			fault = MESH_REASON_PROXY_STALE;
		else if (own->beat_state == MESH_LISTENER_OVERLOADED)
			fault = MESH_REASON_PROXY_OVERLOADED;
		else
			fault = MESH_REASON_NONE;
	}
	bpf_sk_release(listener);
	return fault;
}

/* Picks one of the network namespace's listeners; several, because one address offers one range of source ports. */
static __always_inline bool choose_target(struct connect_attempt *attempt, __u64 cookie)
{
	struct mesh_listeners_key key = {
		.netns_cookie = attempt->netns_cookie,
		.family = attempt->wants_ipv6_target ? AF_INET6 : AF_INET,
	};
	struct mesh_listeners *listeners = bpf_map_lookup_elem(&mesh_listeners, &key);
	__u32 index;

	if (!listeners || !listeners->count)
		return false;
	index = (__u32)cookie % listeners->count;
	barrier_var(index); /* the verifier needs the mask that clang would prove away */
	index &= MESH_LISTENERS_MAX - 1;
	attempt->target = listeners->target[index];
	return true;
}
