/* The C heap. */
#pragma once

#include <stddef.h>

/* Bytes handed out by malloc and not freed, in all arenas. */
size_t clinux_heap_used(void);
