// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * observe_datagrams: what workloads' UDP sockets send and receive, by socket and peer. UDP keeps no counters, so these
 * programs see every packet; of one that is not of a workload's UDP socket they look at the socket's storage and no more.
 * What stays on loopback (the mesh's own legs, a workload with itself) is no flow.
 */
#include "include/datagram_flows.h"

static __always_inline bool read_packet(struct __sk_buff *skb, struct mesh_endpoint *from, struct mesh_endpoint *to,
					__u32 *payload)
{
	__be16 udp[3]; /* source, destination, length */
	__u32 addresses[2];
	__u8 byte;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 0, &byte, 1) || bpf_skb_load_bytes(skb, 12, addresses, sizeof(addresses)) ||
		    bpf_skb_load_bytes(skb, (byte & 0xf) * 4, udp, sizeof(udp)))
			return false;
		from->address = mesh_address4(addresses[0]);
		to->address = mesh_address4(addresses[1]);
	} else {
		if (bpf_skb_load_bytes(skb, 6, &byte, 1) || byte != IPPROTO_UDP ||
		    bpf_skb_load_bytes(skb, 8, &from->address, 16) || bpf_skb_load_bytes(skb, 24, &to->address, 16) ||
		    bpf_skb_load_bytes(skb, 40, udp, sizeof(udp)))
			return false;
	}
	from->port_be = udp[0];
	to->port_be = udp[1];
	*payload = bpf_ntohs(udp[2]) - 8; /* the header counts itself */
	return true;
}

static __always_inline void count(struct __sk_buff *skb, bool is_sent)
{
	struct mesh_datagram_key key = {};
	struct mesh_endpoint local = {};
	struct mesh_datagram_flow *flow;
	struct bpf_sock *sk = skb->sk;
	struct mesh_asked *asked;
	__u32 payload = 0;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != IPPROTO_UDP)
		return;
	asked = bpf_sk_storage_get(&mesh_asked, sk, 0, 0);
	if (!asked || !mesh_settings_now())
		return;
	if (is_sent ? !read_packet(skb, &local, &key.remote, &payload)
		    : !read_packet(skb, &key.remote, &local, &payload))
		return;
	if (mesh_is_loopback(&key.remote.address))
		return;
	key.cookie = bpf_get_socket_cookie(skb);
	flow = datagram_flow(&key, asked->workload, &local);
	if (!flow)
		return;
	flow->last_ns = bpf_ktime_get_boot_ns();
	if (is_sent) {
		__sync_fetch_and_add(&flow->datagrams_sent, 1);
		__sync_fetch_and_add(&flow->bytes_sent, payload);
	} else {
		__sync_fetch_and_add(&flow->datagrams_received, 1);
		__sync_fetch_and_add(&flow->bytes_received, payload);
	}
}

SEC("cgroup_skb/egress")
int mesh_udp_out(struct __sk_buff *skb)
{
	count(skb, true);
	return 1;
}

SEC("cgroup_skb/ingress")
int mesh_udp_in(struct __sk_buff *skb)
{
	count(skb, false);
	return 1;
}

/* A server's socket sends nothing before it has received: it becomes known as it is bound. */
static __always_inline int note_bound(struct bpf_sock_addr *ctx)
{
	struct mesh_cgroup caller = {};
	struct bpf_sock *sk = ctx->sk;
	struct mesh_asked *asked;

	if (ctx->type != SOCK_DGRAM || ctx->protocol != IPPROTO_UDP || !sk || !mesh_settings_now())
		return 1;
	if (!mesh_caller(&caller) || caller.state != MESH_CGROUP_READY)
		return 1;
	asked = bpf_sk_storage_get(&mesh_asked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (asked && !asked->workload) {
		asked->version = MESH_ABI_VERSION;
		asked->workload = caller.workload;
	}
	return 1;
}

SEC("cgroup/bind4")
int mesh_udp_bind4(struct bpf_sock_addr *ctx)
{
	return note_bound(ctx);
}

SEC("cgroup/bind6")
int mesh_udp_bind6(struct bpf_sock_addr *ctx)
{
	return note_bound(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
