/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * egress_policy: whether a workload may send to a destination that the mesh does not know. What the mesh knows is not
 * egress and is not asked about here.
 */
#pragma once

#include "mesh_lookup.h"

static __always_inline bool egress_lists(struct mesh_egress_key *key, __be16 port_be, __u32 *name)
{
	struct mesh_egress *entry;

	key->port_be = port_be;
	entry = bpf_map_lookup_elem(&mesh_egress, key);
	if (!entry || (entry->expires_ns && bpf_ktime_get_boot_ns() >= entry->expires_ns))
		return false;
	*name = entry->name;
	return true;
}

/* `name` becomes that of the policy's name which the destination stands for, or 0: it is allowed as an address. */
static __always_inline bool egress_allows_by(const struct mesh_workload *workload, __u32 id,
					     const struct mesh_endpoint *destination, __u32 *name)
{
	struct mesh_egress_key key = { .prefix_length = 8 * (sizeof(key) - sizeof(key.prefix_length)),
				       .workload = id,
				       .version = mesh_is_mapped(&destination->address) ? 4 : 6,
				       .address = destination->address };

	if (workload->egress_mode == MESH_EGRESS_ALLOW)
		return true;
	if (workload->egress_mode != MESH_EGRESS_LISTED)
		return false;
	return egress_lists(&key, 0, name) || (destination->port_be && egress_lists(&key, destination->port_be, name));
}

static __always_inline bool egress_allows(const struct mesh_workload *workload, __u32 id,
					  const struct mesh_endpoint *destination)
{
	__u32 name = 0;

	return egress_allows_by(workload, id, destination, &name);
}
