/* Ends TCP connections of the calling thread's network namespace from outside (SOCK_DESTROY of sock_diag). */
#pragma once

#include <stdint.h>

#include "clinux_tcp.h"

/*
 * Endpoints as the socket sees them, IPv4 mapped; `cookie` is the kernel's number of the socket: one that took the same
 * addresses meanwhile is left alone. `device`: that it is bound to, or 0. 0, or errno: ENOENT when it is gone,
 * EOPNOTSUPP where the kernel lacks CONFIG_INET_DIAG_DESTROY.
 */
int clinux_destroy_tcp(const struct clinux_endpoint *local, const struct clinux_endpoint *remote, uint32_t device,
		       uint64_t cookie);
