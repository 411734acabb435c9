// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * The one sockops program. Its parts live in include/: original_destination, own_listeners, observe_flows, vouch,
 * accepted_plain, accepted_direct. Callback flags are ORed into those already set, as other agents may have set theirs; the return value means nothing.
 */
#include "include/accepted_direct.h"
#include "include/accepted_plain.h"
#include "include/observe_flows.h"
#include "include/original_destination.h"
#include "include/own_listeners.h"
#include "include/vouch.h"

static __always_inline void watch_state(struct bpf_sock_ops *ctx)
{
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline bool is_ours(struct mesh_socket *kept)
{
	return kept && (kept->role == MESH_ROLE_CAPTURED || kept->role == MESH_ROLE_PASSTHROUGH ||
			kept->role == MESH_ROLE_SERVED || kept->role == MESH_ROLE_INBOUND_PLAIN ||
			kept->role == MESH_ROLE_DIRECT);
}

static __always_inline void connecting(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct mesh_own *own = bpf_sk_storage_get(&mesh_own, sk, 0, 0);
	struct mesh_socket *kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, 0);
	bool is_vouched = vouch_at_connect(ctx, kept, own);

	handover_at_connect(ctx, sk);
	if (is_vouched || is_ours(kept) || (own && own->presents))
		watch_state(ctx);
}

static __always_inline void connected(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct mesh_socket *kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, 0);

	if (!is_ours(kept))
		return;
	if (kept->role == MESH_ROLE_PASSTHROUGH || kept->role == MESH_ROLE_DIRECT) {
		mesh_local_address(ctx, &kept->source.address);
		kept->source.port_be = mesh_local_port(ctx);
	}
	flow_opened(ctx, sk, kept);
}

/* The application's accepted socket: whose it is, and who listens there. */
static __always_inline void served(struct bpf_sock_ops *ctx, struct bpf_sock *sk, struct mesh_socket *kept)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	kept->workload = tcp ? mesh_socket_workload(tcp) : 0;
	kept->cookie = bpf_get_socket_cookie(ctx);
	kept->opened_ns = bpf_ktime_get_boot_ns();
	mesh_local_address(ctx, &kept->destination.address);
	kept->destination.port_be = mesh_local_port(ctx);
	if (!kept->workload) {
		kept->netns_cookie = bpf_get_netns_cookie(ctx);
		kept->workload = meant_workload(kept);
	}
	watch_state(ctx);
	flow_opened(ctx, sk, kept);
}

static __always_inline void accepted(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
				     const struct mesh_settings *settings)
{
	struct mesh_socket *kept = handover_at_accept(ctx, sk);
	struct mesh_vouch vouch = {};
	bool is_vouched = vouch_at_accept(ctx, &vouch), is_watched = false;

	if (kept && kept->role == MESH_ROLE_SERVED)
		served(ctx, sk, kept);
	else if (!kept && is_vouched && vouch.kind == MESH_VOUCH_DIRECT)
		is_watched = accepted_directly(ctx, sk, &vouch);
	else if (!kept)
		is_watched = accepted_in_the_open(ctx, sk, settings, is_vouched);
	if (is_watched)
		watch_state(ctx);
}

static __always_inline void state_changed(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct mesh_socket *kept;
	struct mesh_own *own;

	if (ctx->args[1] != MESH_TCP_CLOSE)
		return;
	if (ctx->args[0] == MESH_TCP_LISTEN) {
		forget_listener(bpf_sk_storage_get(&mesh_noted, sk, 0, 0));
		return;
	}
	own = bpf_sk_storage_get(&mesh_own, sk, 0, 0);
	kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, 0);
	vouch_at_close(ctx, kept, own);
	handover_at_close(ctx, (own && own->presents) || (kept && kept->role == MESH_ROLE_CAPTURED));
	if (kept && kept->role == MESH_ROLE_DIRECT && !(kept->flags & MESH_SOCKET_OPENED))
		direct_failed(kept);
	else if (is_ours(kept))
		flow_closed(ctx, sk, kept, ctx->args[0]);
}

SEC("sockops")
int mesh_sockops(struct bpf_sock_ops *ctx)
{
	struct mesh_settings *settings = mesh_settings_now();
	struct bpf_sock *sk = ctx->sk;

	if (!settings || !sk)
		return 1;
	switch (ctx->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		connecting(ctx, sk);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		connected(ctx, sk);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		accepted(ctx, sk, settings);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		state_changed(ctx, sk);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		listener_began(ctx, sk, settings);
		break;
	default:
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
