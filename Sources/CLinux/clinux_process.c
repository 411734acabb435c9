/* Starting and watching processes: everything between fork and exec is here, in C. */
#define _GNU_SOURCE
#include "clinux_process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define PIDS_DESCRIPTORS_MAX 16
#define FIRST_DESCRIPTOR 3

enum step {
	STEP_FORK,
	STEP_CGROUP,
	STEP_DESCRIPTORS,
	STEP_CREDENTIALS,
	STEP_PRIVILEGES,
	STEP_EXEC,
};

static const char *const step_names[] = {
	[STEP_FORK] = "fork",
	[STEP_CGROUP] = "cgroup.procs",
	[STEP_DESCRIPTORS] = "dup2",
	[STEP_CREDENTIALS] = "setuid",
	[STEP_PRIVILEGES] = "prctl",
	[STEP_EXEC] = "execve",
};

struct report {
	int pid; /* of the grandchild, when detached */
	int step;
	int error;
};

static void tell(int pipe, struct report report)
{
	while (write(pipe, &report, sizeof(report)) < 0 && errno == EINTR)
		;
}

static void fail(int pipe, enum step step)
{
	tell(pipe, (struct report){ .step = step, .error = errno });
	_exit(127);
}

static int join_cgroup(const char *path)
{
	int descriptor = open(path, O_WRONLY | O_CLOEXEC);
	int result;

	if (descriptor < 0)
		return -1;
	result = write(descriptor, "0", 1) == 1 ? 0 : -1;
	close(descriptor);
	return result;
}

/* Moves the wanted descriptors to 3, 4, ... and closes all others but the pipe, which becomes the one behind them. */
static int place_descriptors(const struct clinux_spawn *spawn, int *pipe)
{
	int kept[PIDS_DESCRIPTORS_MAX + 1];
	int count = spawn->descriptor_count;

	/* First out of the way of the places that they will take. */
	for (int index = 0; index <= count; index++) {
		int from = index < count ? spawn->descriptors[index] : *pipe;

		kept[index] = fcntl(from, F_DUPFD, FIRST_DESCRIPTOR + PIDS_DESCRIPTORS_MAX + 1);
		if (kept[index] < 0)
			return -1;
	}
	for (int index = 0; index <= count; index++) {
		if (dup2(kept[index], FIRST_DESCRIPTOR + index) < 0)
			return -1;
	}
	*pipe = FIRST_DESCRIPTOR + count;
	if (fcntl(*pipe, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return (int)syscall(SYS_close_range, FIRST_DESCRIPTOR + count + 1, ~0U, 0);
}

static int take_credentials(const struct clinux_spawn *spawn)
{
	if (spawn->gid != UINT32_MAX && (setgroups(0, NULL) < 0 || setresgid(spawn->gid, spawn->gid, spawn->gid) < 0))
		return -1;
	if (spawn->uid != UINT32_MAX && setresuid(spawn->uid, spawn->uid, spawn->uid) < 0)
		return -1;
	return 0;
}

static void reset_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
}

static void run_child(const struct clinux_spawn *spawn, int pipe)
{
	int input = open("/dev/null", O_RDONLY);

	if (spawn->cgroup_procs && join_cgroup(spawn->cgroup_procs) < 0)
		fail(pipe, STEP_CGROUP);
	if (input < 0 || dup2(input, STDIN_FILENO) < 0 || place_descriptors(spawn, &pipe) < 0)
		fail(pipe, STEP_DESCRIPTORS);
	if (take_credentials(spawn) < 0)
		fail(pipe, STEP_CREDENTIALS);
	/* After the credentials: a change of uid clears the parent-death signal. */
	if (spawn->dies_with_parent && !spawn->detached && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		fail(pipe, STEP_PRIVILEGES);
	if (spawn->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(pipe, STEP_PRIVILEGES);
	reset_signals();
	execve(spawn->path, spawn->arguments, spawn->environment);
	fail(pipe, STEP_EXEC);
}

/* The pipe closes without a report of an error when execve succeeds. */
static int await_report(int pipe, int child, int detached, const char **step)
{
	struct report report = { 0 }, next;
	int pid = detached ? -1 : child;
	ssize_t count;

	while ((count = read(pipe, &next, sizeof(next))) != 0) {
		if (count < 0 && errno == EINTR)
			continue;
		if (count != sizeof(next))
			break;
		if (next.pid > 0)
			pid = next.pid;
		else
			report = next;
	}
	if (detached || report.error)
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
	if (report.error) {
		*step = step_names[report.step];
		errno = report.error;
		return -1;
	}
	if (pid < 0)
		errno = ECHILD;
	return pid;
}

int clinux_spawn_process(const struct clinux_spawn *spawn, const char **step)
{
	int ends[2];
	int child, result, error;

	*step = step_names[STEP_FORK];
	if (spawn->descriptor_count < 0 || spawn->descriptor_count > PIDS_DESCRIPTORS_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	child = fork();
	if (child == 0) {
		close(ends[0]);
		if (spawn->detached) {
			int grandchild;

			setsid();
			grandchild = fork();
			if (grandchild < 0)
				fail(ends[1], STEP_FORK);
			if (grandchild > 0) {
				tell(ends[1], (struct report){ .pid = grandchild });
				_exit(0);
			}
		}
		run_child(spawn, ends[1]);
	}
	error = errno;
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		errno = error;
		return -1;
	}
	result = await_report(ends[0], child, spawn->detached, step);
	error = errno;
	close(ends[0]);
	errno = error;
	return result;
}

int clinux_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int clinux_pidfd_signal(int pidfd, int signal)
{
	return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int clinux_pidfd_reap(int pidfd, int *status)
{
	siginfo_t info = { 0 };

	if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0)
		return -1;
	if (info.si_pid == 0)
		return 0;
	*status = info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
	return 1;
}

long clinux_executable_path(void *buffer, size_t size) { return readlink("/proc/self/exe", buffer, size); }
int clinux_set_no_new_privileges(void) { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }
int clinux_set_child_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); }
int clinux_set_undumpable(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }
int clinux_die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); }

int clinux_signalfd(const int *signals, int count)
{
	sigset_t set;

	sigemptyset(&set);
	for (int index = 0; index < count; index++)
		sigaddset(&set, signals[index]);
	if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
		return -1;
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

int clinux_read_signal(int descriptor)
{
	struct signalfd_siginfo info;
	ssize_t count;

	do {
		count = read(descriptor, &info, sizeof(info));
	} while (count < 0 && errno == EINTR);
	if (count == sizeof(info))
		return (int)info.ssi_signo;
	return count < 0 && errno == EAGAIN ? 0 : -1;
}
