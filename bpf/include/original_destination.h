/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * original_destination: hands what the connect hook kept with the client's socket to the socket that the other side
 * accepts, before accept() returns. At TCP_CONNECT the source port is known and the SYN not yet sent; at
 * PASSIVE_ESTABLISHED the entry is moved and deleted. Keyed by network namespace and whole four-tuple, because address and
 * port alone repeat. The mesh's own dial sockets hand over the client that they present in the same way.
 */
#pragma once

#include "mesh_lookup.h"

/* Single loads: fused reads of neighbouring context fields are refused by the verifier. */
#define MESH_READ(ctx, field)                                                                                          \
	({                                                                                                             \
		__u32 value_ = *(volatile __u32 *)&(ctx)->field;                                                       \
		asm volatile("" : "+r"(value_));                                                                       \
		value_;                                                                                                \
	})

static __always_inline void mesh_local_address(struct bpf_sock_ops *ctx, struct mesh_address *address)
{
	if (ctx->family == AF_INET) {
		*address = mesh_address4(MESH_READ(ctx, local_ip4));
		return;
	}
	address->word[0] = MESH_READ(ctx, local_ip6[0]);
	address->word[1] = MESH_READ(ctx, local_ip6[1]);
	address->word[2] = MESH_READ(ctx, local_ip6[2]);
	address->word[3] = MESH_READ(ctx, local_ip6[3]);
}

static __always_inline void mesh_remote_address(struct bpf_sock_ops *ctx, struct mesh_address *address)
{
	if (ctx->family == AF_INET) {
		*address = mesh_address4(MESH_READ(ctx, remote_ip4));
		return;
	}
	address->word[0] = MESH_READ(ctx, remote_ip6[0]);
	address->word[1] = MESH_READ(ctx, remote_ip6[1]);
	address->word[2] = MESH_READ(ctx, remote_ip6[2]);
	address->word[3] = MESH_READ(ctx, remote_ip6[3]);
}

/* remote_port is the 16 bits of network order in a 32-bit word, upper half on little endian. */
static __always_inline __be16 mesh_remote_port(struct bpf_sock_ops *ctx)
{
	return bpf_htons((__u16)bpf_ntohl(MESH_READ(ctx, remote_port)));
}

static __always_inline __be16 mesh_local_port(struct bpf_sock_ops *ctx)
{
	return bpf_htons((__u16)MESH_READ(ctx, local_port));
}

static __always_inline void mesh_tuple_of_connecting(struct bpf_sock_ops *ctx, struct mesh_tuple *tuple)
{
	tuple->netns_cookie = bpf_get_netns_cookie(ctx);
	mesh_local_address(ctx, &tuple->local);
	mesh_remote_address(ctx, &tuple->remote);
	tuple->local_port_be = mesh_local_port(ctx);
	tuple->remote_port_be = mesh_remote_port(ctx);
}

static __always_inline void mesh_tuple_of_accepted(struct bpf_sock_ops *ctx, struct mesh_tuple *tuple)
{
	tuple->netns_cookie = bpf_get_netns_cookie(ctx);
	mesh_remote_address(ctx, &tuple->local);
	mesh_local_address(ctx, &tuple->remote);
	tuple->local_port_be = mesh_remote_port(ctx);
	tuple->remote_port_be = mesh_local_port(ctx);
}

/* Adds to the number of connections of this workload that wait for the proxy. */
static __always_inline void mesh_handovers_add(__u32 id, __s32 change)
{
	struct mesh_workload *workload = bpf_map_lookup_elem(&mesh_workloads, &id);

	if (workload)
		__sync_fetch_and_add(&workload->handovers, change);
}

/* Both ends may remove an entry at the same moment: only who did uncounts it. */
static __always_inline void handover_drop(const struct mesh_tuple *tuple)
{
	struct mesh_socket *entry = bpf_map_lookup_elem(&mesh_handover, tuple);
	__u32 workload;
	bool counted;

	if (!entry)
		return;
	counted = entry->flags & MESH_SOCKET_COUNTED;
	workload = entry->workload;
	if (!bpf_map_delete_elem(&mesh_handover, tuple) && counted)
		mesh_handovers_add(workload, -1);
}

/* False when it could not be stored. Without the entry the other side closes what it accepts: nothing is guessed. */
static __always_inline bool handover_put(struct bpf_sock_ops *ctx, const struct mesh_socket *entry)
{
	struct mesh_tuple tuple = {};

	mesh_tuple_of_connecting(ctx, &tuple);
	if (!bpf_map_update_elem(&mesh_handover, &tuple, entry, BPF_NOEXIST))
		return true;
	handover_drop(&tuple); /* of a socket whose close nobody told us about */
	return !bpf_map_update_elem(&mesh_handover, &tuple, entry, BPF_NOEXIST);
}

static __always_inline void handover_from_captured(struct bpf_sock_ops *ctx, struct mesh_socket *kept)
{
	struct mesh_address local = {};

	mesh_local_address(ctx, &local);
	if (!mesh_is_loopback(&local))
		kept->source.address = local; /* bound before it connected: its own choice */
	kept->source.port_be = mesh_local_port(ctx);
	kept->flags |= MESH_SOCKET_COUNTED; /* the entry is, from here to its end */
	if (handover_put(ctx, kept))
		mesh_handovers_add(kept->workload, 1);
	else
		mesh_count(MESH_REASON_HANDOVER_FULL);
	kept->flags &= ~MESH_SOCKET_COUNTED;
}

static __always_inline void handover_from_dial(struct bpf_sock_ops *ctx, const struct mesh_own *own)
{
	struct mesh_socket entry = { .version = MESH_ABI_VERSION, .role = MESH_ROLE_DIAL };

	entry.source = own->present.client;
	entry.peer_principal = own->present.peer_principal;
	entry.policy_generation = own->present.policy_generation;
	entry.cookie = bpf_get_socket_cookie(ctx);
	entry.netns_cookie = bpf_get_netns_cookie(ctx);
	if (!handover_put(ctx, &entry))
		mesh_count(MESH_REASON_PRESENTATION_FAILED);
}

static __always_inline void handover_at_connect(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct mesh_socket *kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, 0);
	struct mesh_own *own;

	if (kept && kept->role == MESH_ROLE_CAPTURED) {
		handover_from_captured(ctx, kept);
		return;
	}
	own = bpf_sk_storage_get(&mesh_own, sk, 0, 0);
	if (own && own->presents)
		handover_from_dial(ctx, own);
}

/*
 * Moves the entry to the accepted socket. Returns what is kept there now, or 0 when nothing was handed over. A copy counts
 * only if we removed the entry ourselves: had the other end removed it meanwhile, its memory could be another's already.
 */
static __always_inline struct mesh_socket *handover_at_accept(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct mesh_socket *entry, *kept;
	struct mesh_tuple tuple = {};
	__u32 workload;
	bool counted;

	mesh_tuple_of_accepted(ctx, &tuple);
	entry = bpf_map_lookup_elem(&mesh_handover, &tuple);
	if (!entry)
		return 0;
	counted = entry->flags & MESH_SOCKET_COUNTED;
	workload = entry->workload;
	kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (kept) {
		__builtin_memcpy(kept, entry, sizeof(*kept));
		kept->flags = 0;
		kept->role = kept->role == MESH_ROLE_DIAL ? MESH_ROLE_SERVED : MESH_ROLE_ACCEPTED;
		kept->peer_cookie = kept->cookie;
	} else {
		mesh_count(MESH_REASON_STORAGE_FAILED);
	}
	if (bpf_map_delete_elem(&mesh_handover, &tuple)) {
		if (kept)
			kept->role = MESH_ROLE_NONE;
		return 0;
	}
	if (counted)
		mesh_handovers_add(workload, -1);
	return kept;
}

/* A connection that ended before the other side was there leaves no entry. */
static __always_inline void handover_at_close(struct bpf_sock_ops *ctx, bool handed_over)
{
	struct mesh_tuple tuple = {};

	if (!handed_over)
		return;
	mesh_tuple_of_connecting(ctx, &tuple);
	handover_drop(&tuple);
}
