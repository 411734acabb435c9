// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * capture_inbound: what becomes of a connection that arrives at a workload's listener. One instance in each network namespace
 * with workloads, which knows its namespace by a constant that meshd patches in. Acts only on TCP ports in mesh_owners: where
 * no workload listens, the kernel answers as ever. What this node vouches for passes; plain text from elsewhere is refused
 * (SK_DROP: the client sees ECONNREFUSED at once) or handed to the proxy, by the mode of the workload and port.
 */
#include "include/find_listener.h"

#define REFUSAL_EVENTS_PER_SECOND_MAX 256
#define SECOND_NS 1000000000ULL
/* The placeholder of the namespace's cookie; BPFRuntime replaces it in the instructions of each instance. */
#define NETNS_COOKIE_PLACEHOLDER 0x6d657368636f6f6bULL

struct pace {
	__u64 second;
	__u64 events;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pace);
} mesh_pace MESH_MAP;

struct arrival {
	struct mesh_tuple tuple; /* local is the peer, as the connecting side sees itself */
	__u32 workload; /* who listens */
};

static __always_inline __u64 netns_cookie(void)
{
	__u64 cookie;

	asm volatile("%0 = %1 ll" : "=r"(cookie) : "i"(NETNS_COOKIE_PLACEHOLDER));
	return cookie;
}

static __always_inline void describe_arrival(const struct bpf_sk_lookup *ctx, struct arrival *arrival)
{
	arrival->tuple.netns_cookie = netns_cookie();
	arrival->tuple.local_port_be = ctx->remote_port;
	arrival->tuple.remote_port_be = bpf_htons(ctx->local_port);
	if (ctx->family == AF_INET) {
		arrival->tuple.local = mesh_address4(ctx->remote_ip4);
		arrival->tuple.remote = mesh_address4(ctx->local_ip4);
		return;
	}
	arrival->tuple.local.word[0] = ctx->remote_ip6[0];
	arrival->tuple.local.word[1] = ctx->remote_ip6[1];
	arrival->tuple.local.word[2] = ctx->remote_ip6[2];
	arrival->tuple.local.word[3] = ctx->remote_ip6[3];
	arrival->tuple.remote.word[0] = ctx->local_ip6[0];
	arrival->tuple.remote.word[1] = ctx->local_ip6[1];
	arrival->tuple.remote.word[2] = ctx->local_ip6[2];
	arrival->tuple.remote.word[3] = ctx->local_ip6[3];
}

/* Strangers can make as many refusals as they like: all are counted, a bounded number is told. */
static __always_inline bool may_tell(__u64 now)
{
	__u32 zero = 0;
	struct pace *pace = bpf_map_lookup_elem(&mesh_pace, &zero);
	__u64 second = now / SECOND_NS;

	if (!pace)
		return false;
	if (pace->second != second) {
		pace->second = second;
		pace->events = 0;
	}
	return __sync_fetch_and_add(&pace->events, 1) < REFUSAL_EVENTS_PER_SECOND_MAX;
}

static __always_inline int refuse(const struct arrival *arrival, enum mesh_reason reason)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_REFUSED };

	mesh_count(reason);
	event.at_ns = bpf_ktime_get_boot_ns();
	if (!may_tell(event.at_ns))
		return SK_DROP;
	event.reason = reason;
	event.errno_value = ECONNREFUSED;
	event.socket.version = MESH_ABI_VERSION;
	event.socket.role = MESH_ROLE_INBOUND_PLAIN;
	event.socket.workload = arrival->workload;
	event.socket.netns_cookie = arrival->tuple.netns_cookie;
	event.socket.source.address = arrival->tuple.local;
	event.socket.source.port_be = arrival->tuple.local_port_be;
	event.socket.destination.address = arrival->tuple.remote;
	event.socket.destination.port_be = arrival->tuple.remote_port_be;
	mesh_send_event(&event);
	return SK_DROP;
}

static __always_inline bool is_exempt(const struct arrival *arrival)
{
	struct mesh_exempt_key key = {
		.prefix_length = MESH_EXEMPT_FIXED_BITS + 128,
		.workload = arrival->workload,
		.port_be = arrival->tuple.remote_port_be,
		.version = mesh_is_mapped(&arrival->tuple.local) ? 4 : 6,
		.address = arrival->tuple.local,
	};

	return bpf_map_lookup_elem(&mesh_exempt, &key);
}

/* Whether somebody serves the inbound listeners of this network namespace. */
static __always_inline enum mesh_reason proxy_fault(const struct mesh_settings *settings)
{
	__u64 cookie = netns_cookie();
	struct mesh_netns_beat *beat = bpf_map_lookup_elem(&mesh_beats, &cookie);

	if (!beat || bpf_ktime_get_boot_ns() - beat->beat_ns > settings->beat_stale_ns)
		return MESH_REASON_PROXY_STALE;
	return beat->state == MESH_LISTENER_OVERLOADED ? MESH_REASON_PROXY_OVERLOADED : MESH_REASON_NONE;
}

static __always_inline int without_proxy(const struct mesh_workload *workload, const struct arrival *arrival,
					 enum mesh_reason fault)
{
	if (!workload->failure_open || fault == MESH_REASON_PROXY_OVERLOADED)
		return refuse(arrival, fault);
	mesh_count(MESH_REASON_FAIL_OPEN);
	return SK_PASS;
}

static __always_inline int hand_to_proxy(struct bpf_sk_lookup *ctx, const struct mesh_settings *settings,
					 const struct mesh_workload *workload, const struct arrival *arrival)
{
	struct mesh_inbound_key key = { .netns_cookie = netns_cookie(), .family = ctx->family };
	enum mesh_reason fault = proxy_fault(settings);
	struct bpf_sock *listener;
	long failed;

	if (fault != MESH_REASON_NONE)
		return without_proxy(workload, arrival, fault);
	listener = bpf_map_lookup_elem(&mesh_inbound, &key);
	if (!listener)
		return without_proxy(workload, arrival, MESH_REASON_NO_LISTENER);
	failed = bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	return failed ? refuse(arrival, MESH_REASON_STATE_MISSING) : SK_PASS;
}

/* Loopback is a workload's own business where nobody else shares it. */
static __always_inline bool is_own_loopback(const struct bpf_sk_lookup *ctx, const struct mesh_workload *workload,
					    const struct arrival *arrival)
{
	return workload->has_own_netns && ctx->ingress_ifindex == LOOPBACK_IFINDEX &&
	       mesh_is_loopback(&arrival->tuple.remote);
}

enum vouching { VOUCH_NONE, VOUCH_TRUE, VOUCH_FOR_ANOTHER, VOUCH_OF_PROBE };

/* A copy counts only if the entry is still the same afterwards, as in mesh_read_cgroup. */
static __always_inline enum vouching find_vouch(const struct arrival *arrival)
{
	struct mesh_vouch *vouch = bpf_map_lookup_elem(&mesh_vouches, &arrival->tuple);
	__u32 workload;
	__u8 kind;

	if (!vouch)
		return VOUCH_NONE;
	workload = *(volatile __u32 *)&vouch->workload;
	kind = *(volatile __u8 *)&vouch->kind;
	if (bpf_map_lookup_elem(&mesh_vouches, &arrival->tuple) != vouch)
		return VOUCH_NONE;
	if (kind == MESH_VOUCH_PROBE) {
		vouch->has_arrived = workload == arrival->workload;
		return VOUCH_OF_PROBE;
	}
	if (workload == arrival->workload)
		return VOUCH_TRUE;
	/* A workload that meant itself and met another is judged like any stranger. */
	return kind == MESH_VOUCH_OWN ? VOUCH_NONE : VOUCH_FOR_ANOTHER;
}

static __always_inline int judge_arrival(struct bpf_sk_lookup *ctx, const struct mesh_settings *settings,
					 const struct arrival *arrival)
{
	__u32 id = arrival->workload;
	struct mesh_workload *workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	enum vouching vouching;

	if (!workload)
		return refuse(arrival, MESH_REASON_WORKLOAD_NOT_READY);
	if (is_own_loopback(ctx, workload, arrival))
		return SK_PASS;
	vouching = find_vouch(arrival);
	if (vouching == VOUCH_TRUE)
		return SK_PASS;
	if (vouching == VOUCH_OF_PROBE) /* the answer is in the vouch: no application hears of it */
		return SK_DROP;
	if (vouching == VOUCH_FOR_ANOTHER)
		return refuse(arrival, MESH_REASON_LISTENER_MISMATCH);
	if (is_exempt(arrival)) {
		mesh_count(MESH_REASON_PLAINTEXT_EXEMPT);
		return SK_PASS;
	}
	if (inbound_mode(workload, id, arrival->tuple.remote_port_be) != MESH_INBOUND_PERMISSIVE)
		return refuse(arrival, MESH_REASON_PLAINTEXT_REFUSED);
	return hand_to_proxy(ctx, settings, workload, arrival);
}

SEC("sk_lookup")
int mesh_arrival(struct bpf_sk_lookup *ctx)
{
	struct mesh_settings *settings = mesh_settings_now();
	struct arrival arrival = {};

	if (!settings || ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	describe_arrival(ctx, &arrival);
	/* sock_diag asks for a listener in this way; no packet comes from there. */
	if (!arrival.tuple.local_port_be && mesh_is_unspecified(&arrival.tuple.local))
		return SK_PASS;
	switch (find_listener(arrival.tuple.netns_cookie, &arrival.tuple.remote, arrival.tuple.remote_port_be,
			      &arrival.workload)) {
	case LISTENER_NONE:
		return SK_PASS;
	case LISTENER_UNCERTAIN:
		return refuse(&arrival, MESH_REASON_WORKLOAD_NOT_READY);
	default:
		return judge_arrival(ctx, settings, &arrival);
	}
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
