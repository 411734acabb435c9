/* Pieces of memory, as the header says. */
#include "clinux_pieces.h"

#include <malloc.h>
#include <stdlib.h>

enum {
	PIECE_SIZE = 72, /* what malloc makes of 64, without loss */
	KEPT_MAX = 32, /* of each thread, which does not give them back at its end: loops live as long as the process */
};

static _Thread_local void *kept[KEPT_MAX];
static _Thread_local int kept_count;

void *clinux_piece_take(size_t size, const char *file, int line)
{
	(void)file, (void)line;
	if (size > PIECE_SIZE)
		return malloc(size);
	if (kept_count > 0)
		return kept[--kept_count];
	return malloc(PIECE_SIZE);
}

void *clinux_piece_resize(void *piece, size_t size, const char *file, int line)
{
	(void)file, (void)line;
	if (size == 0) {
		clinux_piece_give(piece, file, line);
		return NULL;
	}
	return realloc(piece, size < PIECE_SIZE ? PIECE_SIZE : size);
}

void clinux_piece_give(void *piece, const char *file, int line)
{
	(void)file, (void)line;
	if (piece && kept_count < KEPT_MAX && malloc_usable_size(piece) == PIECE_SIZE) {
		kept[kept_count++] = piece;
		return;
	}
	free(piece);
}
