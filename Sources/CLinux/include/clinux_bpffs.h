/* Which file system a directory is in. */
#pragma once

/* 1: a BPF file system; 0: another; -1: errno. */
int clinux_is_bpffs(const char *path);
