// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * show_resolver: the other half of ask_names. Answers that the proxy sends come, for the application, from the resolver
 * that it asked; and the proxy learns of each datagram at its names listeners who sent it and whom that socket meant.
 */
#include "include/mesh_lookup.h"

static __always_inline struct mesh_asked *asked_by(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct mesh_asked *asked;

	if (ctx->protocol != IPPROTO_UDP || !sk || !mesh_settings_now())
		return 0;
	asked = bpf_sk_storage_get(&mesh_asked, sk, 0, 0);
	return asked && asked->kind != MESH_ASKED_NOTHING ? asked : 0;
}

/* Whom the application meant by this address of the mesh; 0 where it is none that this socket was sent to. */
static __always_inline const struct mesh_endpoint *meant(const struct mesh_asked *asked,
							 const struct mesh_endpoint *target)
{
	for (int number = 0; number < MESH_RESOLVERS_MAX; number++) {
		const struct mesh_asked_resolver *slot = &asked->resolver[number];

		if (slot->used_ns && slot->target.port_be == target->port_be &&
		    mesh_is_same(&slot->target.address, &target->address))
			return &slot->resolver;
	}
	return 0;
}

static __always_inline int show4(struct bpf_sock_addr *ctx)
{
	struct mesh_asked *asked = asked_by(ctx);
	struct mesh_endpoint target = {};
	const struct mesh_endpoint *resolver;

	if (!asked)
		return 1;
	target.address = mesh_address4(ctx->user_ip4);
	target.port_be = ctx->user_port;
	resolver = meant(asked, &target);
	if (resolver && mesh_is_mapped(&resolver->address)) {
		ctx->user_ip4 = resolver->address.word[3];
		ctx->user_port = resolver->port_be;
	}
	return 1;
}

static __always_inline int show6(struct bpf_sock_addr *ctx)
{
	struct mesh_asked *asked = asked_by(ctx);
	struct mesh_endpoint target = {};
	const struct mesh_endpoint *resolver;

	if (!asked)
		return 1;
	target.address.word[0] = ctx->user_ip6[0];
	target.address.word[1] = ctx->user_ip6[1];
	target.address.word[2] = ctx->user_ip6[2];
	target.address.word[3] = ctx->user_ip6[3];
	target.port_be = ctx->user_port;
	resolver = meant(asked, &target);
	if (resolver) {
		ctx->user_ip6[0] = resolver->address.word[0];
		ctx->user_ip6[1] = resolver->address.word[1];
		ctx->user_ip6[2] = resolver->address.word[2];
		ctx->user_ip6[3] = resolver->address.word[3];
		ctx->user_port = resolver->port_be;
	}
	return 1;
}

SEC("cgroup/recvmsg4")
int mesh_udp_recv4(struct bpf_sock_addr *ctx)
{
	return show4(ctx);
}

SEC("cgroup/recvmsg6")
int mesh_udp_recv6(struct bpf_sock_addr *ctx)
{
	return show6(ctx);
}

SEC("cgroup/getpeername4")
int mesh_udp_peer4(struct bpf_sock_addr *ctx)
{
	return show4(ctx);
}

SEC("cgroup/getpeername6")
int mesh_udp_peer6(struct bpf_sock_addr *ctx)
{
	return show6(ctx);
}

/* The address that a connected socket would send from, had it not been turned to loopback; 0 where that is right. */
static __always_inline const struct mesh_address *own_address(struct bpf_sock_addr *ctx, bool is_ipv6)
{
	struct mesh_asked *asked = asked_by(ctx);
	struct mesh_workload *workload;
	const struct mesh_address *own;
	__u32 id;

	if (!asked || mesh_is_loopback(&asked->resolver[0].resolver.address))
		return 0;
	id = asked->workload;
	workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	if (!workload)
		return 0;
	own = is_ipv6 && !mesh_is_mapped(&asked->resolver[0].resolver.address) ? &workload->address6
									       : &workload->address4;
	return mesh_is_zero(own) ? 0 : own;
}

SEC("cgroup/getsockname4")
int mesh_udp_name4(struct bpf_sock_addr *ctx)
{
	const struct mesh_address *own;

	if ((ctx->user_ip4 & bpf_htonl(0xff000000)) != bpf_htonl(0x7f000000))
		return 1;
	own = own_address(ctx, false);
	if (own && mesh_is_mapped(own))
		ctx->user_ip4 = own->word[3];
	return 1;
}

SEC("cgroup/getsockname6")
int mesh_udp_name6(struct bpf_sock_addr *ctx)
{
	const struct mesh_address *own;
	struct mesh_address local = {};

	local.word[0] = ctx->user_ip6[0];
	local.word[1] = ctx->user_ip6[1];
	local.word[2] = ctx->user_ip6[2];
	local.word[3] = ctx->user_ip6[3];
	if (!mesh_is_loopback(&local))
		return 1;
	own = own_address(ctx, true);
	if (own) {
		ctx->user_ip6[0] = own->word[0];
		ctx->user_ip6[1] = own->word[1];
		ctx->user_ip6[2] = own->word[2];
		ctx->user_ip6[3] = own->word[3];
	}
	return 1;
}

struct datagram {
	struct mesh_endpoint from, to;
	struct bpf_sock_tuple sender; /* as the sender's socket is looked up */
};

static __always_inline bool read4(struct __sk_buff *skb, struct datagram *datagram)
{
	__u32 addresses[2];
	__be16 ports[2];
	__u8 first;

	if (bpf_skb_load_bytes(skb, 0, &first, 1) || bpf_skb_load_bytes(skb, 12, addresses, sizeof(addresses)) ||
	    bpf_skb_load_bytes(skb, (first & 0xf) * 4, ports, sizeof(ports)))
		return false;
	datagram->from.address = mesh_address4(addresses[0]);
	datagram->to.address = mesh_address4(addresses[1]);
	datagram->from.port_be = ports[0];
	datagram->to.port_be = ports[1];
	datagram->sender.ipv4.saddr = addresses[1];
	datagram->sender.ipv4.daddr = addresses[0];
	datagram->sender.ipv4.sport = ports[1];
	datagram->sender.ipv4.dport = ports[0];
	return true;
}

/* Without extension headers: a UDP datagram on loopback has none that were not asked for. */
static __always_inline bool read6(struct __sk_buff *skb, struct datagram *datagram)
{
	__be16 ports[2];
	__u8 next;

	if (bpf_skb_load_bytes(skb, 6, &next, 1) || next != IPPROTO_UDP ||
	    bpf_skb_load_bytes(skb, 8, &datagram->from.address, 16) ||
	    bpf_skb_load_bytes(skb, 24, &datagram->to.address, 16) || bpf_skb_load_bytes(skb, 40, ports, sizeof(ports)))
		return false;
	datagram->from.port_be = ports[0];
	datagram->to.port_be = ports[1];
	__builtin_memcpy(datagram->sender.ipv6.saddr, &datagram->to.address, 16);
	__builtin_memcpy(datagram->sender.ipv6.daddr, &datagram->from.address, 16);
	datagram->sender.ipv6.sport = ports[1];
	datagram->sender.ipv6.dport = ports[0];
	return true;
}

/* Notes who asks whom, from the sender's socket; a datagram that the hooks did not send here is dropped. */
static __always_inline bool note_question(struct __sk_buff *skb, const struct datagram *datagram, __u32 netns)
{
	struct mesh_question_key key = { .client = datagram->from, .listener = datagram->to, .netns = netns };
	struct mesh_question question = { .version = MESH_ABI_VERSION };
	const struct mesh_endpoint *resolver = 0;
	struct mesh_asked *asked;
	struct bpf_sock *sender;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		sender = bpf_sk_lookup_udp(skb, (void *)&datagram->sender, sizeof(datagram->sender.ipv4),
					   BPF_F_CURRENT_NETNS, 0);
	else
		sender = bpf_sk_lookup_udp(skb, (void *)&datagram->sender, sizeof(datagram->sender.ipv6),
					   BPF_F_CURRENT_NETNS, 0);
	if (!sender)
		return false;
	asked = bpf_sk_storage_get(&mesh_asked, sender, 0, 0);
	if (asked && asked->kind == MESH_ASKED_NAMES)
		resolver = meant(asked, &datagram->to);
	if (resolver) {
		question.workload = asked->workload;
		question.resolver = *resolver;
		bpf_map_update_elem(&mesh_questions, &key, &question, BPF_ANY);
	}
	bpf_sk_release(sender);
	return resolver;
}

SEC("cgroup_skb/ingress")
int mesh_udp_asked(struct __sk_buff *skb)
{
	struct datagram datagram = {};
	struct bpf_sock *sk = skb->sk;
	struct mesh_own *own;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != IPPROTO_UDP)
		return 1;
	own = bpf_sk_storage_get(&mesh_own, sk, 0, 0);
	if (!own || own->kind != MESH_PURPOSE_LISTENER)
		return 1;
	if (skb->protocol == bpf_htons(ETH_P_IP) ? read4(skb, &datagram) : read6(skb, &datagram))
		if (note_question(skb, &datagram, own->netns))
			return 1;
	mesh_count(MESH_REASON_NAMES_QUESTION_UNKNOWN);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
