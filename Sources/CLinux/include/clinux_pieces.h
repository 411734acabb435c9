/*
 * Memory for libcrypto, in the form that CRYPTO_set_mem_functions asks for. It differs from malloc's in two ways.
 * Small pieces are kept by each thread for its next need: libssl takes and gives back two for each record. And between
 * clinux_cleanse_freed(1) and clinux_cleanse_freed(0) everything that the calling thread gives back is overwritten
 * first: the library frees some of what it works with, keys among it, as it is.
 */
#pragma once

#include <stddef.h>

void *clinux_piece_take(size_t size, const char *file, int line);
void *clinux_piece_resize(void *piece, size_t size, const char *file, int line);
void clinux_piece_give(void *piece, const char *file, int line);
void clinux_cleanse_freed(int is_on);
