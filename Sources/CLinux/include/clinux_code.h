/* The process's own code in memory. */
#pragma once

#include <stddef.h>

/*
 * Unmaps the pages of code and constants that are resident now, of the executable and every library: what only
 * starting up ran never comes back, what is needed is mapped again from the page cache at its next use. Pages that
 * were written since they were mapped (relocations) are not touched. Returns the bytes looked at.
 */
size_t clinux_forget_start_up_code(void);

/* The same at a moment of rest later on, and what the heap has freed: the work that needed it is done. */
void clinux_give_back_memory(void);
