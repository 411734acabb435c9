/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The other half of own_listeners: which workload listens at an address and port of a network namespace, and what it takes
 * from outside the mesh. The kernel picks the listener with the very address before one with none, so do we.
 */
#pragma once

#include "mesh_lookup.h"

enum listener_finding {
	LISTENER_NONE, /* no workload's: not our business */
	LISTENER_KNOWN,
	LISTENER_UNCERTAIN, /* a meshed cgroup's, but whose is not known (yet): nothing may pass */
};

/* A copy counts only if the entry is still the same afterwards, as in mesh_read_cgroup. */
static __always_inline enum listener_finding read_owner(const struct mesh_owner_key *key, __u32 *workload)
{
	struct mesh_owner *found = bpf_map_lookup_elem(&mesh_owners, key);
	struct mesh_cgroup group = {};
	__u64 cgroup_id;
	__u32 id;

	if (!found)
		return LISTENER_NONE;
	id = *(volatile __u32 *)&found->workload;
	cgroup_id = *(volatile __u64 *)&found->cgroup_id;
	if (bpf_map_lookup_elem(&mesh_owners, key) != found)
		return LISTENER_UNCERTAIN;
	if (id == MESH_WORKLOAD_PENDING) {
		if (!mesh_read_cgroup(cgroup_id, &group) || group.state == MESH_CGROUP_OUTSIDE)
			return LISTENER_NONE; /* the mark was taken off: not meshed */
		id = group.workload;
	}
	*workload = id;
	return id ? LISTENER_KNOWN : LISTENER_UNCERTAIN;
}

static __always_inline enum listener_finding find_place(struct mesh_owner_key *key, __u32 *workload)
{
	enum listener_finding finding = read_owner(key, workload);

	if (finding != LISTENER_NONE)
		return finding;
	__builtin_memset(&key->address, 0, sizeof(key->address));
	return read_owner(key, workload);
}

static __always_inline enum listener_finding find_listener(__u64 netns_cookie, const struct mesh_address *address,
							   __be16 port_be, __u32 *workload)
{
	struct mesh_owner_key key = { .netns_cookie = netns_cookie, .address = *address, .port_be = port_be };

	return find_place(&key, workload);
}

/* The same for UDP sockets. */
static __always_inline enum listener_finding find_bound(__u64 netns_cookie, const struct mesh_address *address,
							__be16 port_be, __u32 *workload)
{
	struct mesh_owner_key key = {
		.netns_cookie = netns_cookie, .address = *address, .port_be = port_be, .protocol = IPPROTO_UDP
	};

	return find_place(&key, workload);
}

static __always_inline __u32 inbound_mode(const struct mesh_workload *workload, __u32 id, __be16 port_be)
{
	struct mesh_inbound_port key = { .workload = id, .port_be = port_be };
	__u32 *of_port = bpf_map_lookup_elem(&mesh_in_ports, &key);

	return of_port ? *of_port : workload->inbound_mode;
}
