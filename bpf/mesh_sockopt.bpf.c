// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * mesh_sockopt: a private socket-option level, attached to the socket maker's cgroup alone: the unprivileged proxy's
 * interface to the kernel side. It reads what came with an accepted socket or a DNS query, says which client a dial socket
 * presents, and lets its listeners beat. The purpose of a socket is written once, by the socket maker, before the proxy has it.
 */
#include "include/mesh_lookup.h"

#define REFUSE 0
#define TAKE 1

/* The kernel's own handler does not know the level: -1 says that the option is dealt with. */
static __always_inline int handled(struct bpf_sockopt *ctx)
{
	*(volatile int *)&ctx->optlen = -1;
	return TAKE;
}

static __always_inline int refused(int code)
{
	bpf_set_retval(-code);
	return REFUSE;
}

static __always_inline int set_purpose(struct bpf_sockopt *ctx, struct bpf_sock *sk)
{
	struct mesh_settings *settings = mesh_settings_now();
	struct mesh_purpose *purpose = ctx->optval;
	struct mesh_own own = { .version = MESH_ABI_VERSION };

	if ((void *)(purpose + 1) > ctx->optval_end)
		return refused(EINVAL);
	if (purpose->kind < MESH_PURPOSE_LISTENER || purpose->kind > MESH_PURPOSE_NAMES)
		return refused(EINVAL);
	/* Only the socket maker lives there: the proxy gives no purpose to what it accepts. */
	if (!settings || bpf_get_current_cgroup_id() != settings->sockets_cgroup_id)
		return refused(EPERM);
	if (bpf_sk_storage_get(&mesh_own, sk, 0, 0))
		return refused(EEXIST);
	own.kind = purpose->kind;
	own.netns = purpose->netns;
	if (!bpf_sk_storage_get(&mesh_own, sk, &own, BPF_SK_STORAGE_GET_F_CREATE))
		return refused(ENOBUFS);
	return handled(ctx);
}

static __always_inline int set_present(struct bpf_sockopt *ctx, struct mesh_own *own)
{
	struct mesh_present *present = ctx->optval;

	if ((void *)(present + 1) > ctx->optval_end)
		return refused(EINVAL);
	if (own->kind != MESH_PURPOSE_APPLICATION || !mesh_is_presentable(&present->client.address)) {
		mesh_count(MESH_REASON_PRESENTATION_FAILED);
		return refused(EPERM);
	}
	own->present = *present;
	own->presents = 1;
	return handled(ctx);
}

static __always_inline int set_asker(struct bpf_sockopt *ctx, struct mesh_own *own)
{
	struct mesh_asker *asker = ctx->optval;

	if ((void *)(asker + 1) > ctx->optval_end)
		return refused(EINVAL);
	if (own->kind != MESH_PURPOSE_NAMES)
		return refused(EPERM);
	own->destination = asker->workload;
	return handled(ctx);
}

/* For capture_inbound, which can't read what is kept with a socket. */
static __always_inline void note_beat(struct bpf_sockopt *ctx, const struct mesh_own *own)
{
	struct mesh_netns_beat beat = { .beat_ns = own->beat_ns, .state = own->beat_state };
	__u64 cookie = bpf_get_netns_cookie(ctx);

	bpf_map_update_elem(&mesh_beats, &cookie, &beat, BPF_ANY);
}

static __always_inline int set_beat(struct bpf_sockopt *ctx, struct mesh_own *own)
{
	struct mesh_beat *beat = ctx->optval;

	if ((void *)(beat + 1) > ctx->optval_end)
		return refused(EINVAL);
	if (own->kind != MESH_PURPOSE_LISTENER || beat->state < MESH_LISTENER_SERVING ||
	    beat->state > MESH_LISTENER_DRAINING)
		return refused(EPERM);
	own->beat_ns = bpf_ktime_get_boot_ns();
	own->beat_state = beat->state;
	note_beat(ctx, own);
	return handled(ctx);
}

/* Looks up what mesh_udp_asked noted, for the get that follows: a get alone can't say which. */
static __always_inline int set_question(struct bpf_sockopt *ctx, struct bpf_sock *sk, const struct mesh_own *own)
{
	struct mesh_question_key *wanted = ctx->optval, key;
	struct mesh_question *found, *kept;

	if ((void *)(wanted + 1) > ctx->optval_end)
		return refused(EINVAL);
	if (own->kind != MESH_PURPOSE_LISTENER)
		return refused(EPERM);
	__builtin_memcpy(&key, wanted, sizeof(key));
	key.netns = own->netns;
	found = bpf_map_lookup_elem(&mesh_questions, &key);
	if (!found)
		return refused(ENOENT);
	kept = bpf_sk_storage_get(&mesh_looked_at, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!kept)
		return refused(ENOBUFS);
	__builtin_memcpy(kept, found, sizeof(*kept));
	return handled(ctx);
}

SEC("cgroup/setsockopt")
int mesh_setopt(struct bpf_sockopt *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct mesh_own *own;

	if (ctx->level != MESH_SOL)
		return TAKE;
	if (!sk)
		return refused(EINVAL);
	if (ctx->optname == MESH_SO_PURPOSE)
		return set_purpose(ctx, sk);
	own = bpf_sk_storage_get(&mesh_own, sk, 0, 0);
	if (!own)
		return refused(EPERM);
	if (ctx->optname == MESH_SO_PRESENT)
		return set_present(ctx, own);
	if (ctx->optname == MESH_SO_BEAT)
		return set_beat(ctx, own);
	if (ctx->optname == MESH_SO_ASKER)
		return set_asker(ctx, own);
	if (ctx->optname == MESH_SO_QUESTION)
		return set_question(ctx, sk, own);
	return refused(EINVAL);
}

static __always_inline int get_question(struct bpf_sockopt *ctx, struct bpf_sock *sk)
{
	struct mesh_question *answer = ctx->optval, *kept;

	if ((void *)(answer + 1) > ctx->optval_end)
		return refused(EINVAL);
	kept = bpf_sk_storage_get(&mesh_looked_at, sk, 0, 0);
	if (!kept)
		return refused(ENOENT);
	__builtin_memcpy(answer, kept, sizeof(*answer));
	*(volatile int *)&ctx->optlen = sizeof(*answer);
	*(volatile int *)&ctx->retval = 0;
	return TAKE;
}

SEC("cgroup/getsockopt")
int mesh_getopt(struct bpf_sockopt *ctx)
{
	struct mesh_socket *answer = ctx->optval, *kept;
	struct bpf_sock *sk = ctx->sk;

	if (ctx->level != MESH_SOL)
		return TAKE;
	if (sk && ctx->optname == MESH_SO_QUESTION)
		return get_question(ctx, sk);
	if (!sk || ctx->optname != MESH_SO_ACCEPTED || (void *)(answer + 1) > ctx->optval_end)
		return refused(EINVAL);
	kept = bpf_sk_storage_get(&mesh_sockets, sk, 0, 0);
	if (!kept || (kept->role != MESH_ROLE_ACCEPTED && kept->role != MESH_ROLE_INBOUND_PLAIN)) {
		mesh_count(MESH_REASON_HANDOVER_MISSING);
		return refused(ENOENT);
	}
	__builtin_memcpy(answer, kept, sizeof(*answer));
	*(volatile int *)&ctx->optlen = sizeof(*answer);
	*(volatile int *)&ctx->retval = 0;
	return TAKE;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
