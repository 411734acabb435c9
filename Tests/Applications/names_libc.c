/* Looks a name up by the C library that this is linked with, and prints its addresses in the library's order. */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>

int main(int count, char **arguments)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
	int failed = count < 2 ? EAI_NONAME : getaddrinfo(arguments[1], "80", &hints, &found);
	char text[INET6_ADDRSTRLEN];

	if (failed) {
		puts(gai_strerror(failed));
		return 1;
	}
	for (; found; found = found->ai_next) {
		const void *address = found->ai_family == AF_INET
					      ? (const void *)&((struct sockaddr_in *)found->ai_addr)->sin_addr
					      : (const void *)&((struct sockaddr_in6 *)found->ai_addr)->sin6_addr;

		puts(inet_ntop(found->ai_family, address, text, sizeof(text)));
	}
	return 0;
}
