// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * The live half of observe_flows: an iterator over the sockets that carry storage writes one event each, with the counters
 * as of now. It walks the map, not the table of all TCP sockets. Where a security module refuses iterators over maps, the
 * other one does walk that table, a network namespace at a time, and finds the same.
 */
#include "include/observe_flows.h"

static __always_inline void write_flow(struct bpf_iter_meta *meta, struct mesh_socket *kept, struct tcp_sock *tcp,
				       __u32 state)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_OPEN };

	event.at_ns = bpf_ktime_get_boot_ns();
	__builtin_memcpy(&event.socket, kept, sizeof(event.socket));
	measure(&event, tcp, state);
	bpf_seq_write(meta->seq, &event, sizeof(event));
}

SEC("iter/bpf_sk_storage_map")
int mesh_live(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct mesh_socket *kept = ctx->value;
	struct sock *sk = ctx->sk;
	struct tcp_sock *tcp;

	if (!sk || !kept || !(kept->flags & MESH_SOCKET_OPENED))
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (tcp)
		write_flow(ctx->meta, kept, tcp, sk->__sk_common.skc_state);
	return 0;
}

SEC("iter/tcp")
int mesh_live_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct mesh_socket *kept;
	struct tcp_sock *tcp;

	if (!common || common->skc_state == MESH_TCP_LISTEN)
		return 0;
	tcp = bpf_skc_to_tcp_sock(common); /* none for what waits in TIME_WAIT or is a request yet */
	if (!tcp)
		return 0;
	kept = bpf_sk_storage_get(&mesh_sockets, tcp, 0, 0);
	if (kept && kept->flags & MESH_SOCKET_OPENED)
		write_flow(ctx->meta, kept, tcp, common->skc_state);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
