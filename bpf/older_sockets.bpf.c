// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * older_sockets: connections in plain text that no hook has seen: those of a workload from before it was meshed, and those
 * that were made elsewhere and that a process of it holds. An iterator over the TCP sockets of a network namespace, which
 * meshd runs, tells of them, each time anew while they are there; meshd ends those of fenced workloads. Noted with the
 * socket they are shown as flows, and count once.
 */
#include "include/find_listener.h"
#include "include/holders.h"
#include "include/observe_flows.h"

static __always_inline bool is_connection(__u8 state)
{
	return state == MESH_TCP_ESTABLISHED || state == MESH_TCP_SYN_SENT || state == MESH_TCP_FIN_WAIT1 ||
	       state == MESH_TCP_FIN_WAIT2 || state == MESH_TCP_CLOSE_WAIT || state == MESH_TCP_CLOSING ||
	       state == MESH_TCP_LAST_ACK;
}

static __always_inline void read_addresses(struct sock_common *common, struct mesh_socket *socket)
{
	socket->source.port_be = bpf_htons(common->skc_num);
	socket->destination.port_be = common->skc_dport;
	if (common->skc_family == AF_INET) {
		socket->source.address = mesh_address4(common->skc_rcv_saddr);
		socket->destination.address = mesh_address4(common->skc_daddr);
		return;
	}
	for (int word = 0; word < 4; word++) {
		socket->source.address.word[word] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[word];
		socket->destination.address.word[word] = common->skc_v6_daddr.in6_u.u6_addr32[word];
	}
}

/* It came to a listener of the workload's, so it was not the workload that connected. */
static __always_inline bool came_in(const struct mesh_socket *socket)
{
	__u32 workload = 0;

	return find_listener(socket->netns_cookie, &socket->source.address, socket->source.port_be, &workload) ==
		       LISTENER_KNOWN &&
	       workload == socket->workload;
}

SEC("iter/tcp")
int mesh_older(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct mesh_older older = {};
	struct mesh_socket *socket = &older.event.socket, *kept;
	__u32 owner, holder;
	struct tcp_sock *tcp;
	struct sock *sk;
	bool is_known;

	if (!common || !mesh_settings_now() || !is_connection(common->skc_state))
		return 0;
	tcp = bpf_skc_to_tcp_sock(common);
	if (!tcp || bpf_sk_storage_get(&mesh_own, tcp, 0, 0))
		return 0;
	kept = bpf_sk_storage_get(&mesh_sockets, tcp, 0, 0);
	is_known = kept && kept->role == MESH_ROLE_PREEXISTING;
	if (kept && kept->role != MESH_ROLE_NONE && !is_known)
		return 0;
	sk = &tcp->inet_conn.icsk_inet.sk;
	owner = mesh_socket_workload(tcp);
	holder = holder_of(sk);
	read_addresses(common, socket);
	if ((!owner && !holder) || mesh_is_loopback(&socket->destination.address))
		return 0;
	socket->version = MESH_ABI_VERSION;
	socket->role = MESH_ROLE_PREEXISTING;
	socket->flags = MESH_SOCKET_OPENED;
	socket->workload = holder ? holder : owner;
	socket->netns_cookie = common->skc_net.net->net_cookie;
	socket->cookie = bpf_get_socket_cookie(tcp);
	socket->cgroup_id = sk->sk_cgrp_data.cgroup->kn->id;
	socket->opened_ns = bpf_ktime_get_boot_ns();
	older.event.version = MESH_ABI_VERSION;
	older.event.kind = MESH_EVENT_OPEN;
	older.event.reason =
		holder && holder != owner ? MESH_REASON_SOCKET_FROM_OUTSIDE : MESH_REASON_PLAINTEXT_PREEXISTING;
	older.event.at_ns = socket->opened_ns;
	older.device = common->skc_bound_dev_if;
	older.inbound = came_in(socket);
	measure(&older.event, tcp, common->skc_state);
	older.event.approximate = 1; /* which side connected is not known, so neither whether a SYN counts */
	if (!is_known) {
		mesh_count(older.event.reason);
		kept = bpf_sk_storage_get(&mesh_sockets, tcp, socket, BPF_SK_STORAGE_GET_F_CREATE);
		if (kept)
			*kept = *socket;
	}
	bpf_seq_write(ctx->meta->seq, &older, sizeof(older));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
