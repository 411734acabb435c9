/*
 * Test-only: one attempt behind the proxy's own filter, or a program started where no filter can be set. ConfinedProxyTests
 * and TakenOverTests run it and read its exit status; it shares clinux_confine_proxy() with the product. Attempts with a
 * socket get its descriptor from whoever starts it, as the proxy gets its sockets from meshd.
 */
#define _GNU_SOURCE
#include <clinux_seccomp.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MESH_SOL 0x4d53
#define OPTION_BYTES_MAX 64

/* What follows the name of an attempt. */
struct words {
	char *const *word;
	int count;
};

struct attempt {
	const char *name;
	long (*run)(const struct words *words);
};

static char *const no_words[] = { NULL };

static char space[8];
static const struct iovec some_bytes = { .iov_base = space, .iov_len = sizeof(space) };

static const char *word(const struct words *words, int index) { return index < words->count ? words->word[index] : ""; }
static int number(const struct words *words, int index) { return atoi(word(words, index)); }

static socklen_t endpoint(const struct words *words, struct sockaddr_storage *address)
{
	struct sockaddr_in *four = (struct sockaddr_in *)address;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, word(words, 1), &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)number(words, 2));
		return sizeof(*four);
	}
	inet_pton(AF_INET6, word(words, 1), &six->sin6_addr);
	six->sin6_family = AF_INET6;
	six->sin6_port = htons((uint16_t)number(words, 2));
	return sizeof(*six);
}

static long try_open(const struct words *words) { return open(words->count ? word(words, 0) : "/etc/hostname", O_RDONLY); }
static long try_create(const struct words *words)
{
	(void)words;
	return open("/tmp/confinement-fixture", O_WRONLY | O_CREAT, 0600);
}

#define WITHOUT_WORDS(name, call)                                                                                      \
	static long try_##name(const struct words *words)                                                              \
	{                                                                                                              \
		(void)words;                                                                                           \
		return call;                                                                                           \
	}

WITHOUT_WORDS(inet, socket(AF_INET, SOCK_STREAM, 0))
WITHOUT_WORDS(inet6, socket(AF_INET6, SOCK_DGRAM, 0))
WITHOUT_WORDS(packet, socket(AF_PACKET, SOCK_RAW, 0))
WITHOUT_WORDS(netlink, socket(AF_NETLINK, SOCK_RAW, 0))
WITHOUT_WORDS(unix_stream, socket(AF_UNIX, SOCK_STREAM, 0))
WITHOUT_WORDS(unix_seqpacket, socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0))
WITHOUT_WORDS(kill, syscall(SYS_kill, getppid(), 0))
WITHOUT_WORDS(clone, syscall(SYS_clone, 0, 0, 0, 0, 0))
WITHOUT_WORDS(execve, execve("/bin/true", no_words, no_words))
WITHOUT_WORDS(bpf, syscall(SYS_bpf, 0, NULL, 0))
WITHOUT_WORDS(setns, setns(open("/proc/self/ns/net", O_RDONLY), CLONE_NEWNET))
WITHOUT_WORDS(unshare, unshare(CLONE_NEWUSER))
WITHOUT_WORDS(ptrace, ptrace(PTRACE_TRACEME, 0, NULL, NULL))
WITHOUT_WORDS(mount, mount("none", "/", NULL, MS_REMOUNT | MS_BIND, NULL))
WITHOUT_WORDS(io_uring, syscall(SYS_io_uring_setup, 1, NULL))
WITHOUT_WORDS(pidfd, syscall(SYS_pidfd_open, getppid(), 0))
WITHOUT_WORDS(pidfd_getfd, syscall(SYS_pidfd_getfd, 0, 0, 0))
WITHOUT_WORDS(read_memory, syscall(SYS_process_vm_readv, getppid(), &some_bytes, 1, &some_bytes, 1, 0))
WITHOUT_WORDS(write_memory, syscall(SYS_process_vm_writev, getppid(), &some_bytes, 1, &some_bytes, 1, 0))

/* A pinned map, for which a verdict could be written. */
static long try_map(const struct words *words)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.pathname = (uint64_t)(uintptr_t)word(words, 0);
	return syscall(SYS_bpf, BPF_OBJ_GET, &attributes, sizeof(attributes));
}

static long try_connect(const struct words *words)
{
	struct sockaddr_storage address;
	socklen_t length = endpoint(words, &address);

	return connect(number(words, 0), (struct sockaddr *)&address, length);
}

/* As new again, as connect() with AF_UNSPEC makes a socket. */
static long try_reconnect(const struct words *words)
{
	struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

	return connect(number(words, 0), &nowhere, sizeof(nowhere)) < 0 ? -1 : try_connect(words);
}

static long send_with(const struct words *words, int flags)
{
	struct sockaddr_storage address;
	socklen_t length = endpoint(words, &address);

	return sendto(number(words, 0), "?", 1, flags | MSG_NOSIGNAL, (struct sockaddr *)&address, length);
}

static long try_send(const struct words *words) { return send_with(words, 0); }
static long try_fast_open(const struct words *words) { return send_with(words, MSG_FASTOPEN); }

static long try_bind(const struct words *words)
{
	struct sockaddr_storage address;
	socklen_t length = endpoint(words, &address);

	return bind(number(words, 0), (struct sockaddr *)&address, length);
}

static long try_listen(const struct words *words) { return listen(number(words, 0), 1); }

/* DESCRIPTOR OPTION NUMBER…: one of the mesh's own options, its value made of these. */
static long try_option(const struct words *words)
{
	uint32_t value[OPTION_BYTES_MAX / sizeof(uint32_t)] = { 0 };
	int count = 0;

	for (; count + 2 < words->count && count < OPTION_BYTES_MAX / (int)sizeof(uint32_t); count++)
		value[count] = (uint32_t)strtoul(word(words, count + 2), NULL, 0);
	return setsockopt(number(words, 0), MESH_SOL, number(words, 1), value, (socklen_t)(count * sizeof(uint32_t)));
}

static const struct attempt attempts[] = {
	{ "open", try_open },
	{ "create", try_create },
	{ "inet", try_inet },
	{ "inet6", try_inet6 },
	{ "packet", try_packet },
	{ "netlink", try_netlink },
	{ "unix-stream", try_unix_stream },
	{ "unix-seqpacket", try_unix_seqpacket },
	{ "kill", try_kill },
	{ "clone", try_clone },
	{ "pidfd", try_pidfd },
	{ "execve", try_execve },
	{ "bpf", try_bpf },
	{ "setns", try_setns },
	{ "unshare", try_unshare },
	{ "ptrace", try_ptrace },
	{ "mount", try_mount },
	{ "io-uring", try_io_uring },
	{ "pidfd-getfd", try_pidfd_getfd },
	{ "read-memory", try_read_memory },
	{ "write-memory", try_write_memory },
	{ "map", try_map },
	{ "connect", try_connect },
	{ "reconnect", try_reconnect },
	{ "send", try_send },
	{ "fast-open", try_fast_open },
	{ "bind", try_bind },
	{ "listen", try_listen },
	{ "option", try_option },
};

/* Ends with the errno of the attempt, 0 where it is allowed; a call that the filter kills for ends by SIGSYS. */
static int attempt(const char *name, const struct words *words, int is_confined)
{
	for (size_t index = 0; index < sizeof(attempts) / sizeof(attempts[0]); index++) {
		if (strcmp(attempts[index].name, name) != 0)
			continue;
		if (is_confined ? clinux_confine_proxy() != 0 : prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			return 101;
		return attempts[index].run(words) < 0 ? errno : 0;
	}
	return 102;
}

/* As on a kernel, or in a container, that lets nobody set a filter. */
static int without_seccomp(char *const *words)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	if (!filter || seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(seccomp), 0) != 0 ||
	    seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prctl), 1,
			     SCMP_A0(SCMP_CMP_EQ, PR_SET_SECCOMP)) != 0 ||
	    seccomp_load(filter) != 0)
		return 103;
	execv(words[0], words);
	return 104;
}

int main(int count, char **words)
{
	struct words rest = { .word = words + 3, .count = count - 3 };

	if (count >= 3 && strcmp(words[1], "try") == 0)
		return attempt(words[2], &rest, 1);
	if (count >= 3 && strcmp(words[1], "try-unfiltered") == 0)
		return attempt(words[2], &rest, 0);
	if (count > 2 && strcmp(words[1], "without-seccomp") == 0)
		return without_seccomp(words + 2);
	fprintf(stderr, "usage: confinement-fixture try|try-unfiltered CALL [WORD…] | without-seccomp PROGRAM "
			"ARGUMENT...\n");
	return 64;
}
