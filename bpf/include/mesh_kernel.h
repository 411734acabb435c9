/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The kernel types that the programs read, as few fields as are used. Reads are relocated at load time (CO-RE), so only
 * names matter here, not layout. Contexts carry preserve_static_offset: clang then neither fuses nor splits accesses,
 * which the verifier would refuse ("invalid bpf_context access", "dereference of modified ctx ptr").
 */
#pragma once

#include <linux/types.h>
#include <stdbool.h>

#define MESH_CONTEXT __attribute__((preserve_static_offset))
struct MESH_CONTEXT bpf_sock_addr;
struct MESH_CONTEXT bpf_sock_ops;
struct MESH_CONTEXT bpf_sockopt;
struct MESH_CONTEXT bpf_sock;
struct MESH_CONTEXT __sk_buff;
struct MESH_CONTEXT bpf_sk_lookup;

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "../abi/mesh_abi.h"

#define MESH_RELOCATED __attribute__((preserve_access_index))

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_RAW 3
#define SOCK_DGRAM 2
#define IPPROTO_UDP 17
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IPPROTO_TCP 6
#define LOOPBACK_IFINDEX 1
#define SOCK_DONE_BIT 1 /* enum sock_flags: a FIN was received */

#define EPERM 1
#define ENOENT 2
#define EEXIST 17
#define EINVAL 22
#define EPROTONOSUPPORT 93
#define ENOBUFS 105
#define ECONNREFUSED 111

enum mesh_tcp_state {
	MESH_TCP_ESTABLISHED = 1,
	MESH_TCP_SYN_SENT = 2,
	MESH_TCP_FIN_WAIT1 = 4,
	MESH_TCP_FIN_WAIT2 = 5,
	MESH_TCP_TIME_WAIT = 6,
	MESH_TCP_CLOSE = 7,
	MESH_TCP_CLOSE_WAIT = 8,
	MESH_TCP_LAST_ACK = 9,
	MESH_TCP_LISTEN = 10,
	MESH_TCP_CLOSING = 11,
};

struct kernfs_node {
	__u64 id;
} MESH_RELOCATED;

struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent;
} MESH_RELOCATED;

struct cgroup_root {
	int hierarchy_id; /* 0: version 2 */
} MESH_RELOCATED;

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
} MESH_RELOCATED;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} MESH_RELOCATED;

struct net {
	__u64 net_cookie;
} MESH_RELOCATED;

typedef struct {
	struct net *net;
} MESH_RELOCATED possible_net_t;

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
} MESH_RELOCATED;

struct inode {
	unsigned long i_ino;
} MESH_RELOCATED;

struct socket;

struct socket_alloc {
	struct inode vfs_inode; /* behind the socket that it begins with */
} MESH_RELOCATED;

struct sock_common {
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_ipv6only : 1;
	unsigned char skc_net_refcnt : 1; /* 0: a socket of the kernel's that does not hold its network namespace */
	unsigned long skc_flags;
	possible_net_t skc_net;
	int skc_bound_dev_if;
	__u16 skc_num; /* host order */
	__be16 skc_dport;
	__be32 skc_rcv_saddr;
	__be32 skc_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	struct in6_addr skc_v6_daddr;
} MESH_RELOCATED;

struct sock {
	struct sock_common __sk_common;
	struct sock_cgroup_data sk_cgrp_data;
	struct socket *sk_socket;
	int sk_err;
	__u8 sk_kern_sock : 1; /* made by the kernel for itself */
} MESH_RELOCATED;

struct inet_sock {
	struct sock sk;
} MESH_RELOCATED;

struct inet_connection_sock {
	struct inet_sock icsk_inet;
} MESH_RELOCATED;

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 srtt_us;
	__u32 total_retrans;
	__u32 snd_una;
	__u32 write_seq;
	__u64 bytes_received;
	__u64 bytes_acked;
	bool is_mptcp; /* only with CONFIG_MPTCP */
} MESH_RELOCATED;

struct mptcp_sock {
	struct inet_connection_sock sk;
} MESH_RELOCATED;

struct seq_file;
struct bpf_map;

struct bpf_iter_meta {
	struct seq_file *seq;
} MESH_RELOCATED;

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
} MESH_RELOCATED;

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} MESH_RELOCATED;
