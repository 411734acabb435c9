/* An allocator for a library that handles keys but frees some of its working memory as it is. */
#pragma once

#include <stddef.h>

/*
 * malloc, realloc and free in OpenSSL's shape. Between clinux_cleanse_freed(1) and clinux_cleanse_freed(0) everything
 * that the calling thread gives back is overwritten first; at other times they cost a branch.
 */
void *clinux_secret_malloc(size_t size, const char *file, int line);
void *clinux_secret_realloc(void *memory, size_t size, const char *file, int line);
void clinux_secret_free(void *memory, const char *file, int line);
void clinux_cleanse_freed(int is_on);
