/* Between the kernel's address structures and ours; for the C files of this target only. */
#pragma once

#include "clinux_tcp.h"

/* -1 with errno for other families. */
int clinux_endpoint_of(const struct sockaddr_storage *storage, struct clinux_endpoint *endpoint);
/* The length of what was filled in. */
socklen_t clinux_fill_sockaddr(struct sockaddr_storage *storage, const struct clinux_endpoint *endpoint, int ipv6);
