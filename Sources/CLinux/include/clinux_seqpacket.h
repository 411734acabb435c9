/* Unix sockets with descriptors beside the bytes: the CMSG_* macros have no Swift form. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#define CLINUX_DESCRIPTORS_MAX 128

/* Sends one message; -1 with errno. MSG_NOSIGNAL always. */
ssize_t clinux_send_message(int socket, const void *bytes, size_t length, const int *descriptors, int count, int flags);

/*
 * Receives one message with its descriptors (CLOEXEC). *count is in: room, out: how many came. *truncated becomes 1
 * when bytes or descriptors did not fit; the kernel has then closed the descriptors without room.
 */
ssize_t clinux_receive_message(int socket, void *bytes, size_t length, int *descriptors, int *count, int *truncated,
			       int flags);

int clinux_accept(int listener); /* accept4 with CLOEXEC and NONBLOCK */

struct clinux_peer {
	int32_t pid;
	uint32_t uid;
	uint32_t gid;
};

int clinux_peer_credentials(int socket, struct clinux_peer *peer);
/* pidfd of the peer process (Linux 6.5), or -1 with errno. */
int clinux_peer_pidfd(int socket);
