/* Whole messages with descriptors beside them, and who is at the other end. */
#define _GNU_SOURCE
#include "clinux_seqpacket.h"

#include <errno.h>
#include <string.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

ssize_t clinux_send_message(int socket, const void *bytes, size_t length, const int *descriptors, int count, int flags)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * CLINUX_DESCRIPTORS_MAX)];
	} control;
	struct iovec vector = { .iov_base = (void *)bytes, .iov_len = length };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };
	ssize_t sent;

	if (count < 0 || count > CLINUX_DESCRIPTORS_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (count > 0) {
		size_t size = sizeof(int) * (size_t)count;
		struct cmsghdr *header;

		memset(&control, 0, sizeof(control));
		message.msg_control = control.space;
		message.msg_controllen = CMSG_SPACE(size);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(size);
		memcpy(CMSG_DATA(header), descriptors, size);
	}
	do {
		sent = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	return sent;
}

ssize_t clinux_receive_message(int socket, void *bytes, size_t length, int *descriptors, int *count, int *truncated,
			       int flags)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * CLINUX_DESCRIPTORS_MAX)];
	} control;
	struct iovec vector = { .iov_base = bytes, .iov_len = length };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1 };
	int room = *count < CLINUX_DESCRIPTORS_MAX ? *count : CLINUX_DESCRIPTORS_MAX;
	ssize_t received;

	*count = 0;
	*truncated = 0;
	message.msg_control = room > 0 ? control.space : NULL;
	message.msg_controllen = room > 0 ? CMSG_LEN(sizeof(int) * (size_t)room) : 0;
	do {
		received = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
	} while (received < 0 && errno == EINTR);
	if (received < 0)
		return -1;
	for (struct cmsghdr *header = room > 0 ? CMSG_FIRSTHDR(&message) : NULL; header;
	     header = CMSG_NXTHDR(&message, header)) {
		size_t size;

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		size = header->cmsg_len - CMSG_LEN(0);
		memcpy(descriptors + *count, CMSG_DATA(header), size);
		*count += (int)(size / sizeof(int));
	}
	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		*truncated = 1;
	return received;
}

int clinux_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK); }

int clinux_peer_credentials(int socket, struct clinux_peer *peer)
{
	struct ucred credentials;
	socklen_t length = sizeof(credentials);

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0)
		return -1;
	peer->pid = credentials.pid;
	peer->uid = credentials.uid;
	peer->gid = credentials.gid;
	return 0;
}

int clinux_peer_pidfd(int socket)
{
	int descriptor = -1;
	socklen_t length = sizeof(descriptor);

	return getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &descriptor, &length) < 0 ? -1 : descriptor;
}
