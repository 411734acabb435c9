/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Where a captured connect() goes instead: one of the mesh's listeners in the caller's network namespace. meshd's map says
 * where they are; the socket itself must show that it is there, made by the mesh, and that somebody serves it.
 */
#pragma once

#include "mesh_lookup.h"

struct connect_attempt {
	struct mesh_endpoint destination;
	struct mesh_endpoint target; /* set when the verdict is rewrite */
	struct mesh_endpoint direct; /* an endpoint on this node that a verdict allows */
	__u64 netns_cookie;
	bool is_ipv6;
	bool wants_ipv6_target; /* V6ONLY, which bind() to an IPv6 address sets too */
};

static __always_inline void target_tuple(struct bpf_sock_tuple *tuple, const struct mesh_endpoint *target)
{
	if (mesh_is_mapped(&target->address)) {
		tuple->ipv4.saddr = target->address.word[3];
		tuple->ipv4.daddr = target->address.word[3];
		tuple->ipv4.dport = target->port_be;
		return;
	}
	__builtin_memcpy(tuple->ipv6.saddr, target->address.word, sizeof(tuple->ipv6.saddr));
	__builtin_memcpy(tuple->ipv6.daddr, target->address.word, sizeof(tuple->ipv6.daddr));
	tuple->ipv6.dport = target->port_be;
}

/* What is found at a target must be made by the mesh (only such sockets carry a beat) and alive. */
static __always_inline enum mesh_reason fault_of(const struct mesh_settings *settings, struct bpf_sock *listener)
{
	struct mesh_own *own = bpf_sk_storage_get(&mesh_own, listener, 0, 0);

	if (!own || own->kind != MESH_PURPOSE_LISTENER || !own->beat_state)
		return MESH_REASON_NO_LISTENER;
	if (bpf_ktime_get_boot_ns() - own->beat_ns > settings->beat_stale_ns)
		return MESH_REASON_PROXY_STALE;
	return own->beat_state == MESH_LISTENER_OVERLOADED ? MESH_REASON_PROXY_OVERLOADED : MESH_REASON_NONE;
}

/* The listener at the target: there, made by the mesh, and alive. */
static __always_inline enum mesh_reason listener_fault(struct bpf_sock_addr *ctx, const struct mesh_settings *settings,
						       const struct mesh_endpoint *target)
{
	struct bpf_sock_tuple tuple = {};
	enum mesh_reason fault;
	struct bpf_sock *listener;

	target_tuple(&tuple, target);
	if (mesh_is_mapped(&target->address))
		listener = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		listener = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!listener)
		return MESH_REASON_NO_LISTENER;
	fault = fault_of(settings, listener);
	bpf_sk_release(listener);
	return fault;
}

/* The same for a names listener. */
static __always_inline enum mesh_reason names_fault(struct bpf_sock_addr *ctx, const struct mesh_settings *settings,
						    const struct mesh_endpoint *target)
{
	struct bpf_sock_tuple tuple = {};
	enum mesh_reason fault;
	struct bpf_sock *listener;

	target_tuple(&tuple, target);
	if (mesh_is_mapped(&target->address))
		listener = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		listener = bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!listener)
		return MESH_REASON_NO_LISTENER;
	fault = fault_of(settings, listener);
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

/*
 * The names listener that stands for the resolver with this number among those that a socket asks: an address of its own,
 * or, as IPv6 has one loopback address, a port of its own.
 */
static __always_inline bool names_target(struct connect_attempt *attempt, const struct mesh_settings *settings,
					 __u32 number)
{
	struct mesh_listeners_key key = {
		.netns_cookie = attempt->netns_cookie,
		.family = attempt->wants_ipv6_target ? AF_INET6 : AF_INET,
	};
	struct mesh_listeners *listeners = bpf_map_lookup_elem(&mesh_listeners, &key);
	__u32 index = attempt->wants_ipv6_target ? 0 : number;

	if (!listeners || index >= listeners->count)
		return false;
	barrier_var(index);
	index &= MESH_LISTENERS_MAX - 1;
	attempt->target = listeners->target[index];
	attempt->target.port_be = settings->dns_port_be;
	if (attempt->wants_ipv6_target)
		attempt->target.port_be = bpf_htons(bpf_ntohs(settings->dns_port_be) + number);
	return true;
}

/* Link-local resolvers are left alone: their interface is not known here. */
static __always_inline bool is_to_resolver(const struct mesh_settings *settings, const struct connect_attempt *attempt)
{
	return settings->dns_port_be && attempt->destination.port_be == bpf_htons(MESH_NAMES_PORT) &&
	       bpf_ntohl(attempt->destination.address.word[0]) >> 22 != 0x3fa;
}

/* Notes whom a workload asks: dial sockets made for names in its network namespace may go there. */
static __always_inline void note_resolver(const struct connect_attempt *attempt)
{
	struct mesh_resolver_key key = { .netns_cookie = attempt->netns_cookie,
					 .address = attempt->destination.address };
	__u64 now = bpf_ktime_get_boot_ns();

	bpf_map_update_elem(&mesh_resolvers, &key, &now, BPF_ANY);
}

static __always_inline bool is_asked_resolver(const struct connect_attempt *attempt)
{
	struct mesh_resolver_key key = { .netns_cookie = attempt->netns_cookie,
					 .address = attempt->destination.address };

	return attempt->destination.port_be == bpf_htons(MESH_NAMES_PORT) && bpf_map_lookup_elem(&mesh_resolvers, &key);
}

/* The asker that the proxy named, if it lives where the socket was made for; 0: what it reaches takes it for a stranger. */
static __always_inline __u32 asker_there(const struct mesh_own *own, const struct connect_attempt *attempt)
{
	__u32 id = own->destination;
	struct mesh_workload *workload = bpf_map_lookup_elem(&mesh_workloads, &id);

	return workload && workload->netns_cookie == attempt->netns_cookie ? id : 0;
}
