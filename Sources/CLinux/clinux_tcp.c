/* TCP sockets: addresses of both families as one structure, options, resets, TCP_INFO. */
#define _GNU_SOURCE
#include "clinux_tcp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <endian.h>
#include <errno.h>
#include <linux/tcp.h>
#include <string.h>
#include <unistd.h>

#include "clinux_sockaddr.h"

#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif

int clinux_endpoint_of(const struct sockaddr_storage *storage, struct clinux_endpoint *endpoint)
{
	uint64_t words[2];

	if (storage->ss_family == AF_INET) {
		const struct sockaddr_in *address = (const struct sockaddr_in *)storage;

		endpoint->high = 0;
		endpoint->low = 0xffff00000000ull | ntohl(address->sin_addr.s_addr);
		endpoint->port = ntohs(address->sin_port);
		return 0;
	}
	if (storage->ss_family == AF_INET6) {
		const struct sockaddr_in6 *address = (const struct sockaddr_in6 *)storage;

		memcpy(words, &address->sin6_addr, sizeof(words));
		endpoint->high = be64toh(words[0]);
		endpoint->low = be64toh(words[1]);
		endpoint->port = ntohs(address->sin6_port);
		return 0;
	}
	errno = EAFNOSUPPORT;
	return -1;
}

socklen_t clinux_fill_sockaddr(struct sockaddr_storage *storage, const struct clinux_endpoint *endpoint, int ipv6)
{
	uint64_t words[2] = { htobe64(endpoint->high), htobe64(endpoint->low) };

	memset(storage, 0, sizeof(*storage));
	if (!ipv6) {
		struct sockaddr_in *address = (struct sockaddr_in *)storage;

		address->sin_family = AF_INET;
		address->sin_addr.s_addr = htonl((uint32_t)endpoint->low);
		address->sin_port = htons(endpoint->port);
		return sizeof(*address);
	}
	struct sockaddr_in6 *address = (struct sockaddr_in6 *)storage;

	address->sin6_family = AF_INET6;
	memcpy(&address->sin6_addr, words, sizeof(words));
	address->sin6_port = htons(endpoint->port);
	return sizeof(*address);
}

int clinux_peer_endpoint(int socket, struct clinux_endpoint *endpoint)
{
	struct sockaddr_storage storage;
	socklen_t length = sizeof(storage);

	if (getpeername(socket, (struct sockaddr *)&storage, &length) < 0)
		return -1;
	return clinux_endpoint_of(&storage, endpoint);
}

int clinux_local_endpoint(int socket, struct clinux_endpoint *endpoint)
{
	struct sockaddr_storage storage;
	socklen_t length = sizeof(storage);

	if (getsockname(socket, (struct sockaddr *)&storage, &length) < 0)
		return -1;
	return clinux_endpoint_of(&storage, endpoint);
}

int clinux_connect_endpoint(int socket, const struct clinux_endpoint *endpoint, int ipv6)
{
	struct sockaddr_storage storage;
	socklen_t length = clinux_fill_sockaddr(&storage, endpoint, ipv6);

	return connect(socket, (struct sockaddr *)&storage, length) < 0 ? errno : 0;
}

int clinux_bind_endpoint(int socket, const struct clinux_endpoint *endpoint, int ipv6)
{
	struct sockaddr_storage storage;
	socklen_t length = clinux_fill_sockaddr(&storage, endpoint, ipv6);

	return bind(socket, (struct sockaddr *)&storage, length) < 0 ? errno : 0;
}

uint64_t clinux_socket_cookie(int socket)
{
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);

	return getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0 ? 0 : cookie;
}

int clinux_socket_error(int socket)
{
	int error = 0;
	socklen_t length = sizeof(error);

	return getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? errno : error;
}

int clinux_tcp_set_option(int socket, int level, int name, int value)
{
	return setsockopt(socket, level, name, &value, sizeof(value)) < 0 ? errno : 0;
}

int clinux_tcp_set_bytes(int socket, int level, int name, const void *bytes, size_t length)
{
	return setsockopt(socket, level, name, bytes, (socklen_t)length) < 0 ? errno : 0;
}

int clinux_tcp_get_bytes(int socket, int level, int name, void *bytes, size_t length)
{
	socklen_t size = (socklen_t)length;

	return getsockopt(socket, level, name, bytes, &size) < 0 ? -errno : (int)size;
}

int clinux_tcp_statistics(int socket, struct clinux_tcp_statistics *statistics)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return -1;
	statistics->rtt_us = info.tcpi_rtt;
	statistics->retransmits = info.tcpi_total_retrans;
	statistics->unacknowledged = info.tcpi_unacked;
	statistics->segment_size = info.tcpi_snd_mss;
	statistics->segments_sent = info.tcpi_data_segs_out;
	statistics->segments_received = info.tcpi_data_segs_in;
	statistics->out_of_order = info.tcpi_rcv_ooopack;
	return 0;
}

void clinux_close_with_reset(int socket)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	(void)close(socket);
}
