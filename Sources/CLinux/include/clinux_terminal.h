/* The controlling terminal of a full-screen program: raw input and the other screen, and the way back, whatever ends. */
#pragma once

#include <stdint.h>

/*
 * Saves the terminal's state, switches input to raw and output to the other screen. Also arms the fatal signals, so
 * that even a trap restores before the process dies. -1 with errno.
 */
int clinux_terminal_enter(int input, int output);
/* Back to what was; harmless when nothing was entered. Async-signal-safe. */
void clinux_terminal_leave(void);
/* -1 with errno when it is no terminal. */
int clinux_terminal_size(int output, uint16_t *columns, uint16_t *rows);
