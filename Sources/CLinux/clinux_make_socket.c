/* Makes a socket in one step with what it must have from its first moment. */
#define _GNU_SOURCE
#include "clinux_make_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

static int make_socket(int is_ipv6, int type, int protocol)
{
	int one = 1, error;
	int number = socket(is_ipv6 ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);

	if (number >= 0 && is_ipv6 && setsockopt(number, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) {
		error = errno;
		close(number);
		errno = error;
		return -1;
	}
	return number;
}

int clinux_tcp_socket(int is_ipv6) { return make_socket(is_ipv6, SOCK_STREAM, IPPROTO_TCP); }
int clinux_udp_socket(int is_ipv6) { return make_socket(is_ipv6, SOCK_DGRAM, IPPROTO_UDP); }

int clinux_listen(int socket, int is_ipv6, const uint8_t *address, uint16_t port, int backlog)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1;

	/* An address that is not there yet (IPv6 duplicate detection, an interface that comes later) is no error. */
	if ((backlog > 0 && setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0) ||
	    setsockopt(socket, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) < 0 ||
	    setsockopt(socket, is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, is_ipv6 ? IPV6_FREEBIND : IP_FREEBIND, &one,
		       sizeof(one)) < 0)
		return -1;
	memcpy(&in6.sin6_addr, address, is_ipv6 ? 16 : 0);
	memcpy(&in.sin_addr, address, is_ipv6 ? 0 : 4);
	if (bind(socket, is_ipv6 ? (void *)&in6 : (void *)&in, is_ipv6 ? sizeof(in6) : sizeof(in)) < 0)
		return -1;
	return backlog > 0 ? listen(socket, backlog) : 0;
}

int clinux_set_option(int socket, int level, int name, const void *value, size_t size)
{
	return setsockopt(socket, level, name, value, (socklen_t)size);
}

int clinux_loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo" };
	int number = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int result = -1, error;

	if (number < 0)
		return -1;
	if (ioctl(number, SIOCGIFFLAGS, &request) == 0) {
		if (request.ifr_flags & IFF_UP) {
			result = 0;
		} else {
			request.ifr_flags |= IFF_UP;
			result = ioctl(number, SIOCSIFFLAGS, &request);
		}
	}
	error = errno;
	close(number);
	errno = error;
	return result;
}
