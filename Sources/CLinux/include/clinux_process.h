/* Starting and watching processes. Everything between fork and exec happens here, in C: a Swift runtime is not usable
 * in the child of a process that may have other threads. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct clinux_spawn {
	const char *path;
	char *const *arguments; /* NULL-terminated */
	char *const *environment; /* NULL-terminated */
	const char *cgroup_procs; /* a cgroup.procs to join before exec, or NULL */
	const int *descriptors; /* become 3, 4, ... in the child; all others are closed */
	int descriptor_count;
	uint32_t uid, gid; /* UINT32_MAX: unchanged */
	int no_new_privileges;
	int detached; /* forked twice, in a session of its own: not a child of the caller */
	int dies_with_parent; /* SIGKILL when the calling thread ends; not with detached */
};

/*
 * Returns the pid, or -1 with errno and *step naming what failed. The executable is known to have been started: an
 * error of any step up to and including execve is reported here.
 */
int clinux_spawn_process(const struct clinux_spawn *spawn, const char **step);

int clinux_pidfd_open(int pid);
int clinux_pidfd_signal(int pidfd, int signal);
/* Reaps the child behind pidfd without waiting: 0 still runs, 1 ended (*status as from waitpid), -1 errno. */
int clinux_pidfd_reap(int pidfd, int *status);
long clinux_executable_path(void *buffer, size_t size); /* readlink of /proc/self/exe */
int clinux_set_no_new_privileges(void);
int clinux_set_child_subreaper(void);
int clinux_set_undumpable(void);
int clinux_die_with_parent(void);
/* Blocks SIGTERM, SIGINT, SIGHUP (and SIGCHLD) and returns a signalfd for them. */
int clinux_signalfd(const int *signals, int count);
int clinux_read_signal(int descriptor); /* the next signal, 0 when none, -1 errno */
