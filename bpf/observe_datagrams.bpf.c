// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * observe_datagrams: what workloads' UDP sockets send and receive, by socket and peer. UDP keeps no counters, so these
 * programs see every packet; of one that is not of a workload's UDP socket they look at the socket's storage, and once a
 * second at the cgroup that it was made in.
 * What stays on loopback (the mesh's own legs, a workload with itself) is no flow. A datagram that may not come to its socket
 * goes no further: here each is seen that has found one, whether by lookup, by multicast or early.
 */
#include "include/datagram_arrivals.h"
#include "include/datagram_flows.h"
#include "include/own_listeners.h"

#define DATAGRAM_DROP 0
#define DATAGRAM_PASS 1

#define IPV6_EXTENSIONS_MAX 4
#define IPV6_HOP_OPTIONS 0
#define IPV6_ROUTING 43
#define IPV6_DESTINATION_OPTIONS 60

struct packet {
	struct mesh_endpoint from, to;
	__u32 payload;
};

static __always_inline bool find_udp_header(struct __sk_buff *skb, __u32 *at)
{
	__u8 next = 0, header[2];

	*at = 40;
	if (bpf_skb_load_bytes(skb, 6, &next, 1))
		return false;
	for (int extension = 0; extension < IPV6_EXTENSIONS_MAX; extension++) {
		if (next != IPV6_HOP_OPTIONS && next != IPV6_ROUTING && next != IPV6_DESTINATION_OPTIONS)
			break;
		if (bpf_skb_load_bytes(skb, *at, header, sizeof(header)))
			return false;
		next = header[0];
		*at += 8 * (header[1] + 1);
	}
	return next == IPPROTO_UDP;
}

static __always_inline bool read_packet(struct __sk_buff *skb, struct packet *packet)
{
	__be16 udp[3]; /* source, destination, length */
	__u32 addresses[2], at = 0;
	__u8 byte;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 0, &byte, 1) || bpf_skb_load_bytes(skb, 12, addresses, sizeof(addresses)))
			return false;
		at = (byte & 0xf) * 4;
		packet->from.address = mesh_address4(addresses[0]);
		packet->to.address = mesh_address4(addresses[1]);
	} else if (!find_udp_header(skb, &at) || bpf_skb_load_bytes(skb, 8, &packet->from.address, 16) ||
		   bpf_skb_load_bytes(skb, 24, &packet->to.address, 16)) {
		return false;
	}
	if (bpf_skb_load_bytes(skb, at, udp, sizeof(udp)))
		return false;
	packet->from.port_be = udp[0];
	packet->to.port_be = udp[1];
	packet->payload = bpf_ntohs(udp[2]) - 8; /* the header counts itself */
	return true;
}

static __always_inline struct bpf_sock *udp_socket(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	return sk && sk->protocol == IPPROTO_UDP ? sk : 0;
}

static __always_inline void describe_tuple(const struct packet *packet, __u64 netns_cookie, struct mesh_tuple *tuple)
{
	tuple->netns_cookie = netns_cookie;
	tuple->local = packet->from.address;
	tuple->remote = packet->to.address;
	tuple->local_port_be = packet->from.port_be;
	tuple->remote_port_be = packet->to.port_be;
}

static __always_inline __u64 netns_of(struct mesh_asked *asked, struct bpf_sock *sk)
{
	if (!asked->netns_cookie)
		asked->netns_cookie = mesh_udp_netns(sk);
	return asked->netns_cookie;
}

/* Whose the socket is, by the cgroup that it was made in: from its storage, unless that says nobody's, or one's that ended. */
static __always_inline __u32 owner_of(struct bpf_sock *sk, struct mesh_asked **asked)
{
	struct mesh_asked *kept = bpf_sk_storage_get(&mesh_asked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	__u64 now = bpf_ktime_get_boot_ns(), cgroup_id = 0;
	__u32 id = kept ? kept->workload : 0;

	*asked = kept;
	if (id && bpf_map_lookup_elem(&mesh_workloads, &id))
		return id;
	if (kept && !id && kept->looked_ns && now - kept->looked_ns < SECOND_NS)
		return 0;
	id = mesh_udp_owner(sk, &cgroup_id);
	if (!kept || id == MESH_WORKLOAD_PENDING)
		return id;
	kept->version = MESH_ABI_VERSION;
	kept->workload = id;
	kept->looked_ns = now;
	return id;
}

/* --- sending: hooks have judged it, the fence does where it must -------------------------------------------------- */

/*
 * The proxy asks a resolver. Where that is in the asker's own network namespace, the question comes from the asker as far as
 * anybody there can tell.
 */
static __always_inline void sent_by_mesh(struct __sk_buff *skb, struct bpf_sock *sk, const struct mesh_own *own)
{
	struct mesh_tuple tuple = {};
	struct packet packet = {};

	if (own->kind != MESH_PURPOSE_NAMES || skb->ifindex != LOOPBACK_IFINDEX || !read_packet(skb, &packet) ||
	    (mesh_is_loopback(&packet.to.address) && !own->destination))
		return;
	describe_tuple(&packet, mesh_udp_netns(sk), &tuple);
	note_sent(&tuple, own->destination, bpf_ktime_get_boot_ns());
}

/* Nobody asks whether what stays there may come. */
static __always_inline bool is_private(const struct mesh_settings *settings, const struct packet *packet, __u32 id)
{
	struct mesh_workload *workload;

	if (!mesh_is_loopback(&packet->to.address))
		return false;
	if (mesh_is_names_port(settings, packet->to.port_be))
		return true;
	workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	return workload && workload->has_own_netns;
}

SEC("cgroup_skb/egress")
int mesh_udp_out(struct __sk_buff *skb)
{
	struct mesh_settings *settings = mesh_settings_now();
	struct mesh_datagram_flow *flow = 0;
	struct mesh_datagram_key key = {};
	struct mesh_tuple tuple = {};
	struct packet packet = {};
	struct mesh_asked *asked = 0;
	struct mesh_own *own;
	struct bpf_sock *sk;
	__u64 now;
	__u32 id;

	sk = udp_socket(skb);
	if (!sk || !settings)
		return DATAGRAM_PASS;
	own = bpf_sk_storage_get(&mesh_own, sk, 0, 0);
	if (own) {
		sent_by_mesh(skb, sk, own);
		return DATAGRAM_PASS;
	}
	id = owner_of(sk, &asked);
	if (!id || id == MESH_WORKLOAD_PENDING || !asked)
		return DATAGRAM_PASS;
	if (!read_packet(skb, &packet) || is_private(settings, &packet, id))
		return DATAGRAM_PASS;
	now = bpf_ktime_get_boot_ns();
	if (!mesh_is_loopback(&packet.to.address)) {
		key.remote = packet.to;
		key.cookie = bpf_get_socket_cookie(skb);
		flow = datagram_flow(&key, id, &packet.from, 0);
	}
	if (flow) {
		flow->last_ns = now;
		__sync_fetch_and_add(&flow->datagrams_sent, 1);
		__sync_fetch_and_add(&flow->bytes_sent, packet.payload);
		if (flow->socket.flags & MESH_SOCKET_SERVES)
			return DATAGRAM_PASS; /* it answers, and is judged by what it answers to */
	}
	describe_tuple(&packet, netns_of(asked, sk), &tuple);
	note_sent(&tuple, id, now);
	return DATAGRAM_PASS;
}

/* --- receiving ---------------------------------------------------------------------------------------------------- */

static __always_inline int refuse_at_socket(const struct arrival *arrival, enum mesh_reason reason)
{
	count_refused_arrival(arrival, reason);
	return DATAGRAM_DROP;
}

static __always_inline void count_received(struct mesh_datagram_flow *flow, const struct packet *packet)
{
	if (!flow)
		return;
	flow->last_ns = bpf_ktime_get_boot_ns();
	__sync_fetch_and_add(&flow->datagrams_received, 1);
	__sync_fetch_and_add(&flow->bytes_received, packet->payload);
}

/*
 * Of a socket without a peer of its own; a connected one gets from its peer alone, which was judged when it connected. The
 * flow remembers by which policies its peer was let in, until they change.
 */
static __always_inline int judge_received(const struct mesh_settings *settings, struct mesh_datagram_key *key,
					  struct mesh_datagram_flow *flow, const struct packet *packet,
					  const struct arrival *arrival)
{
	__u32 id = arrival->workload, generation = settings->policy_generation;
	struct mesh_workload *workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	bool peer_began = flow && flow->socket.flags & MESH_SOCKET_SERVES;
	enum mesh_reason reason;

	if (!workload)
		return refuse_at_socket(arrival, MESH_REASON_WORKLOAD_NOT_READY);
	if (peer_began && generation && flow->socket.policy_generation == generation) {
		count_received(flow, packet);
		return DATAGRAM_PASS;
	}
	if (peer_began || datagram_coming(settings, workload, arrival) == COMES_NEW) {
		reason = datagram_fault(arrival);
		if (reason != MESH_REASON_NONE)
			return refuse_at_socket(arrival, reason);
		peer_began = peer_began || !flow;
	}
	if (!flow && !mesh_is_loopback(&packet->from.address))
		flow = datagram_flow(key, id, &packet->to, peer_began ? MESH_SOCKET_SERVES : 0);
	if (flow && peer_began) {
		flow->socket.policy_generation = generation;
		flow->socket.flags &= ~MESH_SOCKET_DENIED;
	}
	count_received(flow, packet);
	return DATAGRAM_PASS;
}

SEC("cgroup_skb/ingress")
int mesh_udp_in(struct __sk_buff *skb)
{
	struct mesh_settings *settings = mesh_settings_now();
	struct mesh_datagram_flow *flow = 0;
	struct arrival arrival = { .ifindex = skb->ifindex, .is_datagram = true };
	struct mesh_datagram_key key = {};
	struct mesh_asked *asked = 0;
	struct packet packet = {};
	struct bpf_sock *sk;

	sk = udp_socket(skb);
	if (!sk || !settings || bpf_sk_storage_get(&mesh_own, sk, 0, 0))
		return DATAGRAM_PASS;
	arrival.workload = owner_of(sk, &asked);
	if (!arrival.workload)
		return DATAGRAM_PASS;
	if (!read_packet(skb, &packet))
		return refuse_at_socket(&arrival, MESH_REASON_PLAINTEXT_REFUSED);
	arrival.tuple.netns_cookie = asked ? netns_of(asked, sk) : mesh_udp_netns(sk);
	describe_tuple(&packet, arrival.tuple.netns_cookie, &arrival.tuple);
	if (arrival.workload == MESH_WORKLOAD_PENDING) {
		arrival.workload = 0;
		return refuse_at_socket(&arrival, MESH_REASON_WORKLOAD_NOT_READY);
	}
	if (!mesh_is_loopback(&packet.from.address)) {
		key.remote = packet.from;
		key.cookie = bpf_get_socket_cookie(skb);
		flow = bpf_map_lookup_elem(&mesh_datagrams, &key);
	}
	if (sk->state == MESH_TCP_ESTABLISHED) {
		if (!flow && !mesh_is_loopback(&packet.from.address))
			flow = datagram_flow(&key, arrival.workload, &packet.to, 0);
		count_received(flow, &packet);
		return DATAGRAM_PASS;
	}
	return judge_received(settings, &key, flow, &packet, &arrival);
}

/* --- who is bound where -------------------------------------------------------------------------------------------- */

/* A server's socket sends nothing before it has received: it becomes known as it is bound. */
static __always_inline int note_bound(struct bpf_sock *sk, struct mesh_owner_key *key)
{
	struct mesh_asked *asked;
	__u64 cgroup_id = 0;
	__u32 workload;

	if (sk->type != SOCK_DGRAM || sk->protocol != IPPROTO_UDP || !mesh_settings_now())
		return 1;
	workload = mesh_udp_owner(sk, &cgroup_id);
	if (!workload)
		return 1;
	key->netns_cookie = bpf_get_netns_cookie(sk);
	key->port_be = bpf_htons((__u16)sk->src_port);
	note_bound_place(bpf_sk_storage_get(&mesh_noted, sk, 0, BPF_SK_STORAGE_GET_F_CREATE), key, workload, cgroup_id);
	if (workload == MESH_WORKLOAD_PENDING)
		return 1;
	asked = bpf_sk_storage_get(&mesh_asked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (asked && !asked->workload) {
		asked->version = MESH_ABI_VERSION;
		asked->workload = workload;
		asked->netns_cookie = key->netns_cookie;
	}
	return 1;
}

SEC("cgroup/post_bind4")
int mesh_udp_bound4(struct bpf_sock *sk)
{
	struct mesh_owner_key key = {};

	key.address = mesh_address4(sk->src_ip4);
	return note_bound(sk, &key);
}

SEC("cgroup/post_bind6")
int mesh_udp_bound6(struct bpf_sock *sk)
{
	struct mesh_owner_key key = {};

	key.address.word[0] = sk->src_ip6[0];
	key.address.word[1] = sk->src_ip6[1];
	key.address.word[2] = sk->src_ip6[2];
	key.address.word[3] = sk->src_ip6[3];
	return note_bound(sk, &key);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
