/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The ends of a direct connection: what is accepted on a verdict's vouch, and what was dialled and never arrived. */
#pragma once

#include "accepted_plain.h"

/*
 * Whose socket took it is looked at once more: between the SYN, which capture_inbound judged, and now the listener may have
 * been replaced. Nothing can refuse here, so such a socket is marked, and meshd ends it.
 */
static __always_inline bool accepted_directly(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
					      const struct mesh_vouch *vouch)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct mesh_socket direct = {}, *kept;

	describe_plain(ctx, &direct);
	direct.role = MESH_ROLE_DIRECT;
	direct.flags = MESH_SOCKET_SERVES;
	direct.workload = tcp ? mesh_socket_workload(tcp) : 0;
	if (!direct.workload)
		direct.workload = meant_workload(&direct); /* of a listener that was made elsewhere and given to it */
	if (direct.workload != vouch->workload) {
		direct.flags |= MESH_SOCKET_MISMATCH;
		mesh_count(MESH_REASON_LISTENER_MISMATCH);
	}
	direct.peer_workload = vouch->source_workload;
	direct.peer_principal = vouch->principal;
	direct.peer_cookie = vouch->cookie;
	direct.policy_generation = vouch->policy_generation;
	kept = keep_plain(sk, &direct);
	if (!kept)
		return false;
	flow_opened(ctx, sk, kept);
	return true;
}

/* The side that connected closes without having been connected: meshd takes the way for closed for a while. */
static __always_inline void direct_failed(const struct mesh_socket *kept)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_REFUSED };

	mesh_count(MESH_REASON_DIRECT_FAILED);
	event.reason = MESH_REASON_DIRECT_FAILED;
	event.errno_value = ECONNREFUSED;
	event.at_ns = bpf_ktime_get_boot_ns();
	__builtin_memcpy(&event.socket, kept, sizeof(event.socket));
	mesh_send_event(&event);
}
