// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * fence_egress: what a workload with strict egress sends although no hook judged it. mesh_fence runs for each packet of the
 * cgroups that meshd attaches it to, those of fenced workloads alone. A socket that was judged carries storage and passes
 * at once. Others are older than the mesh, or of a protocol without a connect(): of these a TCP connection is dropped, and
 * everything else is judged by the packet's destination. mesh_sock keeps the sockets away that no hook could judge.
 */
#include "include/datagram_flows.h"
#include "include/egress_policy.h"

#define FENCE_DROP 0
#define FENCE_PASS 1

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define IPV6_HEADER_SIZE 40
#define TCP_FLAGS_AT 13
#define TCP_RST 0x04
#define COMMON_BYTES 32 /* of struct sock_common, up to the flags behind its state */

enum protocol {
	PROTOCOL_ICMP = 1,
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
	PROTOCOL_ICMPV6 = 58,
	PROTOCOL_UDPLITE = 136,
	PROTOCOL_MPTCP = 262,
};

struct ipv4_header {
	__u8 version_and_length, service;
	__be16 length, id, fragment;
	__u8 lifetime, protocol;
	__be16 checksum;
	__be32 source, destination;
};

struct ipv6_header {
	__be32 flow;
	__be16 length;
	__u8 next_header, hops;
	struct mesh_address source, destination;
};

/* The workload that the socket was made in. The nearest entry wins, as for a task. */
static __always_inline __u32 fenced_workload(struct bpf_sock *sk)
{
	for (int level = MESH_ANCESTORS_MAX - 1; level >= 0; level--) {
		__u64 id = bpf_sk_ancestor_cgroup_id(sk, level);
		struct mesh_cgroup found = {};

		if (id && mesh_read_cgroup(id, &found))
			return found.state == MESH_CGROUP_OUTSIDE ? 0 : found.workload;
	}
	return 0;
}

/*
 * The kernel's own, as for neighbour discovery: made with the network namespace, in whatever cgroup that was. They alone do
 * not hold the namespace. The verifier lets nobody look into this kind of pointer, so its beginning is copied.
 */
static __always_inline bool is_kernels_own(struct bpf_sock *sk)
{
	__u64 beginning[COMMON_BYTES / sizeof(__u64)] = {};
	struct sock_common *common = (struct sock_common *)beginning;

	if (bpf_probe_read_kernel(beginning, sizeof(beginning), sk))
		return false;
	return !BPF_CORE_READ_BITFIELD(common, skc_net_refcnt);
}

static __always_inline bool read_destination(struct __sk_buff *skb, struct mesh_endpoint *destination)
{
	__u32 ports_at = 0;

	if (skb->protocol == bpf_htons(ETHERTYPE_IPV4)) {
		struct ipv4_header header;

		if (bpf_skb_load_bytes(skb, 0, &header, sizeof(header)))
			return false;
		destination->address = mesh_address4(header.destination);
		if (header.protocol == PROTOCOL_UDP || header.protocol == PROTOCOL_UDPLITE)
			ports_at = (header.version_and_length & 0xf) * 4;
	} else if (skb->protocol == bpf_htons(ETHERTYPE_IPV6)) {
		struct ipv6_header header;

		if (bpf_skb_load_bytes(skb, 0, &header, sizeof(header)))
			return false;
		destination->address = header.destination;
		if (header.next_header == PROTOCOL_UDP || header.next_header == PROTOCOL_UDPLITE)
			ports_at = IPV6_HEADER_SIZE;
	} else {
		return false;
	}
	return !ports_at || !bpf_skb_load_bytes(skb, ports_at + 2, &destination->port_be, sizeof(__be16));
}

/* A reset says nothing but that the connection is over: the peer may know. */
static __always_inline bool is_reset(struct __sk_buff *skb)
{
	__u32 header = IPV6_HEADER_SIZE;
	__u8 first = 0, flags = 0;

	if (skb->protocol == bpf_htons(ETHERTYPE_IPV4)) {
		if (bpf_skb_load_bytes(skb, 0, &first, sizeof(first)))
			return false;
		header = (first & 0xf) * 4;
	}
	return !bpf_skb_load_bytes(skb, header + TCP_FLAGS_AT, &flags, sizeof(flags)) && flags & TCP_RST;
}

/* Each packet counts, each socket is told of once: what goes on for hours must not fill the ring. */
static __noinline int drop(struct __sk_buff *skb, __u32 id, const struct mesh_endpoint *destination)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_REFUSED };
	struct bpf_sock *sk = skb->sk;
	struct mesh_socket *kept;

	mesh_count(MESH_REASON_EGRESS_WITHOUT_VERDICT);
	if (!sk || !destination)
		return FENCE_DROP;
	sk = bpf_sk_fullsock(sk);
	kept = sk ? bpf_sk_storage_get(&mesh_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : 0;
	if (!kept || kept->flags & MESH_SOCKET_REPORTED)
		return FENCE_DROP;
	kept->flags |= MESH_SOCKET_REPORTED;
	event.reason = MESH_REASON_EGRESS_WITHOUT_VERDICT;
	event.errno_value = EPERM;
	event.at_ns = bpf_ktime_get_boot_ns();
	event.socket.version = MESH_ABI_VERSION;
	event.socket.role = MESH_ROLE_REFUSED;
	event.socket.workload = id;
	event.socket.cookie = bpf_get_socket_cookie(skb);
	event.socket.destination = *destination;
	mesh_send_event(&event);
	return FENCE_DROP;
}

/* What the hooks of ask_names let through is let through here. */
static __always_inline bool takes_datagrams(const struct mesh_destination *found, __u32 id)
{
	return found->kind == MESH_DESTINATION_WORKLOAD && (found->datagrams || found->id == id);
}

static __always_inline int judge_packet(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct mesh_endpoint destination = {};
	struct mesh_destination *found;
	struct mesh_workload *workload;
	__u32 id;

	if (is_kernels_own(sk) || (sk->protocol == PROTOCOL_TCP && sk->state == MESH_TCP_LISTEN))
		return FENCE_PASS;
	if (read_destination(skb, &destination) && mesh_is_loopback(&destination.address))
		return FENCE_PASS;
	id = fenced_workload(sk);
	workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	if (!workload || !(workload->fence & MESH_FENCE_STRICT))
		return FENCE_PASS;
	if (sk->protocol == PROTOCOL_TCP)
		return is_reset(skb) ? FENCE_PASS : drop(skb, id, &destination);
	if (workload->fence & MESH_FENCE_RAW_ALLOWED && sk->type == SOCK_RAW)
		return FENCE_PASS;
	found = find_destination(workload->network, &destination);
	if (found ? takes_datagrams(found, id) : egress_allows(workload, id, &destination))
		return FENCE_PASS;
	if (sk->protocol == PROTOCOL_UDP && is_datagram_answer(bpf_get_socket_cookie(skb), &destination))
		return FENCE_PASS;
	return drop(skb, id, &destination);
}

SEC("cgroup_skb/egress")
int mesh_fence(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct mesh_socket *kept;

	if (!sk || !mesh_settings_now())
		return FENCE_PASS;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return FENCE_PASS;
	kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, 0);
	if (kept && kept->role != MESH_ROLE_NONE && kept->role != MESH_ROLE_PREEXISTING)
		return FENCE_PASS;
	return judge_packet(skb, sk);
}

static __noinline int refuse_socket(__u32 workload, __u32 reason, __u32 code)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_REFUSED };

	if (reason < MESH_REASON_MAX)
		mesh_count(reason);
	event.reason = reason;
	event.errno_value = code;
	event.at_ns = bpf_ktime_get_boot_ns();
	event.socket.version = MESH_ABI_VERSION;
	event.socket.role = MESH_ROLE_REFUSED;
	event.socket.workload = workload;
	event.socket.pid = bpf_get_current_pid_tgid() >> 32;
	event.socket.uid = (__u32)bpf_get_current_uid_gid();
	event.socket.cgroup_id = bpf_get_current_cgroup_id();
	bpf_get_current_comm(event.socket.command, sizeof(event.socket.command));
	mesh_send_event(&event);
	bpf_set_retval(-(int)code);
	return 0;
}

/* The kernel asks no hook when SCTP, DCCP or L2TP connect, nor when UDP-Lite does. */
static __always_inline bool has_a_hook(__u32 protocol)
{
	return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_ICMP ||
	       protocol == PROTOCOL_ICMPV6 || protocol == PROTOCOL_MPTCP;
}

/* Runs for IPv4 and IPv6 alone: of packet sockets no cgroup hook hears. */
SEC("cgroup/sock_create")
int mesh_sock(struct bpf_sock *sk)
{
	bool is_raw = sk->type == SOCK_RAW;
	struct mesh_workload *workload;
	struct mesh_cgroup caller = {};
	__u32 id;

	if ((!is_raw && has_a_hook(sk->protocol)) || !mesh_settings_now())
		return 1;
	if (!mesh_caller(&caller) || caller.state == MESH_CGROUP_OUTSIDE)
		return 1;
	id = caller.workload;
	workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	if (caller.state != MESH_CGROUP_READY || !workload)
		return refuse_socket(id, MESH_REASON_WORKLOAD_NOT_READY, EPERM);
	if (workload->fence & MESH_FENCE_RAW_ALLOWED)
		return 1;
	if (!is_raw)
		return refuse_socket(id, MESH_REASON_PROTOCOL_NOT_JUDGED, EPROTONOSUPPORT);
	if (workload->fence & MESH_FENCE_STRICT)
		return refuse_socket(id, MESH_REASON_RAW_SOCKET_DENIED, EPERM);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
