/* What the proxy process may ask of the kernel once it serves. */
#pragma once

/*
 * Confines all threads of the process: sockets of the Unix seqpacket kind only, no file opened, no program run, no
 * namespace entered, no bpf(2), no ptrace. A call that no proxy makes ends the process; one that a library may try
 * gets EPERM. 0 or errno.
 */
int clinux_confine_proxy(void);

/* No core dump of the process, and no ptrace or /proc access by others of its user. */
void clinux_forbid_inspection(void);
