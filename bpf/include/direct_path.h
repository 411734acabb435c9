/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The direct path, at connect(): an endpoint of this node that meshd has a verdict for. A miss, whatever its cause, means the
 * proxy. The verdict holds for the workload's own address as source, so the socket is bound to it.
 */
#pragma once

#include "redirect_target.h"

/* struct sockaddr_in and sockaddr_in6, as bpf_bind reads them. */
struct bind_address4 {
	__u16 family;
	__be16 port_be;
	__be32 address;
	__u8 pad[8];
};

struct bind_address6 {
	__u16 family;
	__be16 port_be;
	__be32 flow;
	struct mesh_address address;
	__u32 scope;
};

static __always_inline bool choose_direct(const struct mesh_settings *settings, struct connect_attempt *attempt,
					  __u32 id, __u32 *peer)
{
	struct mesh_verdict_key key = {
		.netns_cookie = attempt->netns_cookie,
		.address = attempt->destination.address,
		.workload = id,
		.policy_generation = settings->policy_generation,
		.port_be = attempt->destination.port_be,
	};
	struct mesh_verdict *verdict;
	__u32 count, index;

	if (!key.policy_generation)
		return false;
	verdict = bpf_map_lookup_elem(&mesh_verdicts, &key);
	if (!verdict)
		return false;
	count = *(volatile __u32 *)&verdict->count;
	if (!count || count > MESH_VERDICT_TARGETS_MAX)
		return false;
	index = bpf_get_prandom_u32() % count;
	barrier_var(index);
	index &= MESH_VERDICT_TARGETS_MAX - 1;
	attempt->direct = verdict->target[index].endpoint;
	*peer = verdict->target[index].workload;
	barrier();
	/* A copy counts only if the entry is still the same afterwards, as in mesh_read_cgroup. */
	return bpf_map_lookup_elem(&mesh_verdicts, &key) == verdict;
}

static __always_inline bool bind_to(struct bpf_sock_addr *ctx, const struct connect_attempt *attempt,
				    const struct mesh_address *own)
{
	struct bind_address4 address4 = { .family = AF_INET, .address = own->word[3] };
	struct bind_address6 address6 = { .family = AF_INET6, .address = *own };

	if (attempt->is_ipv6)
		return !bpf_bind(ctx, (struct sockaddr *)&address6, sizeof(address6));
	return !bpf_bind(ctx, (struct sockaddr *)&address4, sizeof(address4));
}

/* Whether the connection comes from the workload's own address; one that is bound to another was not judged. */
static __always_inline bool speaks_as(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
				      const struct connect_attempt *attempt, const struct mesh_workload *workload)
{
	struct mesh_address bound = {}, own;

	if (mesh_is_mapped(&attempt->destination.address)) {
		own = workload->address4;
		if (sk->src_ip4)
			bound = mesh_address4(sk->src_ip4);
	} else {
		own = workload->address6;
		bound.word[0] = sk->src_ip6[0];
		bound.word[1] = sk->src_ip6[1];
		bound.word[2] = sk->src_ip6[2];
		bound.word[3] = sk->src_ip6[3];
	}
	if (mesh_is_zero(&own))
		return false;
	if (!mesh_is_zero(&bound))
		return mesh_is_same(&bound, &own);
	return !sk->src_port && bind_to(ctx, attempt, &own);
}
