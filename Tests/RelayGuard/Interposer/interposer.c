/* Preloaded into the shipped proxy: counts allocations and system calls in shared memory, and answers the private socket
 * options that bpf/ answers in production, so that the proxy relays without the kernel side. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../Shared/include/relay_guard.h"

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static struct relay_shared own;
static struct relay_shared *shared = &own;
static struct relay_counts *counts = &own.counts[0];

__attribute__((constructor)) static void start(void)
{
	const char *path = getenv("RELAY_GUARD_SHARED");
	const char *slot = getenv("RELAY_GUARD_SLOT");
	int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *mapping;

	if (file < 0 || !slot)
		abort();
	mapping = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (mapping == MAP_FAILED)
		abort();
	close(file);
	shared = mapping;
	counts = &shared->counts[*slot == '1'];
}

static void allocated(void) { __atomic_add_fetch(&counts->allocations, 1, __ATOMIC_RELAXED); }
static void called(enum relay_call call) { __atomic_add_fetch(&counts->calls[call], 1, __ATOMIC_RELAXED); }

void *malloc(size_t size)
{
	allocated();
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	allocated();
	return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
	allocated();
	return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size)
{
	allocated();
	return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size)
{
	*memory = memalign(alignment, size);
	return *memory ? 0 : ENOMEM;
}

/* The C library's own function of the same name. */
#define NEXT(name) ((__typeof__(&name))next(#name))
static void *next(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (!function)
		abort();
	return function;
}

#define COUNTED(call, type, name, parameters, ...)                                                                     \
	type name parameters                                                                                           \
	{                                                                                                              \
		static __typeof__(&name) real;                                                                         \
		if (!real)                                                                                             \
			real = NEXT(name);                                                                             \
		called(call);                                                                                          \
		return real(__VA_ARGS__);                                                                              \
	}

COUNTED(RELAY_CALL_EPOLL_WAIT, int, epoll_wait, (int e, struct epoll_event *v, int n, int ms), e, v, n, ms)
COUNTED(RELAY_CALL_READ, ssize_t, recv, (int s, void *b, size_t n, int f), s, b, n, f)
COUNTED(RELAY_CALL_READ, ssize_t, read, (int s, void *b, size_t n), s, b, n)
COUNTED(RELAY_CALL_READ, ssize_t, readv, (int s, const struct iovec *v, int n), s, v, n)
COUNTED(RELAY_CALL_WRITE, ssize_t, send, (int s, const void *b, size_t n, int f), s, b, n, f)
COUNTED(RELAY_CALL_WRITE, ssize_t, write, (int s, const void *b, size_t n), s, b, n)
COUNTED(RELAY_CALL_WRITE, ssize_t, writev, (int s, const struct iovec *v, int n), s, v, n)
COUNTED(RELAY_CALL_OTHER, int, accept4, (int s, struct sockaddr *a, socklen_t *n, int f), s, a, n, f)
COUNTED(RELAY_CALL_OTHER, int, connect, (int s, const struct sockaddr *a, socklen_t n), s, a, n)
COUNTED(RELAY_CALL_OTHER, int, shutdown, (int s, int how), s, how)
COUNTED(RELAY_CALL_OTHER, int, close, (int s), s)
COUNTED(RELAY_CALL_OTHER, int, epoll_ctl, (int e, int o, int s, struct epoll_event *v), e, o, s, v)
COUNTED(RELAY_CALL_OTHER, int, getpeername, (int s, struct sockaddr *a, socklen_t *n), s, a, n)

int setsockopt(int socket, int level, int name, const void *value, socklen_t length)
{
	static __typeof__(&setsockopt) real;

	if (!real)
		real = NEXT(setsockopt);
	called(RELAY_CALL_OTHER);
	if (level == MESH_SOL)
		return 0;
	return real(socket, level, name, value, length);
}

int getsockopt(int socket, int level, int name, void *value, socklen_t *length)
{
	static __typeof__(&getsockopt) real;
	struct sockaddr_in peer;
	socklen_t size = sizeof(peer);

	if (!real)
		real = NEXT(getsockopt);
	called(RELAY_CALL_OTHER);
	if (level != MESH_SOL)
		return real(socket, level, name, value, length);
	if (*length < sizeof(struct mesh_socket) || NEXT(getpeername)(socket, (struct sockaddr *)&peer, &size) < 0) {
		errno = ENOENT;
		return -1;
	}
	memcpy(value, &shared->captured, sizeof(struct mesh_socket));
	((struct mesh_socket *)value)->source.port_be = peer.sin_port;
	*length = sizeof(struct mesh_socket);
	return 0;
}
