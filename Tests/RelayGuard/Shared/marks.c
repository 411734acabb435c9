#include "relay_guard.h"

/* Callgrind's requests (tool code 'C','T'). */
enum { TOGGLE_COLLECT = 2, DUMP_STATS_AT = 3 };

/* Valgrind's client request: a sequence of rotations that does nothing on a processor and is seen by the tool. */
static void ask(uint64_t what, const char *argument)
{
#if defined(__x86_64__)
	volatile uint64_t request[6] = { ((uint64_t)'C' << 24 | (uint64_t)'T' << 16) + what, (uint64_t)(uintptr_t)argument };
	volatile uint64_t result = 0;

	__asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi; xchgq %%rbx, %%rbx"
			 : "=d"(result)
			 : "a"(&request[0]), "0"(result)
			 : "cc", "memory");
#else
	(void)what, (void)argument;
#endif
}

void relay_mark(const char *name) { ask(DUMP_STATS_AT, name); }

void relay_toggle_counting(void) { ask(TOGGLE_COLLECT, 0); }
