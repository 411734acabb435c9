/* What the header says of processes' roots. */
#define _GNU_SOURCE
#include "clinux_root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_in_root(const char *root, const char *path, unsigned long long flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC), number, error;

	if (directory < 0)
		return -1;
	number = (int)syscall(SYS_openat2, directory, path, &how, sizeof(how));
	error = errno;
	close(directory);
	errno = error;
	return number;
}

static int kind_of(int number, mode_t *kind)
{
	struct stat status;

	if (number < 0 || fstat(number, &status) < 0)
		return -1;
	*kind = status.st_mode & S_IFMT;
	return 0;
}

int clinux_open_in_root(const char *root, const char *path)
{
	int number = open_in_root(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	mode_t kind;

	if (number < 0)
		return -1;
	if (kind_of(number, &kind) == 0 && kind == S_IFREG)
		return number;
	close(number);
	errno = EINVAL;
	return -1;
}

int clinux_is_socket_in_root(const char *root, const char *path)
{
	int number = open_in_root(root, path, O_PATH);
	mode_t kind;
	int is_socket = kind_of(number, &kind) == 0 && kind == S_IFSOCK;

	if (number >= 0)
		close(number);
	return is_socket;
}
