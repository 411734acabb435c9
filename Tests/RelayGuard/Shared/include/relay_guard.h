/* What the guards' harness and the library that it preloads into the proxies share, and the marks for callgrind. */
#pragma once

#include <stdint.h>

#include "mesh_abi.h"

enum relay_call {
	RELAY_CALL_EPOLL_WAIT,
	RELAY_CALL_READ, /* recv, read, readv */
	RELAY_CALL_WRITE, /* send, write, writev */
	RELAY_CALL_OTHER, /* accept, connect, close, shutdown, epoll_ctl, options */
	RELAY_CALLS,
};

/* One process's counters. */
struct relay_counts {
	uint64_t allocations;
	uint64_t calls[RELAY_CALLS];
};

/* The shared file: `counts` by RELAY_GUARD_SLOT, and what the first proxy is told about each captured connection, its
 * source port filled in from the socket. */
struct relay_shared {
	struct relay_counts counts[2];
	struct mesh_socket captured;
};

/* Names what was counted since the last mark and begins anew. Does nothing outside callgrind. */
void relay_mark(const char *name);
/* From here on what this thread does is not counted, or is again. */
void relay_toggle_counting(void);
