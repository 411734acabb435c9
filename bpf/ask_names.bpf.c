// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * ask_names: DNS queries of workloads go to the proxy, whatever resolver they mean, and the answers come from whom they
 * asked. A UDP socket keeps which resolver became which of the mesh's listeners; the first four have one each, so that a
 * socket that asks several (musl's does) can tell them apart. Connecting to a virtual address succeeds, as resolvers do
 * that to sort addresses; nothing that is sent there is carried. Every other datagram is plain text, and judged as that: to
 * workloads that take it, and to what egress policy lets out.
 */
#include "include/datagram_flows.h"
#include "include/egress_policy.h"
#include "include/redirect_target.h"

#define ANSWER_TIME_MAX_NS 10000000000ULL /* longer than the proxy waits for a resolver: no answer is due any more */

enum datagram_verdict { DATAGRAM_REFUSE = 0, DATAGRAM_PASS = 1, DATAGRAM_REWRITE = 2 };

static __noinline int refuse_datagram(struct bpf_sock_addr *ctx, const struct connect_attempt *attempt, __u32 workload,
				      __u32 reason, __u32 code)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_REFUSED };

	if (!attempt)
		return DATAGRAM_REFUSE;
	if (reason < MESH_REASON_MAX)
		mesh_count(reason);
	event.reason = reason;
	event.errno_value = code;
	event.at_ns = bpf_ktime_get_boot_ns();
	event.socket.version = MESH_ABI_VERSION;
	event.socket.role = MESH_ROLE_REFUSED;
	event.socket.flags = MESH_SOCKET_DATAGRAM;
	event.socket.workload = workload;
	event.socket.pid = bpf_get_current_pid_tgid() >> 32;
	event.socket.uid = (__u32)bpf_get_current_uid_gid();
	event.socket.cgroup_id = bpf_get_current_cgroup_id();
	event.socket.netns_cookie = attempt->netns_cookie;
	event.socket.cookie = bpf_get_socket_cookie(ctx);
	event.socket.destination = attempt->destination;
	bpf_get_current_comm(event.socket.command, sizeof(event.socket.command));
	mesh_send_event(&event);
	bpf_set_retval(-(int)code);
	return DATAGRAM_REFUSE;
}

/* The mesh's own sockets: a dial socket to a resolver that was asked, a listener to whoever asked it. */
static __always_inline bool own_is_in_scope(struct mesh_own *own, struct bpf_sock *sk,
					    const struct connect_attempt *attempt)
{
	struct mesh_question_key question = { .client = attempt->destination, .netns = own->netns };

	if (own->kind == MESH_PURPOSE_NAMES) {
		own->destination = asker_there(own, attempt); /* observe_datagrams takes it for the sender */
		return is_asked_resolver(attempt);
	}
	if (own->kind != MESH_PURPOSE_LISTENER)
		return false;
	if (sk->family == AF_INET) {
		question.listener.address = mesh_address4(sk->src_ip4);
	} else {
		question.listener.address.word[0] = sk->src_ip6[0];
		question.listener.address.word[1] = sk->src_ip6[1];
		question.listener.address.word[2] = sk->src_ip6[2];
		question.listener.address.word[3] = sk->src_ip6[3];
	}
	question.listener.port_be = bpf_htons((__u16)sk->src_port);
	return bpf_map_lookup_elem(&mesh_questions, &question);
}

/* The number under which the socket asks this resolver: as before, a free one, or one that nothing is due for. */
static __always_inline int resolver_number(const struct mesh_asked *asked, const struct mesh_endpoint *resolver,
					   __u64 now)
{
	int free = -1;

	for (int number = 0; number < MESH_RESOLVERS_MAX; number++) {
		const struct mesh_asked_resolver *slot = &asked->resolver[number];

		if (slot->used_ns && slot->resolver.port_be == resolver->port_be &&
		    mesh_is_same(&slot->resolver.address, &resolver->address))
			return number;
		if (free < 0 && (!slot->used_ns || now - slot->used_ns > ANSWER_TIME_MAX_NS))
			free = number;
	}
	return free;
}

static __always_inline int ask(struct bpf_sock_addr *ctx, const struct mesh_settings *settings,
			       struct connect_attempt *attempt, __u32 id, bool connects)
{
	struct mesh_workload *workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	__u64 now = bpf_ktime_get_boot_ns();
	struct bpf_sock *sk = ctx->sk;
	struct mesh_asked *asked;
	enum mesh_reason fault;
	int number;

	if (!workload || !sk)
		return refuse_datagram(ctx, attempt, id, MESH_REASON_STATE_MISSING, ECONNREFUSED);
	if (sk->bound_dev_if)
		return refuse_datagram(ctx, attempt, id, MESH_REASON_BOUND_TO_DEVICE, ECONNREFUSED);
	asked = bpf_sk_storage_get(&mesh_asked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!asked)
		return refuse_datagram(ctx, attempt, id, MESH_REASON_STORAGE_FAILED, ENOBUFS);
	if (connects || asked->kind != MESH_ASKED_NAMES)
		__builtin_memset(asked, 0, sizeof(*asked)); /* what it was used for before is over */
	number = resolver_number(asked, &attempt->destination, now);
	if (number < 0 || number >= MESH_RESOLVERS_MAX)
		return refuse_datagram(ctx, attempt, id, MESH_REASON_NAMES_RESOLVERS_LIMIT, ENOBUFS);
	if (!names_target(attempt, settings, number))
		return refuse_datagram(ctx, attempt, id, MESH_REASON_WORKLOAD_NOT_READY, ECONNREFUSED);
	fault = names_fault(ctx, settings, &attempt->target);
	if (fault != MESH_REASON_NONE) {
		if (!workload->failure_open || (fault != MESH_REASON_NO_LISTENER && fault != MESH_REASON_PROXY_STALE))
			return refuse_datagram(ctx, attempt, id, fault, ECONNREFUSED);
		mesh_count(MESH_REASON_FAIL_OPEN);
		return DATAGRAM_PASS;
	}
	asked->version = MESH_ABI_VERSION;
	asked->kind = MESH_ASKED_NAMES;
	asked->workload = id;
	asked->resolver[number].resolver = attempt->destination;
	asked->resolver[number].target = attempt->target;
	asked->resolver[number].used_ns = now;
	note_resolver(attempt);
	return DATAGRAM_REWRITE;
}

/* A connected IPv6 socket whose peer is a mapped address sends as if it were told the address each time. */
static __always_inline bool is_own_target(struct bpf_sock *sk, const struct mesh_endpoint *destination)
{
	struct mesh_asked *asked = bpf_sk_storage_get(&mesh_asked, sk, 0, 0);

	if (!asked || asked->kind == MESH_ASKED_NOTHING)
		return false;
	return asked->resolver[0].target.port_be == destination->port_be &&
	       mesh_is_same(&asked->resolver[0].target.address, &destination->address);
}

static __always_inline bool is_virtual(__u32 id, const struct mesh_endpoint *destination)
{
	struct mesh_workload *workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	struct mesh_destination_key key = { .address = destination->address };
	struct mesh_destination *found;

	if (!workload)
		return false;
	key.network = workload->network;
	found = bpf_map_lookup_elem(&mesh_dests, &key);
	return found && found->kind == MESH_DESTINATION_SERVICE_ADDRESS;
}

/*
 * A virtual address has no route, and a resolver that finds none sorts it behind others. So connecting succeeds, towards a
 * loopback port where nothing answers: what is sent there is refused as by a host without such a service.
 */
static __always_inline int connect_virtual(struct bpf_sock_addr *ctx, const struct mesh_settings *settings,
					   struct connect_attempt *attempt, __u32 id)
{
	struct bpf_sock *sk = ctx->sk;
	struct mesh_asked *asked;

	if (!sk || sk->bound_dev_if || !names_target(attempt, settings, 0))
		return DATAGRAM_PASS;
	asked = bpf_sk_storage_get(&mesh_asked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!asked)
		return DATAGRAM_PASS;
	__builtin_memset(asked, 0, sizeof(*asked));
	attempt->target.port_be = settings->inbound_port_be;
	asked->version = MESH_ABI_VERSION;
	asked->kind = MESH_ASKED_VIRTUAL;
	asked->workload = id;
	asked->resolver[0].resolver = attempt->destination;
	asked->resolver[0].target = attempt->target;
	asked->resolver[0].used_ns = 1;
	return DATAGRAM_REWRITE;
}

static __always_inline bool is_own(const struct mesh_workload *workload, __u32 id,
				   const struct mesh_endpoint *destination, const struct mesh_destination *found)
{
	if (found)
		return found->kind == MESH_DESTINATION_WORKLOAD && found->id == id;
	return mesh_is_same(&destination->address, &workload->address4) ||
	       mesh_is_same(&destination->address, &workload->address6);
}

/* Only here it is known which process it is. */
static __noinline void see_flow(struct bpf_sock_addr *ctx, const struct connect_attempt *attempt, __u32 id)
{
	struct mesh_datagram_key key = {};
	struct mesh_endpoint local = {};
	struct mesh_datagram_flow *flow;
	struct bpf_sock *sk = ctx->sk;
	struct mesh_asked *asked;

	asked = sk ? bpf_sk_storage_get(&mesh_asked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : 0;
	if (!asked)
		return;
	asked->version = MESH_ABI_VERSION;
	asked->workload = id;
	asked->netns_cookie = attempt->netns_cookie;
	key.remote = attempt->destination;
	key.cookie = bpf_get_socket_cookie(ctx);
	flow = datagram_flow(&key, id, &local, 0);
	if (!flow || flow->socket.pid)
		return;
	flow->socket.pid = bpf_get_current_pid_tgid() >> 32;
	flow->socket.uid = (__u32)bpf_get_current_uid_gid();
	flow->socket.cgroup_id = bpf_get_current_cgroup_id();
	flow->socket.netns_cookie = attempt->netns_cookie;
	bpf_get_current_comm(flow->socket.command, sizeof(flow->socket.command));
}

static __always_inline int judge_plain(struct bpf_sock_addr *ctx, const struct connect_attempt *attempt, __u32 id,
				       bool is_ready)
{
	const struct mesh_endpoint *destination = &attempt->destination;
	struct mesh_workload *workload;
	struct mesh_destination *found;

	if (mesh_is_loopback(&destination->address) || mesh_is_unspecified(&destination->address))
		return DATAGRAM_PASS;
	if (!is_ready)
		return refuse_datagram(ctx, attempt, id, MESH_REASON_WORKLOAD_NOT_READY, ECONNREFUSED);
	workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	if (!workload)
		return refuse_datagram(ctx, attempt, id, MESH_REASON_STATE_MISSING, ECONNREFUSED);
	found = find_destination(workload->network, destination);
	if (is_own(workload, id, destination, found))
		return DATAGRAM_PASS;
	if (found ? !found->datagrams : !egress_allows(workload, id, destination)) {
		if (!is_datagram_answer(bpf_get_socket_cookie(ctx), destination))
			return refuse_datagram(ctx, attempt, id,
					       found ? MESH_REASON_DATAGRAM_TO_STRICT : MESH_REASON_EGRESS_DENIED,
					       ECONNREFUSED);
	}
	see_flow(ctx, attempt, id);
	return DATAGRAM_PASS;
}

static __always_inline int judge_datagram(struct bpf_sock_addr *ctx, struct connect_attempt *attempt, bool connects)
{
	struct mesh_settings *settings = mesh_settings_now();
	struct mesh_cgroup caller = {};
	struct bpf_sock *sk = ctx->sk;
	struct mesh_asked *asked;
	struct mesh_own *own;
	__u32 id, owner;

	if (!settings || ctx->type != SOCK_DGRAM || ctx->protocol != IPPROTO_UDP || !sk)
		return DATAGRAM_PASS;
	attempt->netns_cookie = bpf_get_netns_cookie(ctx);
	own = bpf_sk_storage_get(&mesh_own, sk, 0, 0);
	if (own)
		return own_is_in_scope(own, sk, attempt)
			       ? DATAGRAM_PASS
			       : refuse_datagram(ctx, attempt, 0, MESH_REASON_DIAL_OUT_OF_SCOPE, EPERM);
	if (connects) {
		asked = bpf_sk_storage_get(&mesh_asked, sk, 0, 0);
		if (asked)
			asked->kind = MESH_ASKED_NOTHING;
	}
	if (!mesh_caller(&caller) || caller.state == MESH_CGROUP_OUTSIDE)
		return DATAGRAM_PASS;
	id = caller.workload;
	if (mesh_is_loopback(&attempt->destination.address) &&
	    mesh_is_mesh_port(settings, attempt->destination.port_be))
		return !connects && is_own_target(sk, &attempt->destination)
			       ? DATAGRAM_PASS
			       : refuse_datagram(ctx, attempt, id, MESH_REASON_MESH_PORT_RESERVED, ECONNREFUSED);
	if (!is_to_resolver(settings, attempt)) {
		if (!is_virtual(id, &attempt->destination))
			return judge_plain(ctx, attempt, id, caller.state == MESH_CGROUP_READY);
		if (connects)
			return connect_virtual(ctx, settings, attempt, id);
		return refuse_datagram(ctx, attempt, id, MESH_REASON_DATAGRAM_NOT_CARRIED, ECONNREFUSED);
	}
	if (caller.state != MESH_CGROUP_READY)
		return refuse_datagram(ctx, attempt, id, MESH_REASON_WORKLOAD_NOT_READY, ECONNREFUSED);
	owner = mesh_udp_workload(sk);
	if (owner && owner != id)
		return refuse_datagram(ctx, attempt, id, MESH_REASON_SOCKET_OWNER_MISMATCH, ECONNREFUSED);
	return ask(ctx, settings, attempt, id, connects);
}

static __always_inline int judge4(struct bpf_sock_addr *ctx, bool connects)
{
	struct connect_attempt attempt = {};
	int verdict;

	attempt.destination.address = mesh_address4(ctx->user_ip4);
	attempt.destination.port_be = ctx->user_port;
	verdict = judge_datagram(ctx, &attempt, connects);
	if (verdict == DATAGRAM_REWRITE) {
		ctx->user_ip4 = attempt.target.address.word[3];
		ctx->user_port = attempt.target.port_be;
	}
	return verdict != DATAGRAM_REFUSE;
}

static __always_inline int judge6(struct bpf_sock_addr *ctx, bool connects)
{
	struct connect_attempt attempt = { .is_ipv6 = true };
	struct bpf_sock *sk = ctx->sk;
	int verdict;

	attempt.destination.address.word[0] = ctx->user_ip6[0];
	attempt.destination.address.word[1] = ctx->user_ip6[1];
	attempt.destination.address.word[2] = ctx->user_ip6[2];
	attempt.destination.address.word[3] = ctx->user_ip6[3];
	attempt.destination.port_be = ctx->user_port;
	/* sendmsg can't be turned towards a mapped address (ENOTSUPP); connect can, unless the socket is V6ONLY. */
	if (sk && !mesh_is_mapped(&attempt.destination.address))
		attempt.wants_ipv6_target =
			!connects || BPF_CORE_READ_BITFIELD_PROBED(&mesh_whole_socket(sk)->__sk_common, skc_ipv6only);
	verdict = judge_datagram(ctx, &attempt, connects);
	if (verdict == DATAGRAM_REWRITE) {
		ctx->user_ip6[0] = attempt.target.address.word[0];
		ctx->user_ip6[1] = attempt.target.address.word[1];
		ctx->user_ip6[2] = attempt.target.address.word[2];
		ctx->user_ip6[3] = attempt.target.address.word[3];
		ctx->user_port = attempt.target.port_be;
	}
	return verdict != DATAGRAM_REFUSE;
}

SEC("cgroup/connect4")
int mesh_udp_conn4(struct bpf_sock_addr *ctx)
{
	return judge4(ctx, true);
}

SEC("cgroup/connect6")
int mesh_udp_conn6(struct bpf_sock_addr *ctx)
{
	return judge6(ctx, true);
}

SEC("cgroup/sendmsg4")
int mesh_udp_send4(struct bpf_sock_addr *ctx)
{
	return judge4(ctx, false);
}

SEC("cgroup/sendmsg6")
int mesh_udp_send6(struct bpf_sock_addr *ctx)
{
	return judge6(ctx, false);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
