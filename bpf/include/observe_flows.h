/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * observe_flows: what a flow weighs, from the counters that the kernel keeps anyway; nothing runs per packet. tcp_sock
 * counts sequence numbers, so SYN and FIN are taken off: bytes_acked holds the SYN of the side that connected and a FIN
 * that was acknowledged, bytes_received a FIN that came.
 */
#pragma once

#include "mesh_lookup.h"

static __always_inline bool fin_was_sent(__u32 state)
{
	return state == MESH_TCP_FIN_WAIT1 || state == MESH_TCP_FIN_WAIT2 || state == MESH_TCP_TIME_WAIT ||
	       state == MESH_TCP_LAST_ACK || state == MESH_TCP_CLOSING;
}

static __always_inline bool side_connected(const struct mesh_socket *kept)
{
	if (kept->role == MESH_ROLE_DIRECT)
		return !(kept->flags & MESH_SOCKET_SERVES);
	return kept->role == MESH_ROLE_CAPTURED || kept->role == MESH_ROLE_PASSTHROUGH;
}

/* state: the socket's, or at close the one that it left. */
static __always_inline void measure(struct mesh_event *event, struct tcp_sock *tcp, __u32 state)
{
	struct sock *sk = &tcp->inet_conn.icsk_inet.sk;
	__u64 sent = tcp->bytes_acked, received = tcp->bytes_received;
	bool all_acked = tcp->snd_una == tcp->write_seq;

	if (side_connected(&event->socket) && sent)
		sent -= 1;
	if (fin_was_sent(state) && all_acked && sent)
		sent -= 1;
	if ((sk->__sk_common.skc_flags & (1UL << SOCK_DONE_BIT)) && received)
		received -= 1;
	event->bytes_sent = sent;
	event->bytes_received = received;
	event->rtt_us = tcp->srtt_us >> 3;
	event->retransmits = tcp->total_retrans;
	event->tcp_state = state;
}

static __always_inline void flow_opened(struct bpf_sock_ops *ctx, struct bpf_sock *sk, struct mesh_socket *kept)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_OPEN };

	if (kept->flags & MESH_SOCKET_OPENED)
		return;
	kept->flags |= MESH_SOCKET_OPENED;
	event.at_ns = bpf_ktime_get_boot_ns();
	__builtin_memcpy(&event.socket, kept, sizeof(event.socket));
	mesh_send_event(&event);
}

static __always_inline void flow_closed(struct bpf_sock_ops *ctx, struct bpf_sock *sk, struct mesh_socket *kept,
					__u32 old_state)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_CLOSE };
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (!(kept->flags & MESH_SOCKET_OPENED) || !tcp)
		return;
	event.at_ns = bpf_ktime_get_boot_ns();
	__builtin_memcpy(&event.socket, kept, sizeof(event.socket));
	measure(&event, tcp, old_state);
	event.approximate = tcp->inet_conn.icsk_inet.sk.sk_err || tcp->snd_una != tcp->write_seq ||
			    old_state == MESH_TCP_ESTABLISHED || old_state == MESH_TCP_CLOSE_WAIT;
	mesh_send_event(&event);
}
