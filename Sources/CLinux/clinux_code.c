/* Gives back the memory of what ran once and is over: code and freed pieces of the heap (decision 0090). */
#define _GNU_SOURCE
#include "clinux_code.h"

#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static int forget_segments(struct dl_phdr_info *info, size_t size, void *context)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	size_t *total = context;

	(void)size;
	for (int index = 0; index < info->dlpi_phnum; index++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[index];
		uintptr_t begin = (info->dlpi_addr + segment->p_vaddr) & ~(page - 1);
		uintptr_t end = (info->dlpi_addr + segment->p_vaddr + segment->p_filesz) & ~(page - 1);

		/* A private page that was written to would be lost: only segments that are never writable. */
		if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) || end <= begin)
			continue;
		if (madvise((void *)begin, end - begin, MADV_DONTNEED) == 0)
			*total += end - begin;
	}
	return 0;
}

size_t clinux_forget_start_up_code(void)
{
	size_t total = 0;

	dl_iterate_phdr(forget_segments, &total);
	return total;
}

void clinux_give_back_memory(void)
{
	malloc_trim(0);
	clinux_forget_start_up_code();
}
