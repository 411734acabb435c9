/* Asks the kernel for the TCP sockets of a network namespace, and to end one of them (sock_diag). */
#define _GNU_SOURCE
#include "clinux_sock_diag.h"

#include <endian.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECONDS_MAX 2

struct request {
	struct nlmsghdr header;
	struct inet_diag_req_v2 body;
};

static int is_mapped(const struct clinux_endpoint *endpoint)
{
	return !endpoint->high && endpoint->low >> 32 == 0xffff;
}

static void put_address(__be32 words[4], const struct clinux_endpoint *endpoint, int ipv4)
{
	uint64_t whole[2] = { htobe64(endpoint->high), htobe64(endpoint->low) };

	if (ipv4)
		words[0] = htobe32((uint32_t)endpoint->low);
	else
		memcpy(words, whole, sizeof(whole));
}

static int exchange(int netlink, const struct request *request)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[512];
	} answer;
	ssize_t length;

	if (send(netlink, request, sizeof(*request), 0) != (ssize_t)sizeof(*request))
		return errno;
	length = recv(netlink, &answer, sizeof(answer), 0);
	if (length < 0)
		return errno;
	if ((size_t)length < sizeof(answer.header) + sizeof(int) || answer.header.nlmsg_type != NLMSG_ERROR)
		return EPROTO;
	return -answer.error.error;
}

int clinux_destroy_tcp(const struct clinux_endpoint *local, const struct clinux_endpoint *remote, uint32_t device,
		       uint64_t cookie)
{
	int ipv4 = is_mapped(local) && is_mapped(remote);
	struct request request = {
		.header = { .nlmsg_len = sizeof(request),
			    .nlmsg_type = SOCK_DESTROY,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.body = { .sdiag_family = ipv4 ? AF_INET : AF_INET6,
			  .sdiag_protocol = IPPROTO_TCP,
			  .idiag_states = ~0u,
			  .id = { .idiag_sport = htons(local->port),
				  .idiag_dport = htons(remote->port),
				  .idiag_if = device,
				  .idiag_cookie = { (uint32_t)cookie, (uint32_t)(cookie >> 32) } } },
	};
	struct timeval limit = { .tv_sec = SECONDS_MAX };
	int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	int code;

	if (netlink < 0)
		return errno;
	put_address(request.body.id.idiag_src, local, ipv4);
	put_address(request.body.id.idiag_dst, remote, ipv4);
	setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	code = exchange(netlink, &request);
	close(netlink);
	return code;
}
