/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What is accepted without the mesh at its other end: plain text that capture_inbound let in. The proxy's is described for
 * it, as it must know whose listener was meant; an application's is a flow, unless it is the workload's with itself.
 */
#pragma once

#include "find_listener.h"
#include "observe_flows.h"
#include "original_destination.h"

static __always_inline void describe_plain(struct bpf_sock_ops *ctx, struct mesh_socket *plain)
{
	plain->version = MESH_ABI_VERSION;
	plain->role = MESH_ROLE_INBOUND_PLAIN;
	mesh_remote_address(ctx, &plain->source.address);
	plain->source.port_be = mesh_remote_port(ctx);
	mesh_local_address(ctx, &plain->destination.address);
	plain->destination.port_be = mesh_local_port(ctx);
	plain->netns_cookie = bpf_get_netns_cookie(ctx);
	plain->cookie = bpf_get_socket_cookie(ctx);
	plain->opened_ns = bpf_ktime_get_boot_ns();
}

/* 0: it has ended meanwhile, and the proxy closes what it accepts for nobody. */
static __always_inline __u32 meant_workload(const struct mesh_socket *plain)
{
	__u32 workload = 0;

	if (find_listener(plain->netns_cookie, &plain->destination.address, plain->destination.port_be, &workload) !=
	    LISTENER_KNOWN)
		return 0;
	return workload;
}

static __always_inline struct mesh_socket *keep_plain(struct bpf_sock *sk, struct mesh_socket *plain)
{
	struct mesh_socket *kept = bpf_sk_storage_get(&mesh_sockets, sk, plain, BPF_SK_STORAGE_GET_F_CREATE);

	if (!kept)
		mesh_count(MESH_REASON_STORAGE_FAILED);
	return kept;
}

/* Whether its end is to be watched. is_vouched: a workload called itself. */
static __always_inline bool accepted_in_the_open(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
						 const struct mesh_settings *settings, bool is_vouched)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct mesh_socket plain = {}, *kept;
	struct mesh_workload *workload;

	if (!tcp || mesh_is_mesh_port(settings, mesh_local_port(ctx)))
		return false;
	describe_plain(ctx, &plain);
	if (tcp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup->kn->id == settings->sockets_cgroup_id) {
		plain.workload = meant_workload(&plain);
		keep_plain(sk, &plain);
		return false;
	}
	plain.workload = mesh_socket_workload(tcp);
	if (!plain.workload)
		plain.workload = meant_workload(&plain); /* of a listener that was made elsewhere and given to it */
	workload = bpf_map_lookup_elem(&mesh_workloads, &plain.workload);
	if (!workload)
		return false;
	if (is_vouched || mesh_is_loopback(&plain.source.address)) {
		/* What looks at it later sees that it was judged: the fence, and who searches for older connections. */
		plain.role = MESH_ROLE_OWN;
		if (workload->fence & MESH_FENCE_STRICT || !mesh_is_loopback(&plain.source.address))
			keep_plain(sk, &plain);
		return false;
	}
	kept = keep_plain(sk, &plain);
	if (!kept)
		return false;
	flow_opened(ctx, sk, kept);
	return true;
}
