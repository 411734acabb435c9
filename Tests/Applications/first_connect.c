/*
 * A process whose first instruction is connect(): cloned straight into a cgroup, it makes a socket and connects before
 * anything else. first_connect CGROUP ADDRESS PORT prints the errno that connect() gave, 0 for none.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int target(struct sockaddr_storage *storage, const char *address, const char *port)
{
	struct sockaddr_in *ipv4 = (struct sockaddr_in *)storage;
	struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)storage;

	memset(storage, 0, sizeof(*storage));
	if (inet_pton(AF_INET, address, &ipv4->sin_addr) == 1) {
		ipv4->sin_family = AF_INET;
		ipv4->sin_port = htons((unsigned short)atoi(port));
		return sizeof(*ipv4);
	}
	if (inet_pton(AF_INET6, address, &ipv6->sin6_addr) != 1)
		return -1;
	ipv6->sin6_family = AF_INET6;
	ipv6->sin6_port = htons((unsigned short)atoi(port));
	return sizeof(*ipv6);
}

int main(int count, char **argument)
{
	struct clone_args clone = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD };
	struct sockaddr_storage storage;
	int cgroup, length, status;
	pid_t child;

	if (count != 4 || (length = target(&storage, argument[2], argument[3])) < 0)
		return 64;
	cgroup = open(argument[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup < 0)
		return 65;
	clone.cgroup = cgroup;
	child = (pid_t)syscall(SYS_clone3, &clone, sizeof(clone));
	if (!child) {
		int connection = socket(storage.ss_family, SOCK_STREAM, 0);

		_exit(connect(connection, (struct sockaddr *)&storage, length) ? errno : 0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return 66;
	printf("%d\n", WEXITSTATUS(status));
	return 0;
}
