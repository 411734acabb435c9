/*
 * Test-only: one attempt of a system call behind the proxy's own filter, or a program started where no filter can be
 * set. ConfinedProxyTests runs it and reads its exit status; it shares clinux_confine_proxy() with the product.
 */
#define _GNU_SOURCE
#include <clinux_seccomp.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct attempt {
	const char *name;
	long (*run)(void);
};

static char *const no_words[] = { NULL };

static long try_open(void) { return open("/etc/hostname", O_RDONLY); }
static long try_create(void) { return open("/tmp/confinement-fixture", O_WRONLY | O_CREAT, 0600); }
static long try_inet(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static long try_inet6(void) { return socket(AF_INET6, SOCK_DGRAM, 0); }
static long try_packet(void) { return socket(AF_PACKET, SOCK_RAW, 0); }
static long try_netlink(void) { return socket(AF_NETLINK, SOCK_RAW, 0); }
static long try_unix_stream(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }
static long try_unix_seqpacket(void) { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0); }
static long try_kill(void) { return syscall(SYS_kill, getppid(), 0); }
static long try_clone(void) { return syscall(SYS_clone, 0, 0, 0, 0, 0); }
static long try_execve(void) { return execve("/bin/true", no_words, no_words); }
static long try_bpf(void) { return syscall(SYS_bpf, 0, NULL, 0); }
static long try_setns(void) { return setns(0, CLONE_NEWNET); }
static long try_unshare(void) { return unshare(CLONE_NEWUSER); }
static long try_ptrace(void) { return ptrace(PTRACE_TRACEME, 0, NULL, NULL); }
static long try_mount(void) { return mount("none", "/", NULL, MS_REMOUNT | MS_BIND, NULL); }
static long try_io_uring(void) { return syscall(SYS_io_uring_setup, 1, NULL); }

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
	{ "execve", try_execve },
	{ "bpf", try_bpf },
	{ "setns", try_setns },
	{ "unshare", try_unshare },
	{ "ptrace", try_ptrace },
	{ "mount", try_mount },
	{ "io-uring", try_io_uring },
};

/* Ends with the errno of the attempt, 0 where it is allowed; a call that the filter kills for ends by SIGSYS. */
static int attempt(const char *name)
{
	for (size_t index = 0; index < sizeof(attempts) / sizeof(attempts[0]); index++) {
		if (strcmp(attempts[index].name, name) != 0)
			continue;
		if (clinux_confine_proxy() != 0)
			return 101;
		return attempts[index].run() < 0 ? errno : 0;
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
	if (count == 3 && strcmp(words[1], "try") == 0)
		return attempt(words[2]);
	if (count > 2 && strcmp(words[1], "without-seccomp") == 0)
		return without_seccomp(words + 2);
	fprintf(stderr, "usage: confinement-fixture try CALL | without-seccomp PROGRAM ARGUMENT...\n");
	return 64;
}
