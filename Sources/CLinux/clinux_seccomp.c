/* The proxy's seccomp filter: which system calls serving takes, and which are an attack. */
#define _GNU_SOURCE
#include "clinux_seccomp.h"

#include <errno.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* What serving takes: sockets, epoll, memory, time, threads' locks, the end. */
static const int allowed[] = {
	SCMP_SYS(accept4), SCMP_SYS(brk), SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(close),
	SCMP_SYS(connect), SCMP_SYS(dup), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_wait), SCMP_SYS(eventfd2), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(fcntl), SCMP_SYS(fstat),
	SCMP_SYS(futex), SCMP_SYS(getpeername), SCMP_SYS(getpid), SCMP_SYS(getrandom), SCMP_SYS(getrlimit),
	SCMP_SYS(getrusage), SCMP_SYS(getsockname), SCMP_SYS(getsockopt), SCMP_SYS(gettid), SCMP_SYS(gettimeofday),
	SCMP_SYS(lseek), SCMP_SYS(madvise), SCMP_SYS(membarrier), SCMP_SYS(mmap), SCMP_SYS(mprotect), SCMP_SYS(mremap),
	SCMP_SYS(munmap), SCMP_SYS(nanosleep), SCMP_SYS(newfstatat), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(prlimit64),
	SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(restart_syscall),
	SCMP_SYS(rseq), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_yield), SCMP_SYS(sendmsg), SCMP_SYS(sendto),
	SCMP_SYS(set_robust_list), SCMP_SYS(setsockopt), SCMP_SYS(shutdown), SCMP_SYS(sigaltstack), SCMP_SYS(statx),
	SCMP_SYS(tgkill), SCMP_SYS(write), SCMP_SYS(writev),
};

/* What nobody in this process has any business with: the attempt is an attack. */
static const int fatal[] = {
	SCMP_SYS(bpf), SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(finit_module), SCMP_SYS(fork),
	SCMP_SYS(init_module), SCMP_SYS(io_uring_setup), SCMP_SYS(kexec_load), SCMP_SYS(mount), SCMP_SYS(perf_event_open),
	SCMP_SYS(pidfd_getfd), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(ptrace), SCMP_SYS(setns),
	SCMP_SYS(setuid), SCMP_SYS(unshare), SCMP_SYS(userfaultfd), SCMP_SYS(vfork),
};

static int fill(scmp_filter_ctx filter)
{
	int failed = 0;

	for (size_t index = 0; index < sizeof(allowed) / sizeof(allowed[0]); index++)
		failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[index], 0);
	for (size_t index = 0; index < sizeof(fatal) / sizeof(fatal[0]); index++)
		failed |= seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, fatal[index], 0);
	/* meshd's control socket, when meshd has been away. The kind comes with flags in the high bits. */
	failed |= seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, SCMP_A0(SCMP_CMP_EQ, AF_UNIX),
				   SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, SOCK_SEQPACKET));
	return failed;
}

int clinux_confine_proxy(void)
{
	scmp_filter_ctx filter;
	int result;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return errno;
	filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return ENOMEM;
	result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (result == 0 && fill(filter) != 0)
		result = -EINVAL;
	if (result == 0)
		result = seccomp_load(filter);
	seccomp_release(filter);
	return -result;
}

void clinux_forbid_inspection(void) { (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }
