// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * capture_inbound: what becomes of a connection, or a datagram, that arrives at a workload's listener. One instance in each network namespace
 * with workloads, which knows its namespace by a constant that meshd patches in. Acts only on ports in mesh_owners: where
 * no workload listens, the kernel answers as ever. What this node vouches for passes; plain text from elsewhere is refused
 * (SK_DROP: the client sees ECONNREFUSED at once) or handed to the proxy, by the mode of the workload and port.
 */
#include "include/datagram_arrivals.h"
#include "include/find_listener.h"

/* The placeholder of the namespace's cookie; BPFRuntime replaces it in the instructions of each instance. */
#define NETNS_COOKIE_PLACEHOLDER 0x6d657368636f6f6bULL

static __always_inline __u64 netns_cookie(void)
{
	__u64 cookie;

	asm volatile("%0 = %1 ll" : "=r"(cookie) : "i"(NETNS_COOKIE_PLACEHOLDER));
	return cookie;
}

static __always_inline void describe_arrival(const struct bpf_sk_lookup *ctx, struct arrival *arrival)
{
	arrival->tuple.netns_cookie = netns_cookie();
	arrival->ifindex = ctx->ingress_ifindex;
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

static __always_inline int refuse(const struct arrival *arrival, enum mesh_reason reason)
{
	count_refused_arrival(arrival, reason);
	return SK_DROP;
}

/* What the declared probes' policies say; 0: it is none of them. */
static __always_inline __u32 exemption(const struct arrival *arrival)
{
	struct mesh_source_key key = source_key(arrival, arrival->tuple.remote_port_be);
	__u32 *verdict = bpf_map_lookup_elem(&mesh_exempt, &key);

	return verdict ? *verdict : 0;
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
	__u32 id = arrival->workload, exempt;
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
	exempt = exemption(arrival);
	if (exempt == MESH_SOURCE_PASSES) {
		mesh_count(MESH_REASON_PLAINTEXT_EXEMPT);
		return SK_PASS;
	}
	if (exempt)
		return refuse(arrival, MESH_REASON_POLICY_DENIED);
	if (inbound_mode(workload, id, arrival->tuple.remote_port_be) != MESH_INBOUND_PERMISSIVE)
		return refuse(arrival, MESH_REASON_PLAINTEXT_REFUSED);
	return hand_to_proxy(ctx, settings, workload, arrival);
}

static __always_inline int judge_connection(struct bpf_sk_lookup *ctx, const struct mesh_settings *settings,
					    struct arrival *arrival)
{
	switch (find_listener(arrival->tuple.netns_cookie, &arrival->tuple.remote, arrival->tuple.remote_port_be,
			      &arrival->workload)) {
	case LISTENER_NONE:
		return SK_PASS;
	case LISTENER_UNCERTAIN:
		return refuse(arrival, MESH_REASON_WORKLOAD_NOT_READY);
	default:
		return judge_arrival(ctx, settings, arrival);
	}
}

/*
 * A datagram that no connected socket takes. What passes here is judged once more by observe_datagrams, at the socket that
 * gets it: here the sender hears of a refusal.
 */
static __always_inline int judge_datagram(const struct mesh_settings *settings, struct arrival *arrival)
{
	struct mesh_workload *workload;
	enum mesh_reason reason;
	__u32 id;

	arrival->is_datagram = true;
	switch (find_bound(arrival->tuple.netns_cookie, &arrival->tuple.remote, arrival->tuple.remote_port_be,
			   &arrival->workload)) {
	case LISTENER_NONE:
		return SK_PASS;
	case LISTENER_UNCERTAIN:
		return refuse(arrival, MESH_REASON_WORKLOAD_NOT_READY);
	default:
		break;
	}
	id = arrival->workload;
	workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	if (!workload)
		return SK_PASS;
	reason = datagram_fault(arrival);
	if (reason == MESH_REASON_NONE || datagram_coming(settings, workload, arrival) != COMES_NEW)
		return SK_PASS;
	return refuse(arrival, reason);
}

SEC("sk_lookup")
int mesh_arrival(struct bpf_sk_lookup *ctx)
{
	struct mesh_settings *settings = mesh_settings_now();
	struct arrival arrival = {};

	if (!settings || (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP))
		return SK_PASS;
	describe_arrival(ctx, &arrival);
	/* sock_diag asks for a socket in this way; no packet comes from there. */
	if (!arrival.tuple.local_port_be && mesh_is_unspecified(&arrival.tuple.local))
		return SK_PASS;
	if (ctx->protocol == IPPROTO_UDP)
		return judge_datagram(settings, &arrival);
	return judge_connection(ctx, settings, &arrival);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
