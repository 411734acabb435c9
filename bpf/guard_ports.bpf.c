// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
/*
 * guard_ports: no application takes a port of the mesh by bind(), TCP or UDP, alone or beside the mesh (SO_REUSEPORT). Autobind is
 * kept away by ip_local_reserved_ports, which the socket maker sets in each network namespace.
 */
#include "include/mesh_lookup.h"

/* A port that meshd serves itself: workloads in the node's network namespace can't have it. meshd is none. */
static __always_inline bool is_service_port(struct bpf_sock_addr *ctx, const struct mesh_settings *settings)
{
	for (int i = 0; i < MESH_SERVICE_PORTS_MAX; i++)
		if (ctx->user_port && settings->service_port_be[i] == ctx->user_port)
			return bpf_get_netns_cookie(ctx) == settings->node_netns_cookie;
	return false;
}

static __always_inline int judge_bind(struct bpf_sock_addr *ctx)
{
	struct mesh_settings *settings = mesh_settings_now();
	struct mesh_event event = { .version = MESH_ABI_VERSION, .kind = MESH_EVENT_REFUSED };
	struct mesh_cgroup caller = {};
	bool is_service;

	if (!settings || (ctx->type != SOCK_STREAM && ctx->type != SOCK_DGRAM))
		return 1;
	is_service = ctx->type == SOCK_STREAM && is_service_port(ctx, settings);
	if (!is_service && !mesh_is_mesh_port(settings, ctx->user_port))
		return 1;
	if (bpf_get_current_cgroup_id() == settings->sockets_cgroup_id)
		return 1;
	mesh_caller(&caller);
	if (is_service && caller.state != MESH_CGROUP_READY && caller.state != MESH_CGROUP_NOT_READY)
		return 1;
	mesh_count(MESH_REASON_MESH_PORT_RESERVED);
	event.reason = MESH_REASON_MESH_PORT_RESERVED;
	event.errno_value = EPERM;
	event.at_ns = bpf_ktime_get_boot_ns();
	event.socket.version = MESH_ABI_VERSION;
	event.socket.role = MESH_ROLE_REFUSED;
	event.socket.workload = caller.workload;
	event.socket.pid = bpf_get_current_pid_tgid() >> 32;
	event.socket.cgroup_id = bpf_get_current_cgroup_id();
	event.socket.netns_cookie = bpf_get_netns_cookie(ctx);
	event.socket.destination.port_be = ctx->user_port;
	bpf_get_current_comm(event.socket.command, sizeof(event.socket.command));
	mesh_send_event(&event);
	return 0;
}

SEC("cgroup/bind4")
int mesh_bind4(struct bpf_sock_addr *ctx)
{
	return judge_bind(ctx);
}

SEC("cgroup/bind6")
int mesh_bind6(struct bpf_sock_addr *ctx)
{
	return judge_bind(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
