/* Memory for libcrypto, as the header says. */
#define _GNU_SOURCE
#include "clinux_pieces.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum {
	PIECE_SIZE = 72, /* what malloc makes of 64, without loss */
	KEPT_MAX = 32, /* of each thread, which does not give them back at its end: loops live as long as the process */
};

/* In one piece, whose address is found once a call. */
static _Thread_local struct {
	int is_cleansing;
	int kept_count;
	void *kept[KEPT_MAX];
} own;

void clinux_cleanse_freed(int is_on) { own.is_cleansing = is_on; }

void *clinux_piece_take(size_t size, const char *file, int line)
{
	(void)file, (void)line;
	if (size > PIECE_SIZE)
		return malloc(size);
	if (own.kept_count > 0)
		return own.kept[--own.kept_count];
	return malloc(PIECE_SIZE);
}

/* realloc may move, and leaves the old bytes where they were. */
static void *resize_and_cleanse(void *piece, size_t size, const char *file, int line)
{
	void *other = malloc(size);
	size_t held;

	if (!other || !piece)
		return other;
	held = malloc_usable_size(piece);
	memcpy(other, piece, held < size ? held : size);
	clinux_piece_give(piece, file, line);
	return other;
}

void *clinux_piece_resize(void *piece, size_t size, const char *file, int line)
{
	if (size == 0) {
		clinux_piece_give(piece, file, line);
		return NULL;
	}
	if (size < PIECE_SIZE)
		size = PIECE_SIZE;
	return own.is_cleansing ? resize_and_cleanse(piece, size, file, line) : realloc(piece, size);
}

/* Apart from what is called several times for each record. */
__attribute__((noinline, cold)) static void cleanse(void *piece)
{
	explicit_bzero(piece, malloc_usable_size(piece));
}

void clinux_piece_give(void *piece, const char *file, int line)
{
	(void)file, (void)line;
	if (!piece)
		return;
	if (own.is_cleansing)
		cleanse(piece);
	if (own.kept_count < KEPT_MAX && malloc_usable_size(piece) == PIECE_SIZE) {
		own.kept[own.kept_count++] = piece;
		return;
	}
	free(piece);
}
