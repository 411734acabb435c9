#include "relay_guard.h"

/* Valgrind's client request: a sequence of rotations that does nothing on a processor and is seen by the tool. The
 * numbers are callgrind's (tool code 'C','T'): dump what was counted, under a name. */
void relay_mark(const char *name)
{
#if defined(__x86_64__)
	volatile uint64_t request[6] = { ((uint64_t)'C' << 24 | (uint64_t)'T' << 16) + 3, (uint64_t)(uintptr_t)name };
	volatile uint64_t result = 0;

	__asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi; xchgq %%rbx, %%rbx"
			 : "=d"(result)
			 : "a"(&request[0]), "0"(result)
			 : "cc", "memory");
#else
	(void)name;
#endif
}
