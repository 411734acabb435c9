/* Files as a process with another root sees them. */
#pragma once

/*
 * Opens a regular file for reading below the directory `root` (/proc/PID/root), every symbolic link on the way taken as
 * the process would take it, so that none leads out (openat2, RESOLVE_IN_ROOT). Nothing is waited for. -1 with errno;
 * EINVAL for what is no regular file.
 */
int clinux_open_in_root(const char *root, const char *path);
/* 1 where a socket of the file system is there, 0 where not. */
int clinux_is_socket_in_root(const char *root, const char *path);
