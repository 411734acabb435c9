// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * The parts of own_listeners outside sockops. Listeners that are older than these programs, or than their cgroup's being a
 * workload, are found by an iterator over the TCP sockets of a network namespace, which meshd runs. Nothing calls us
 * back when such a socket changes state, so its release counts too. A listener that was made elsewhere and given to the
 * workload (socket activation) is the workload's as well, once meshd has seen a process hold it.
 */
#include "include/holders.h"
#include "include/own_listeners.h"

static __always_inline void place_of(struct tcp_sock *tcp, struct mesh_owner_key *key)
{
	struct sock_common *common = &tcp->inet_conn.icsk_inet.sk.__sk_common;

	key->netns_cookie = common->skc_net.net->net_cookie;
	key->port_be = bpf_htons(common->skc_num);
	if (common->skc_family == AF_INET) {
		key->address = mesh_address4(common->skc_rcv_saddr);
		return;
	}
	for (int word = 0; word < 4; word++)
		key->address.word[word] = common->skc_v6_rcv_saddr.in6_u.u6_addr32[word];
}

/* Made in no workload's cgroup: who held it at the last look that asked, as long as that workload is there. */
static __always_inline bool is_still_held(struct mesh_noted *noted)
{
	__u32 workload = noted ? noted->workload : 0;

	return workload && noted->held && bpf_map_lookup_elem(&mesh_workloads, &workload);
}

SEC("iter/tcp")
int mesh_listening(struct bpf_iter__tcp *ctx)
{
	struct mesh_settings *settings = mesh_settings_now();
	struct sock_common *common = ctx->sk_common;
	struct mesh_owner_key key = {};
	struct mesh_noted *noted;
	struct tcp_sock *tcp;
	__u64 cgroup_id = 0;
	__u32 workload;
	bool is_held;

	if (!common || !settings)
		return 0;
	if (common->skc_state != MESH_TCP_LISTEN)
		return 1; /* listeners come first: this ends the reading, as EAGAIN */
	tcp = bpf_skc_to_tcp_sock(common);
	/* The release of an MPTCP listener is that of the socket above ours: one that we can't see end is not noted. */
	if (!tcp || mesh_is_mptcp(tcp))
		return 0;
	workload = mesh_socket_owner(tcp, &cgroup_id);
	is_held = !workload;
	if (is_held)
		workload = holder_of(&tcp->inet_conn.icsk_inet.sk);
	noted = bpf_sk_storage_get(&mesh_noted, tcp, 0, workload ? BPF_SK_STORAGE_GET_F_CREATE : 0);
	if (!workload) {
		if (!is_still_held(noted))
			forget_listener(noted);
		return 0;
	}
	if (noted && noted->workload == workload)
		return 0;
	place_of(tcp, &key);
	note_listener(noted, &key, workload, cgroup_id, settings);
	if (noted)
		noted->held = is_held;
	return 0;
}

SEC("cgroup/sock_release")
int mesh_release(struct bpf_sock *sk)
{
	forget_listener(bpf_sk_storage_get(&mesh_noted, sk, 0, 0));
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
