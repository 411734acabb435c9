/* Whether a directory is on a BPF file system. */
#include "clinux_bpffs.h"

#include <linux/magic.h>
#include <sys/vfs.h>

int clinux_is_bpffs(const char *path)
{
	struct statfs status;

	if (statfs(path, &status) != 0)
		return -1;
	return (unsigned long)status.f_type == BPF_FS_MAGIC;
}
