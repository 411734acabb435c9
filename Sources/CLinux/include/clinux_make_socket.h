/* Sockets as the socket maker makes them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int clinux_tcp_socket(int is_ipv6); /* NONBLOCK, CLOEXEC; IPv6 ones are V6ONLY */
int clinux_udp_socket(int is_ipv6); /* the same */
/*
 * Binds with SO_REUSEADDR, SO_REUSEPORT and FREEBIND and listens. address: 4 or 16 bytes in network order. backlog 0: a
 * datagram socket, which only binds, and without SO_REUSEADDR, by which another's could take its datagrams.
 */
int clinux_listen(int socket, int is_ipv6, const uint8_t *address, uint16_t port, int backlog);
int clinux_set_option(int socket, int level, int name, const void *value, size_t size);
int clinux_loopback_up(void); /* brings `lo` of the calling thread's network namespace up */
