/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* holders: which workload's process holds a socket, whoever made it. Known only while meshd looks: it reads /proc. */
#pragma once

#include "mesh_lookup.h"

/* 0: nobody that meshd asks about. */
static __always_inline __u32 holder_of(struct sock *sk)
{
	struct socket_alloc *outer = (struct socket_alloc *)sk->sk_socket;
	__u64 inode = outer ? BPF_CORE_READ(outer, vfs_inode.i_ino) : 0;
	__u32 *holder = bpf_map_lookup_elem(&mesh_holders, &inode);

	return holder ? *holder : 0;
}
