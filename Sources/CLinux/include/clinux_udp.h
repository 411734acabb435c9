/* Datagram sockets of the data plane. */
#pragma once

#include "clinux_tcp.h"

/* One datagram and its sender; the number of bytes, longer ones cut off, or minus errno. */
ssize_t clinux_receive_from(int socket, void *bytes, size_t size, struct clinux_endpoint *sender);
/* `ipv6` says the socket's family. The number of bytes, or minus errno. */
ssize_t clinux_send_to(int socket, const void *bytes, size_t count, const struct clinux_endpoint *receiver, int ipv6);
/* Takes a connected socket back to where it was made: without peer and without port. 0 or errno. */
int clinux_disconnect(int socket);
