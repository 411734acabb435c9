/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * vouch: the note that this node opened a connection itself, by which capture_inbound tells it from a stranger's. Written at
 * TCP_CONNECT, under the whole four-tuple in the destination's network namespace; deleted where it is accepted (not at the
 * client's side: the last ACK of a SYN cookie is looked up again) and where the connecting socket closes.
 */
#pragma once

#include "original_destination.h"

/* Of an outgoing socket: the vouch that it needs, or kind 0. */
static __always_inline void vouch_for(struct bpf_sock_ops *ctx, const struct mesh_socket *kept,
				      const struct mesh_own *own, struct mesh_vouch *vouch)
{
	vouch->cookie = bpf_get_socket_cookie(ctx);
	if (own && own->kind == MESH_PURPOSE_APPLICATION) {
		vouch->kind = MESH_VOUCH_DIAL;
		vouch->workload = own->destination;
	} else if (own && own->kind == MESH_PURPOSE_NAMES) {
		/* As if the asker called: its own resolver is its own business, a neighbour's is not. */
		vouch->kind = MESH_VOUCH_OWN;
		vouch->workload = own->destination;
		vouch->source_workload = own->destination;
	} else if (kept && kept->role == MESH_ROLE_OWN) {
		vouch->kind = MESH_VOUCH_OWN;
		vouch->workload = kept->workload;
		vouch->source_workload = kept->workload;
	} else if (kept && kept->role == MESH_ROLE_DIRECT && !(kept->flags & MESH_SOCKET_SERVES)) {
		vouch->kind = MESH_VOUCH_DIRECT;
		vouch->workload = kept->peer_workload;
		vouch->source_workload = kept->workload;
		vouch->policy_generation = kept->policy_generation;
	}
}

/* What is direct arrives in another network namespace, under the same addresses. */
static __always_inline void tuple_of_vouch(struct bpf_sock_ops *ctx, const struct mesh_socket *kept,
					   const struct mesh_vouch *vouch, struct mesh_tuple *tuple)
{
	mesh_tuple_of_connecting(ctx, tuple);
	if (kept && vouch->kind == MESH_VOUCH_DIRECT)
		tuple->netns_cookie = kept->peer_netns_cookie;
}

static __always_inline __u32 principal_of(__u32 id)
{
	struct mesh_workload *workload = bpf_map_lookup_elem(&mesh_workloads, &id);

	return workload ? workload->principal : 0;
}

static __always_inline bool vouch_at_connect(struct bpf_sock_ops *ctx, const struct mesh_socket *kept,
					     const struct mesh_own *own)
{
	struct mesh_vouch vouch = {};
	struct mesh_tuple tuple = {};

	vouch_for(ctx, kept, own, &vouch);
	if (!vouch.kind || !vouch.workload)
		return false;
	if (vouch.kind == MESH_VOUCH_DIRECT)
		vouch.principal = principal_of(vouch.source_workload);
	tuple_of_vouch(ctx, kept, &vouch, &tuple);
	if (bpf_map_update_elem(&mesh_vouches, &tuple, &vouch, BPF_ANY))
		mesh_count(MESH_REASON_VOUCH_FULL); /* without it the other side refuses */
	return true;
}

/* Takes the vouch of an accepted connection. False: nobody vouched for it. */
static __always_inline bool vouch_at_accept(struct bpf_sock_ops *ctx, struct mesh_vouch *copy)
{
	struct mesh_tuple tuple = {};
	struct mesh_vouch *vouch;

	mesh_tuple_of_accepted(ctx, &tuple);
	vouch = bpf_map_lookup_elem(&mesh_vouches, &tuple);
	if (!vouch)
		return false;
	__builtin_memcpy(copy, vouch, sizeof(*copy));
	return !bpf_map_delete_elem(&mesh_vouches, &tuple);
}

/* A connection that was never accepted leaves none. */
static __always_inline void vouch_at_close(struct bpf_sock_ops *ctx, const struct mesh_socket *kept,
					   const struct mesh_own *own)
{
	struct mesh_vouch vouch = {}, *present;
	struct mesh_tuple tuple = {};

	vouch_for(ctx, kept, own, &vouch);
	if (!vouch.kind)
		return;
	tuple_of_vouch(ctx, kept, &vouch, &tuple);
	present = bpf_map_lookup_elem(&mesh_vouches, &tuple);
	if (present && present->cookie == vouch.cookie)
		bpf_map_delete_elem(&mesh_vouches, &tuple);
}
