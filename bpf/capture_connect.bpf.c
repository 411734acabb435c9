// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * capture_connect: what a connect() of this node's tasks becomes. One body for both families; the adapters at the end
 * only translate addresses. The caller is the calling task's workload. Verdicts: pass, rewrite (the address becomes that of a
 * listener of the proxy, or of an endpoint on this node that meshd has a verdict for; the original destination is kept with the
 * socket), refuse (errno and a counted reason).
 */
#include "include/direct_path.h"
#include "include/egress_policy.h"
#include "include/find_listener.h"
#include "include/redirect_target.h"

/* CONNECT_REFUSE is 0, as refuse() is a program of its own to the verifier and returns what the hook returns. */
enum connect_verdict { CONNECT_REFUSE = 0, CONNECT_PASS = 1, CONNECT_REWRITE = 2 };

static __always_inline void describe_caller(struct mesh_socket *socket)
{
	socket->version = MESH_ABI_VERSION;
	socket->pid = bpf_get_current_pid_tgid() >> 32;
	socket->uid = (__u32)bpf_get_current_uid_gid();
	socket->cgroup_id = bpf_get_current_cgroup_id();
	socket->opened_ns = bpf_ktime_get_boot_ns();
	bpf_get_current_comm(socket->command, sizeof(socket->command));
}

static __always_inline void describe_attempt(struct mesh_socket *socket, struct bpf_sock_addr *ctx,
					     const struct connect_attempt *attempt, __u32 id,
					     const struct mesh_workload *workload)
{
	describe_caller(socket);
	socket->workload = id;
	socket->netns_cookie = attempt->netns_cookie;
	socket->cookie = bpf_get_socket_cookie(ctx);
	socket->destination = attempt->destination;
	if (workload)
		socket->source.address = attempt->is_ipv6 && !mesh_is_mapped(&attempt->destination.address)
						 ? workload->address6
						 : workload->address4;
}

static __noinline int refuse(struct bpf_sock_addr *ctx, const struct connect_attempt *attempt, __u32 workload,
			     __u32 reason, __u32 code)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_REFUSED };

	if (!attempt)
		return 0;
	if (reason < MESH_REASON_MAX)
		mesh_count(reason);
	event.reason = reason;
	event.errno_value = code;
	event.at_ns = bpf_ktime_get_boot_ns();
	describe_attempt(&event.socket, ctx, attempt, workload, 0);
	event.socket.role = MESH_ROLE_REFUSED;
	mesh_send_event(&event);
	bpf_set_retval(-(int)code);
	return 0;
}

/* The local workload that a dial socket may connect to there; 0: none. */
static __always_inline __u32 dialled_workload(const struct mesh_own *own, const struct connect_attempt *attempt)
{
	struct mesh_destination *found = find_destination(MESH_DIAL_SCOPE | own->netns, &attempt->destination);
	struct mesh_workload *workload;
	__u32 id = 0;

	if (found && found->kind == MESH_DESTINATION_WORKLOAD && found->local && found->netns == own->netns)
		return found->id;
	/* Not an endpoint of the mesh. Where plain text is taken, the proxy may go wherever strangers may, loopback too. */
	if (find_listener(attempt->netns_cookie, &attempt->destination.address, attempt->destination.port_be, &id) !=
	    LISTENER_KNOWN)
		return 0;
	workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	return workload && inbound_mode(workload, id, attempt->destination.port_be) == MESH_INBOUND_PERMISSIVE ? id : 0;
}

/* A socket of the mesh itself goes only where it was made for. */
static __always_inline bool dial_is_in_scope(const struct mesh_settings *settings, struct mesh_own *own,
					     const struct connect_attempt *attempt)
{
	__be16 port_be = attempt->destination.port_be;

	if (own->kind == MESH_PURPOSE_TUNNEL)
		return port_be == settings->tunnel_port_be &&
		       bpf_map_lookup_elem(&mesh_nodes, &attempt->destination.address);
	if (own->kind == MESH_PURPOSE_NAMES) {
		own->destination = asker_there(own, attempt); /* for its vouch */
		return is_asked_resolver(attempt);
	}
	if (own->kind != MESH_PURPOSE_APPLICATION || mesh_is_mesh_port(settings, port_be))
		return false;
	own->destination = dialled_workload(own, attempt); /* for its vouch */
	return own->destination;
}

static __noinline void ask_for_listener(struct bpf_sock_addr *ctx, const struct connect_attempt *attempt,
					__u32 workload)
{
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_NEEDS_LISTENER };

	if (!attempt)
		return;
	event.at_ns = bpf_ktime_get_boot_ns();
	event.value = attempt->netns_cookie;
	describe_attempt(&event.socket, ctx, attempt, workload, 0);
	mesh_send_event(&event);
}

/*
 * What an application holds of an MPTCP connection is a socket above the TCP one that connects. It is asked for names, so
 * it gets a copy. Not observed: no flag says that it was opened.
 */
static __always_inline struct mesh_socket *kept_above(struct bpf_sock *sk, __u64 flags)
{
	struct mptcp_sock *above;

	if (!bpf_core_type_exists(struct mptcp_sock))
		return 0;
	above = bpf_skc_to_mptcp_sock(sk);
	return above ? bpf_sk_storage_get(&mesh_sockets, above, 0, flags) : 0;
}

static __always_inline bool keep_with_socket(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					     const struct connect_attempt *attempt, __u32 id,
					     const struct mesh_workload *workload, enum mesh_socket_role role)
{
	struct mesh_socket *kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE), *above;

	if (!kept)
		return false;
	__builtin_memset(kept, 0, sizeof(*kept));
	describe_attempt(kept, ctx, attempt, id, workload);
	kept->role = role;
	above = kept_above(sk, BPF_SK_STORAGE_GET_F_CREATE);
	if (above)
		__builtin_memcpy(above, kept, sizeof(*above));
	return true;
}

/* failureMode open: while the mesh is really away, a connection to a workload or to a resolver goes out as it is. */
static __always_inline bool may_fail_open(const struct mesh_workload *workload, enum mesh_reason fault,
					  const struct mesh_destination *found)
{
	return workload->failure_open && (!found || found->kind == MESH_DESTINATION_WORKLOAD) &&
	       (fault == MESH_REASON_NO_LISTENER || fault == MESH_REASON_PROXY_STALE);
}

static __always_inline void note_failed_open(struct bpf_sock *sk)
{
	struct mesh_socket *kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, 0);

	if (kept)
		kept->flags |= MESH_SOCKET_FAILED_OPEN;
}

/*
 * Keeps with the socket whom it may reach without the proxy. Only where the proxy would be reached too: without it nothing
 * goes out, whichever way it would take.
 */
static __always_inline bool goes_direct(struct bpf_sock_addr *ctx, struct bpf_sock *sk,
					const struct mesh_settings *settings, struct connect_attempt *attempt, __u32 id,
					const struct mesh_workload *workload)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct mesh_workload *peer;
	struct mesh_socket *kept;
	__u64 peer_netns_cookie;
	__u32 peer_id = 0;

	if (!tcp || mesh_is_mptcp(tcp) || !choose_direct(settings, attempt, id, &peer_id))
		return false;
	peer = bpf_map_lookup_elem(&mesh_workloads, &peer_id);
	peer_netns_cookie = peer ? peer->netns_cookie : 0;
	if (!peer_netns_cookie || !speaks_as(ctx, sk, attempt, workload))
		return false;
	if (!keep_with_socket(ctx, sk, attempt, id, workload, MESH_ROLE_DIRECT))
		return false;
	kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, 0);
	if (!kept)
		return false;
	kept->peer_workload = peer_id;
	kept->peer_netns_cookie = peer_netns_cookie;
	kept->policy_generation = settings->policy_generation;
	return true;
}

static __always_inline int redirect(struct bpf_sock_addr *ctx, const struct mesh_settings *settings,
				    struct connect_attempt *attempt, __u32 id, const struct mesh_workload *workload,
				    const struct mesh_destination *found)
{
	struct bpf_sock *sk = ctx->sk;
	enum mesh_reason fault;

	if (!sk)
		return refuse(ctx, attempt, id, MESH_REASON_STATE_MISSING, ECONNREFUSED);
	if (sk->bound_dev_if)
		return refuse(ctx, attempt, id, MESH_REASON_BOUND_TO_DEVICE, ECONNREFUSED);
	/* Signed: meshd's rewriting of the entry may lose a step, and below zero must not read as full. */
	if ((__s32)workload->handovers >= settings->handover_per_workload_max)
		return refuse(ctx, attempt, id, MESH_REASON_HANDOVER_FULL, ECONNREFUSED);
	if (!choose_target(attempt, bpf_get_socket_cookie(ctx))) {
		ask_for_listener(ctx, attempt, id);
		return refuse(ctx, attempt, id, MESH_REASON_WORKLOAD_NOT_READY, ECONNREFUSED);
	}
	fault = listener_fault(ctx, settings, &attempt->target);
	if (fault != MESH_REASON_NONE) {
		if (!may_fail_open(workload, fault, found))
			return refuse(ctx, attempt, id, fault, ECONNREFUSED);
		mesh_count(MESH_REASON_FAIL_OPEN);
		if (keep_with_socket(ctx, sk, attempt, id, workload, MESH_ROLE_PASSTHROUGH))
			note_failed_open(sk);
		return CONNECT_PASS;
	}
	if (found && goes_direct(ctx, sk, settings, attempt, id, workload)) {
		attempt->target = attempt->direct;
		return CONNECT_REWRITE;
	}
	if (!keep_with_socket(ctx, sk, attempt, id, workload, MESH_ROLE_CAPTURED))
		return refuse(ctx, attempt, id, MESH_REASON_STORAGE_FAILED, ENOBUFS);
	return CONNECT_REWRITE;
}

/* The workload's own business. Its vouch says so where it arrives; the fence and mesh_older see that it was judged. */
static __always_inline int pass_to_itself(struct bpf_sock_addr *ctx, const struct connect_attempt *attempt, __u32 id,
					  const struct mesh_workload *workload)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk || !keep_with_socket(ctx, sk, attempt, id, workload, MESH_ROLE_OWN))
		mesh_count(MESH_REASON_STORAGE_FAILED); /* unvouched: judged as a stranger's */
	return CONNECT_PASS;
}

static __always_inline bool is_own_address(const struct mesh_workload *workload, __u32 id,
					   const struct mesh_endpoint *destination,
					   const struct mesh_destination *found)
{
	if (found)
		return found->kind == MESH_DESTINATION_WORKLOAD && found->id == id;
	return mesh_is_same(&destination->address, &workload->address4) ||
	       mesh_is_same(&destination->address, &workload->address6);
}

/*
 * What let it out is kept with the socket, for meshd to judge it again. The generation is read before the lists: meshd writes
 * it after them, so what carries it was judged by nothing older.
 */
static __always_inline int judge_egress(struct bpf_sock_addr *ctx, const struct mesh_settings *settings,
					const struct connect_attempt *attempt, __u32 id,
					const struct mesh_workload *workload)
{
	__u32 generation = *(volatile const __u32 *)&settings->policy_generation, name = 0;
	struct bpf_sock *sk = ctx->sk;
	struct mesh_socket *kept;

	if (!sk || !egress_allows_by(workload, id, &attempt->destination, &name))
		return refuse(ctx, attempt, id, MESH_REASON_EGRESS_DENIED, ECONNREFUSED);
	if (!keep_with_socket(ctx, sk, attempt, id, workload, MESH_ROLE_PASSTHROUGH)) {
		mesh_count(MESH_REASON_STORAGE_FAILED); /* goes out as it would, only unseen */
		return CONNECT_PASS;
	}
	kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, 0);
	if (kept) {
		kept->policy_generation = generation;
		kept->egress_name = name;
	}
	return CONNECT_PASS;
}

static __always_inline int judge_workload(struct bpf_sock_addr *ctx, const struct mesh_settings *settings,
					  struct connect_attempt *attempt, __u32 id)
{
	struct mesh_workload *workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	struct mesh_destination *found;
	struct bpf_sock *sk = ctx->sk;

	if (!workload || !sk)
		return refuse(ctx, attempt, id, MESH_REASON_STATE_MISSING, ECONNREFUSED);
	found = find_destination(workload->network, &attempt->destination);
	if (is_own_address(workload, id, &attempt->destination, found))
		return pass_to_itself(ctx, attempt, id, workload);
	if (!found)
		return judge_egress(ctx, settings, attempt, id, workload);
	if (found->refuse_errno)
		return refuse(ctx, attempt, id, found->refuse_reason, found->refuse_errno);
	return redirect(ctx, settings, attempt, id, workload, found);
}

/* A resolver's connection goes to the proxy, on loopback too. One that is the mesh's own is a destination like others. */
static __always_inline int judge_names(struct bpf_sock_addr *ctx, const struct mesh_settings *settings,
				       struct connect_attempt *attempt, __u32 id)
{
	struct mesh_workload *workload = bpf_map_lookup_elem(&mesh_workloads, &id);

	if (!workload)
		return refuse(ctx, attempt, id, MESH_REASON_STATE_MISSING, ECONNREFUSED);
	if (find_destination(workload->network, &attempt->destination))
		return judge_workload(ctx, settings, attempt, id);
	note_resolver(attempt);
	return redirect(ctx, settings, attempt, id, workload, 0);
}

/*
 * Loopback is a workload's own business, except the mesh's listeners there: nobody speaks to them directly. Where others
 * share its network namespace, capture_inbound looks whether it met itself.
 */
static __always_inline int judge_loopback(struct bpf_sock_addr *ctx, const struct mesh_settings *settings,
					  const struct connect_attempt *attempt, __u32 id)
{
	struct mesh_workload *workload;

	if (attempt->destination.port_be == settings->outbound_port_be ||
	    attempt->destination.port_be == settings->inbound_port_be)
		return refuse(ctx, attempt, id, MESH_REASON_MESH_PORT_RESERVED, ECONNREFUSED);
	workload = bpf_map_lookup_elem(&mesh_workloads, &id);
	if (!workload || (workload->has_own_netns && !(workload->fence & MESH_FENCE_STRICT)))
		return CONNECT_PASS;
	return pass_to_itself(ctx, attempt, id, workload);
}

/*
 * A socket that connected before and was disconnected is a new one to us. The hook runs for closed sockets only: a second
 * connect() on one that is connecting or connected fails before it.
 */
static __always_inline void forget_former_use(struct bpf_sock *sk)
{
	struct mesh_socket *kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, 0);

	if (kept) {
		kept->role = MESH_ROLE_NONE;
		kept->flags = 0;
	}
	kept = kept_above(sk, 0);
	if (kept)
		kept->role = MESH_ROLE_NONE;
}

/*
 * The caller is nobody's workload, but the socket was made in one: carried out of its cgroup, or a further path of an MPTCP
 * connection, which a kernel thread opens to wherever the peer said. Other sockets of the kernel (mounts) are left alone.
 */
static __always_inline int judge_carried_out(struct bpf_sock_addr *ctx, const struct connect_attempt *attempt,
					     struct tcp_sock *tcp)
{
	__u32 owner = tcp ? mesh_socket_workload(tcp) : 0;

	if (!owner)
		return CONNECT_PASS;
	if (BPF_CORE_READ_BITFIELD(&tcp->inet_conn.icsk_inet.sk, sk_kern_sock) && !mesh_is_mptcp(tcp))
		return CONNECT_PASS;
	return refuse(ctx, attempt, owner, MESH_REASON_SOCKET_OWNER_MISMATCH, ECONNREFUSED);
}

static __always_inline int judge(struct bpf_sock_addr *ctx, struct connect_attempt *attempt)
{
	struct mesh_settings *settings = mesh_settings_now();
	struct mesh_cgroup caller = {};
	struct bpf_sock *sk = ctx->sk;
	struct tcp_sock *tcp;
	struct mesh_own *own;
	__u32 id, owner;

	if (!settings || ctx->type != SOCK_STREAM || !sk)
		return CONNECT_PASS;
	forget_former_use(sk);
	attempt->netns_cookie = bpf_get_netns_cookie(ctx);
	own = bpf_sk_storage_get(&mesh_own, sk, 0, 0);
	if (own) {
		if (dial_is_in_scope(settings, own, attempt))
			return CONNECT_PASS;
		return refuse(ctx, attempt, 0, MESH_REASON_DIAL_OUT_OF_SCOPE, EPERM);
	}
	tcp = bpf_skc_to_tcp_sock(sk);
	/* An accepted socket of the mesh, disconnected and used again: it was made for no dial at all. */
	if (tcp && tcp->inet_conn.icsk_inet.sk.sk_cgrp_data.cgroup->kn->id == settings->sockets_cgroup_id)
		return refuse(ctx, attempt, 0, MESH_REASON_DIAL_OUT_OF_SCOPE, EPERM);
	if (!mesh_caller(&caller) || caller.state == MESH_CGROUP_OUTSIDE)
		return judge_carried_out(ctx, attempt, tcp);
	id = caller.workload;
	if (caller.state != MESH_CGROUP_READY)
		return refuse(ctx, attempt, id, MESH_REASON_WORKLOAD_NOT_READY, ECONNREFUSED);
	if (!tcp)
		return refuse(ctx, attempt, id, MESH_REASON_STATE_MISSING, ECONNREFUSED);
	owner = mesh_socket_workload(tcp);
	if (owner && owner != id)
		return refuse(ctx, attempt, id, MESH_REASON_SOCKET_OWNER_MISMATCH, ECONNREFUSED);
	if (attempt->is_ipv6 && !mesh_is_mapped(&attempt->destination.address))
		attempt->wants_ipv6_target |=
			BPF_CORE_READ_BITFIELD(&tcp->inet_conn.icsk_inet.sk.__sk_common, skc_ipv6only);
	if (is_to_resolver(settings, attempt))
		return judge_names(ctx, settings, attempt, id);
	if (mesh_is_loopback(&attempt->destination.address) || mesh_is_unspecified(&attempt->destination.address))
		return judge_loopback(ctx, settings, attempt, id);
	return judge_workload(ctx, settings, attempt, id);
}

SEC("cgroup/connect4")
int mesh_connect4(struct bpf_sock_addr *ctx)
{
	struct connect_attempt attempt = {};
	int verdict;

	attempt.destination.address = mesh_address4(ctx->user_ip4);
	attempt.destination.port_be = ctx->user_port;
	verdict = judge(ctx, &attempt);
	if (verdict == CONNECT_REWRITE) {
		ctx->user_ip4 = attempt.target.address.word[3];
		ctx->user_port = attempt.target.port_be;
	}
	return verdict != CONNECT_REFUSE;
}

SEC("cgroup/connect6")
int mesh_connect6(struct bpf_sock_addr *ctx)
{
	struct connect_attempt attempt = { .is_ipv6 = true };
	int verdict;

	attempt.destination.address.word[0] = ctx->user_ip6[0];
	attempt.destination.address.word[1] = ctx->user_ip6[1];
	attempt.destination.address.word[2] = ctx->user_ip6[2];
	attempt.destination.address.word[3] = ctx->user_ip6[3];
	attempt.destination.port_be = ctx->user_port;
	verdict = judge(ctx, &attempt);
	if (verdict == CONNECT_REWRITE) {
		ctx->user_ip6[0] = attempt.target.address.word[0];
		ctx->user_ip6[1] = attempt.target.address.word[1];
		ctx->user_ip6[2] = attempt.target.address.word[2];
		ctx->user_ip6[3] = attempt.target.address.word[3];
		ctx->user_port = attempt.target.port_be;
	}
	return verdict != CONNECT_REFUSE;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
