/* Entering and telling apart network namespaces. */
#define _GNU_SOURCE
#include "clinux_namespace.h"

#include <sched.h>
#include <sys/socket.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

int clinux_enter_network_namespace(int descriptor) { return setns(descriptor, CLONE_NEWNET); }
int clinux_unshare_network(void) { return unshare(CLONE_NEWNET); }

int clinux_network_namespace_cookie(int socket, uint64_t *cookie)
{
	socklen_t length = sizeof(*cookie);

	return getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &length);
}
