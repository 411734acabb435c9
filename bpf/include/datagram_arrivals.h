/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * datagram_arrivals: whether a datagram may come to a workload's socket. Answers to what it sent may, and what it sends to
 * itself; anything else is plain text from nobody, and judged by its source as meshd has written it down. Asked twice: where
 * the socket is looked up, which refuses as a closed port does, and at the socket, which nothing gets past.
 */
#pragma once

#include "arrivals.h"

#define ANSWER_WELCOME_NS (180 * SECOND_NS) /* as long as the kernel's connection tracking once kept a stream */

enum datagram_coming { COMES_NEW = 0, COMES_AS_ANSWER = 1, COMES_FROM_ITSELF = 2 };

/* A copy counts only if the entry is still the same afterwards, as in mesh_read_cgroup. */
static __always_inline bool was_sent(const struct mesh_tuple *tuple, __u64 now, __u32 *workload)
{
	struct mesh_sent *sent = bpf_map_lookup_elem(&mesh_sent, tuple);
	__u64 at_ns;

	if (!sent)
		return false;
	*workload = *(volatile __u32 *)&sent->workload;
	at_ns = *(volatile __u64 *)&sent->at_ns;
	return bpf_map_lookup_elem(&mesh_sent, tuple) == sent && now - at_ns < ANSWER_WELCOME_NS;
}

static __always_inline void note_sent(const struct mesh_tuple *tuple, __u32 workload, __u64 now)
{
	struct mesh_sent *known = bpf_map_lookup_elem(&mesh_sent, tuple),
			 fresh = { .workload = workload, .at_ns = now };

	/* Once a second is enough, and keeps what is written often out of the way of others. */
	if (!known || known->workload != workload || now - known->at_ns > SECOND_NS)
		bpf_map_update_elem(&mesh_sent, tuple, &fresh, BPF_ANY);
}

static __always_inline bool is_names_answer(const struct mesh_settings *settings, const struct arrival *arrival)
{
	return mesh_is_loopback(&arrival->tuple.local) && mesh_is_names_port(settings, arrival->tuple.local_port_be);
}

static __always_inline enum datagram_coming datagram_coming(const struct mesh_settings *settings,
							    const struct mesh_workload *workload,
							    const struct arrival *arrival)
{
	const struct mesh_tuple *tuple = &arrival->tuple;
	struct mesh_tuple answered = {
		.netns_cookie = tuple->netns_cookie,
		.local = tuple->remote,
		.remote = tuple->local,
		.local_port_be = tuple->remote_port_be,
		.remote_port_be = tuple->local_port_be,
	};
	__u64 now = bpf_ktime_get_boot_ns();
	__u32 sender = 0;

	if (is_names_answer(settings, arrival))
		return COMES_AS_ANSWER; /* no workload can have a port of the mesh */
	if (workload->has_own_netns && mesh_is_loopback(&tuple->remote) && arrival->ifindex == LOOPBACK_IFINDEX)
		return COMES_FROM_ITSELF;
	if (was_sent(&answered, now, &sender) && sender == arrival->workload)
		return COMES_AS_ANSWER;
	if (was_sent(tuple, now, &sender) && (sender == arrival->workload || workload->has_own_netns))
		return COMES_FROM_ITSELF;
	return COMES_NEW;
}

/* Of a datagram that comes new. No entry: nothing passes. */
static __always_inline enum mesh_reason datagram_fault(const struct arrival *arrival)
{
	struct mesh_source_key key = source_key(arrival, arrival->tuple.remote_port_be);
	__u32 *verdict = bpf_map_lookup_elem(&mesh_dgram_in, &key);

	if (!verdict) {
		key.port_be = 0;
		verdict = bpf_map_lookup_elem(&mesh_dgram_in, &key);
	}
	if (!verdict || *verdict == MESH_SOURCE_STRICT)
		return MESH_REASON_PLAINTEXT_REFUSED;
	return *verdict == MESH_SOURCE_PASSES ? MESH_REASON_NONE : MESH_REASON_POLICY_DENIED;
}
