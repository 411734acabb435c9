/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * The private socket options (level MESH_SOL) by which the mesh's own sockets speak with the BPF programs, as part of
 * mesh_abi.h, which includes this.
 */
#pragma once

#define MESH_SOL 0x4d53
#define MESH_SO_ACCEPTED 1 /* get, struct mesh_socket: what came with an accepted socket; ENOENT without a hand-over */
#define MESH_SO_PRESENT 2 /* set, struct mesh_present, on a dial socket */
#define MESH_SO_BEAT 3 /* set, struct mesh_beat, on a listener */
#define MESH_SO_PURPOSE 4 /* set, struct mesh_purpose, once, by the socket maker */
#define MESH_SO_ASKER 6 /* set, struct mesh_asker, on a dial socket for names, before it connects */
#define MESH_SO_QUESTION 5 /* on a names listener: set, struct mesh_question_key, then get, struct mesh_question */

struct mesh_present {
	struct mesh_endpoint client; /* what the application's accept() and getpeername() show */
	__u32 peer_principal;
	__u32 policy_generation;
};

enum __attribute__((enum_extensibility(closed))) mesh_listener_state {
	MESH_LISTENER_SERVING = 1,
	MESH_LISTENER_OVERLOADED = 2,
	MESH_LISTENER_DRAINING = 3,
};

struct mesh_beat {
	__u32 state; /* enum mesh_listener_state */
	__u32 pad;
};

enum __attribute__((enum_extensibility(closed))) mesh_purpose_kind {
	MESH_PURPOSE_LISTENER = 1,
	MESH_PURPOSE_APPLICATION = 2, /* may connect to local destinations of this network namespace */
	MESH_PURPOSE_TUNNEL = 3, /* may connect to the tunnel port of a node */
	MESH_PURPOSE_NAMES = 4, /* may connect to the DNS port of a resolver that a workload of its namespace asked */
};

/* What came with a datagram at a names listener: who asks, and which resolver it meant. */
struct mesh_question_key {
	struct mesh_endpoint client;
	struct mesh_endpoint listener;
	__u32 netns; /* meshd's number; the kernel side takes the listener's own, whatever is written here */
};

struct mesh_question {
	__u8 version;
	__u8 pad[3];
	__u32 workload;
	struct mesh_endpoint resolver;
};

/* Whose questions a connection to a resolver carries: a resolver of the workload's own hears them, as from itself. */
struct mesh_asker {
	__u32 workload;
	__u32 pad;
};

struct mesh_purpose {
	__u32 kind; /* enum mesh_purpose_kind */
	__u32 netns; /* meshd's number of the network namespace */
};
