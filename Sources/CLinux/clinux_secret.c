/* Overwrites freed memory while a thread handles a private key. */
#define _GNU_SOURCE
#include "clinux_secret.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local int is_cleansing;

void clinux_cleanse_freed(int is_on) { is_cleansing = is_on; }

void *clinux_secret_malloc(size_t size, const char *file, int line)
{
	(void)file, (void)line;
	return size > 0 ? malloc(size) : NULL;
}

void clinux_secret_free(void *memory, const char *file, int line)
{
	(void)file, (void)line;
	if (is_cleansing && memory)
		explicit_bzero(memory, malloc_usable_size(memory));
	free(memory);
}

void *clinux_secret_realloc(void *memory, size_t size, const char *file, int line)
{
	void *larger;
	size_t held;

	if (!memory)
		return clinux_secret_malloc(size, file, line);
	if (size == 0) {
		clinux_secret_free(memory, file, line);
		return NULL;
	}
	if (!is_cleansing)
		return realloc(memory, size);
	larger = malloc(size);
	if (!larger)
		return NULL;
	held = malloc_usable_size(memory);
	memcpy(larger, memory, held < size ? held : size);
	clinux_secret_free(memory, file, line);
	return larger;
}
