/* Datagrams with the addresses that came with them: what Swift can't say of sendmsg and recvmsg. */
#define _GNU_SOURCE
#include "clinux_udp.h"

#include <errno.h>
#include <netinet/in.h>

#include "clinux_sockaddr.h"

ssize_t clinux_receive_from(int socket, void *bytes, size_t size, struct clinux_endpoint *sender)
{
	struct sockaddr_storage storage;
	socklen_t length = sizeof(storage);
	ssize_t count = recvfrom(socket, bytes, size, MSG_DONTWAIT, (struct sockaddr *)&storage, &length);

	if (count < 0)
		return -errno;
	return clinux_endpoint_of(&storage, sender) < 0 ? -errno : count;
}

ssize_t clinux_send_to(int socket, const void *bytes, size_t count, const struct clinux_endpoint *receiver, int ipv6)
{
	struct sockaddr_storage storage;
	socklen_t length = clinux_fill_sockaddr(&storage, receiver, ipv6);
	ssize_t sent = sendto(socket, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&storage, length);

	return sent < 0 ? -errno : sent;
}

int clinux_disconnect(int socket)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	return connect(socket, &none, sizeof(none)) < 0 ? errno : 0;
}
