/* TCP sockets of the data plane: addresses as two numbers, both families alike, and options without a Swift form. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* An address in host order, IPv4 mapped into IPv6, as in bpf/abi. */
struct clinux_endpoint {
	uint64_t high;
	uint64_t low;
	uint16_t port;
};

/* -1 with errno; ENOTCONN without a peer. */
int clinux_peer_endpoint(int socket, struct clinux_endpoint *endpoint);
int clinux_local_endpoint(int socket, struct clinux_endpoint *endpoint);

/* Begins a connection. `ipv6` says the socket's family. 0, or errno (EINPROGRESS as a rule). */
int clinux_connect_endpoint(int socket, const struct clinux_endpoint *endpoint, int ipv6);

/* For tests and for sockets of one's own: binds, address given as above. 0 or errno. */
int clinux_bind_endpoint(int socket, const struct clinux_endpoint *endpoint, int ipv6);

/* The kernel's number of the socket, never reused; 0 when it has none. */
uint64_t clinux_socket_cookie(int socket);

/* SO_ERROR, which reading clears. */
int clinux_socket_error(int socket);

/* 0 or errno. */
int clinux_tcp_set_option(int socket, int level, int name, int value);
int clinux_tcp_set_bytes(int socket, int level, int name, const void *bytes, size_t length);
/* Length on success, or minus errno. */
int clinux_tcp_get_bytes(int socket, int level, int name, void *bytes, size_t length);

struct clinux_tcp_statistics {
	uint32_t rtt_us;
	uint32_t retransmits;
	uint32_t unacknowledged;
	uint32_t segment_size;
	/* With data, retransmitted ones included. */
	uint32_t segments_sent;
	uint32_t segments_received;
	/* Of those received: came before one that was missing (Linux 5.4; 0 before). */
	uint32_t out_of_order;
};

int clinux_tcp_statistics(int socket, struct clinux_tcp_statistics *statistics);

/* Closes with a TCP reset in place of FIN (SO_LINGER 0). */
void clinux_close_with_reset(int socket);
