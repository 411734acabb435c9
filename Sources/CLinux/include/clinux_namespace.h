/* Network namespaces. */
#pragma once

#include <stdint.h>

int clinux_enter_network_namespace(int descriptor); /* setns(CLONE_NEWNET): the calling thread only */
int clinux_network_namespace_cookie(int socket, uint64_t *cookie); /* SO_NETNS_COOKIE */
int clinux_unshare_network(void);
