// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * present_peer: both applications see each other, not the mesh. The client's getpeername() shows what it dialled and its
 * getsockname() its own address; the server's accept() and getpeername() show the real client.
 */
#include "include/mesh_lookup.h"

static __always_inline const struct mesh_endpoint *peer_to_show(struct mesh_socket *kept)
{
	bool serves = kept->role == MESH_ROLE_SERVED || kept->flags & MESH_SOCKET_SERVES;

	if (kept->role == MESH_ROLE_CAPTURED || (kept->role == MESH_ROLE_DIRECT && !serves))
		return &kept->destination;
	if (serves)
		return &kept->source;
	return 0;
}

/* accept() of the server runs here in its own context: the first chance to learn who it is. */
static __always_inline void note_server(struct mesh_socket *kept)
{
	if ((kept->role != MESH_ROLE_SERVED && !(kept->flags & MESH_SOCKET_SERVES)) || kept->pid)
		return;
	kept->pid = bpf_get_current_pid_tgid() >> 32;
	kept->uid = (__u32)bpf_get_current_uid_gid();
	kept->cgroup_id = bpf_get_current_cgroup_id();
	bpf_get_current_comm(kept->command, sizeof(kept->command));
}

static __always_inline struct mesh_socket *shown_socket(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk && mesh_settings_now() ? bpf_sk_storage_get(&mesh_sockets, sk, 0, 0) : 0;
}

static __always_inline void show4(struct bpf_sock_addr *ctx, const struct mesh_endpoint *endpoint)
{
	if (!mesh_is_mapped(&endpoint->address))
		return;
	ctx->user_ip4 = endpoint->address.word[3];
	ctx->user_port = endpoint->port_be;
}

static __always_inline void show6(struct bpf_sock_addr *ctx, const struct mesh_endpoint *endpoint)
{
	ctx->user_ip6[0] = endpoint->address.word[0];
	ctx->user_ip6[1] = endpoint->address.word[1];
	ctx->user_ip6[2] = endpoint->address.word[2];
	ctx->user_ip6[3] = endpoint->address.word[3];
	ctx->user_port = endpoint->port_be;
}

SEC("cgroup/getpeername4")
int mesh_peername4(struct bpf_sock_addr *ctx)
{
	struct mesh_socket *kept = shown_socket(ctx);
	const struct mesh_endpoint *peer = kept ? peer_to_show(kept) : 0;

	if (peer) {
		note_server(kept);
		show4(ctx, peer);
	}
	return 1;
}

SEC("cgroup/getpeername6")
int mesh_peername6(struct bpf_sock_addr *ctx)
{
	struct mesh_socket *kept = shown_socket(ctx);
	const struct mesh_endpoint *peer = kept ? peer_to_show(kept) : 0;

	if (peer) {
		note_server(kept);
		show6(ctx, peer);
	}
	return 1;
}

/* Only what the redirect made of the address is undone: an address that the application bound stays. */
SEC("cgroup/getsockname4")
int mesh_sockname4(struct bpf_sock_addr *ctx)
{
	struct mesh_socket *kept = shown_socket(ctx);

	if (kept && kept->role == MESH_ROLE_CAPTURED &&
	    (ctx->user_ip4 & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) && mesh_is_mapped(&kept->source.address))
		ctx->user_ip4 = kept->source.address.word[3];
	return 1;
}

SEC("cgroup/getsockname6")
int mesh_sockname6(struct bpf_sock_addr *ctx)
{
	struct mesh_socket *kept = shown_socket(ctx);
	struct mesh_address local = {};

	if (!kept || kept->role != MESH_ROLE_CAPTURED || mesh_is_zero(&kept->source.address))
		return 1;
	local.word[0] = ctx->user_ip6[0];
	local.word[1] = ctx->user_ip6[1];
	local.word[2] = ctx->user_ip6[2];
	local.word[3] = ctx->user_ip6[3];
	if (mesh_is_loopback(&local)) {
		ctx->user_ip6[0] = kept->source.address.word[0];
		ctx->user_ip6[1] = kept->source.address.word[1];
		ctx->user_ip6[2] = kept->source.address.word[2];
		ctx->user_ip6[3] = kept->source.address.word[3];
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
