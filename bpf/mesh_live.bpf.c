// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * The live half of observe_flows: an iterator over the sockets that carry storage writes one event each, with the counters
 * as of now. It walks the map, not the table of all TCP sockets.
 */
#include "include/observe_flows.h"

SEC("iter/bpf_sk_storage_map")
int mesh_live(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_OPEN };
	struct mesh_socket *kept = ctx->value;
	struct sock *sk = ctx->sk;
	struct tcp_sock *tcp;

	if (!sk || !kept || !(kept->flags & MESH_SOCKET_OPENED))
		return 0;
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return 0;
	event.at_ns = bpf_ktime_get_boot_ns();
	__builtin_memcpy(&event.socket, kept, sizeof(event.socket));
	measure(&event, tcp, sk->__sk_common.skc_state);
	bpf_seq_write(ctx->meta->seq, &event, sizeof(event));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
