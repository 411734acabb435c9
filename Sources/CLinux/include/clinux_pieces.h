/* Small pieces of memory that each thread keeps for its next need, for a library that takes and gives them back all the
 * time (libssl: two for each record). The functions have the form that CRYPTO_set_mem_functions asks for. */
#pragma once

#include <stddef.h>

void *clinux_piece_take(size_t size, const char *file, int line);
void *clinux_piece_resize(void *piece, size_t size, const char *file, int line);
void clinux_piece_give(void *piece, const char *file, int line);
