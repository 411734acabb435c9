/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Small shared steps: settings, counting, addresses, events, and which workload a task or a socket belongs to. */
#pragma once

#include "mesh_maps.h"

/* Nothing in the map fits: lookups that must succeed count and refuse; see each caller. */
static __always_inline struct mesh_settings *mesh_settings_now(void)
{
	__u32 zero = 0;
	struct mesh_settings *settings = bpf_map_lookup_elem(&mesh_settings, &zero);

	return settings && settings->enabled ? settings : 0;
}

static __always_inline void mesh_count(enum mesh_reason reason)
{
	__u32 key = reason;
	__u64 *counter = bpf_map_lookup_elem(&mesh_counters, &key);

	if (counter)
		__sync_fetch_and_add(counter, 1); /* a softirq may count on the same CPU in between */
}

static __always_inline struct mesh_address mesh_address4(__be32 address)
{
	struct mesh_address mapped = { .word = { 0, 0, bpf_htonl(0xffff), address } };

	return mapped;
}

static __always_inline bool mesh_is_mapped(const struct mesh_address *address)
{
	return !address->word[0] && !address->word[1] && address->word[2] == bpf_htonl(0xffff);
}

static __always_inline bool mesh_is_loopback(const struct mesh_address *address)
{
	if (mesh_is_mapped(address))
		return (address->word[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !address->word[0] && !address->word[1] && !address->word[2] && address->word[3] == bpf_htonl(1);
}

static __always_inline bool mesh_is_zero(const struct mesh_address *address)
{
	return !(address->word[0] | address->word[1] | address->word[2] | address->word[3]);
}

/* 0.0.0.0 or ::, which connect() takes for loopback. */
static __always_inline bool mesh_is_unspecified(const struct mesh_address *address)
{
	return mesh_is_zero(address) || (mesh_is_mapped(address) && !address->word[3]);
}

static __always_inline bool mesh_is_same(const struct mesh_address *left, const struct mesh_address *right)
{
	return left->word[0] == right->word[0] && left->word[1] == right->word[1] && left->word[2] == right->word[2] &&
	       left->word[3] == right->word[3];
}

/* An address that one host may show another: what may be presented to an application as its client. */
static __always_inline bool mesh_is_presentable(const struct mesh_address *address)
{
	__u32 first = bpf_ntohl(address->word[0]);

	if (mesh_is_unspecified(address) || mesh_is_loopback(address))
		return false;
	if (mesh_is_mapped(address)) {
		__u32 ipv4 = bpf_ntohl(address->word[3]);

		return ipv4 >> 28 != 0xe && ipv4 >> 16 != 0xa9fe && ipv4 != 0xffffffff;
	}
	return first >> 24 != 0xff && first >> 22 != 0x3fa;
}

static __always_inline bool mesh_is_names_port(const struct mesh_settings *settings, __be16 port_be)
{
	__u32 first = bpf_ntohs(settings->dns_port_be), port = bpf_ntohs(port_be);

	return first && port >= first && port < first + MESH_RESOLVERS_MAX;
}

static __always_inline bool mesh_is_mesh_port(const struct mesh_settings *settings, __be16 port_be)
{
	return port_be && (port_be == settings->outbound_port_be || port_be == settings->inbound_port_be ||
			   port_be == settings->tunnel_port_be || mesh_is_names_port(settings, port_be));
}

/*
 * What the cgroup is, if anything is known of it. The kernel may give a removed entry's memory to the next one at once, even
 * while we read, and meshd replaces entries: a copy counts only if the entry is still the same afterwards. One that never
 * holds still is not ready, so that nobody is taken for somebody else.
 */
static __always_inline bool mesh_read_cgroup(__u64 id, struct mesh_cgroup *copy)
{
	struct mesh_cgroup *found = bpf_map_lookup_elem(&mesh_cgroups, &id), *again;

	if (!found)
		return false;
	copy->workload = *(volatile __u32 *)&found->workload;
	copy->state = *(volatile __u8 *)&found->state;
	again = bpf_map_lookup_elem(&mesh_cgroups, &id);
	if (again == found)
		return true;
	if (again) { /* replaced just now, so hardly again */
		copy->workload = *(volatile __u32 *)&again->workload;
		copy->state = *(volatile __u8 *)&again->state;
	}
	if (!again || bpf_map_lookup_elem(&mesh_cgroups, &id) != again) {
		copy->workload = 0;
		copy->state = MESH_CGROUP_NOT_READY;
	}
	return true;
}

/* The workload of the calling task: from its cgroup upwards, the nearest entry wins. False where none is. */
static __always_inline bool mesh_caller(struct mesh_cgroup *caller)
{
	for (int level = MESH_ANCESTORS_MAX - 1; level >= 0; level--) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);

		if (id && mesh_read_cgroup(id, caller))
			return true;
	}
	return false;
}

/*
 * The same for the cgroup that a socket was created in; its id is set to that of the cgroup that says so. 0 where it is no
 * workload's, MESH_WORKLOAD_PENDING where meshd has not said yet whose it is.
 */
static __always_inline __u32 mesh_owner_of_cgroup(struct cgroup *group, __u64 *cgroup_id)
{
	for (int level = 0; level < MESH_ANCESTORS_MAX && group; level++) {
		__u64 id = BPF_CORE_READ(group, kn, id);
		struct mesh_cgroup found = {};

		if (mesh_read_cgroup(id, &found)) {
			*cgroup_id = id;
			if (found.state == MESH_CGROUP_OUTSIDE)
				return 0;
			return found.workload ? found.workload : MESH_WORKLOAD_PENDING;
		}
		/* self is the first member of struct cgroup, so its parent's address is the parent group's */
		group = (struct cgroup *)BPF_CORE_READ(group, self.parent);
	}
	return 0;
}

/* 0 also while it is not known. */
static __always_inline __u32 mesh_workload_of_cgroup(struct cgroup *group)
{
	__u64 cgroup_id = 0;
	__u32 workload = mesh_owner_of_cgroup(group, &cgroup_id);

	return workload == MESH_WORKLOAD_PENDING ? 0 : workload;
}

static __always_inline __u32 mesh_socket_owner(struct tcp_sock *tcp, __u64 *cgroup_id)
{
	return mesh_owner_of_cgroup(tcp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup, cgroup_id);
}

static __always_inline bool mesh_is_mptcp(struct tcp_sock *tcp)
{
	return bpf_core_field_exists(tcp->is_mptcp) && tcp->is_mptcp;
}

static __always_inline struct mesh_destination *find_destination(__u32 network, const struct mesh_endpoint *wanted)
{
	struct mesh_destination_key key = { .network = network,
					    .port_be = wanted->port_be,
					    .address = wanted->address };
	struct mesh_destination *found = bpf_map_lookup_elem(&mesh_dests, &key);

	if (found)
		return found;
	key.port_be = 0;
	return bpf_map_lookup_elem(&mesh_dests, &key);
}

static __always_inline __u32 mesh_socket_workload(struct tcp_sock *tcp)
{
	return mesh_workload_of_cgroup(tcp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup);
}

/* There is no cast to a UDP socket. A pointer that was read from where it lies is a number that CO-RE may read from. */
static __always_inline struct sock *mesh_whole_socket(struct bpf_sock *sk)
{
	struct sock *whole = 0;

	bpf_probe_read_kernel(&whole, sizeof(whole), &sk);
	return whole;
}

/* As mesh_owner_of_cgroup. */
static __always_inline __u32 mesh_udp_owner(struct bpf_sock *sk, __u64 *cgroup_id)
{
	return mesh_owner_of_cgroup(BPF_CORE_READ(mesh_whole_socket(sk), sk_cgrp_data.cgroup), cgroup_id);
}

static __always_inline __u32 mesh_udp_workload(struct bpf_sock *sk)
{
	return mesh_workload_of_cgroup(BPF_CORE_READ(mesh_whole_socket(sk), sk_cgrp_data.cgroup));
}

static __always_inline __u64 mesh_udp_netns(struct bpf_sock *sk)
{
	return BPF_CORE_READ(mesh_whole_socket(sk), __sk_common.skc_net.net, net_cookie);
}

static __always_inline void mesh_send_event(const struct mesh_event *event)
{
	if (bpf_ringbuf_output(&mesh_events, (void *)event, sizeof(*event), 0))
		mesh_count(MESH_REASON_EVENT_LOST);
}
