/* The terminal of `meshctl top`: raw mode, its size, and putting it back whatever happens. */
#define _GNU_SOURCE
#include "clinux_terminal.h"

#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static int saved_input = -1;
static int saved_output = -1;

/* Other screen and no cursor; the reverse also ends attributes. */
static const char enter_text[] = "\033[?1049h\033[?25l";
static const char leave_text[] = "\033[0m\033[?25h\033[?1049l";

static const int fatal_signals[] = { SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV };

static void write_all(int output, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t count = write(output, text, length);

		if (count <= 0)
			return;
		text += count;
		length -= (size_t)count;
	}
}

void clinux_terminal_leave(void)
{
	int input = saved_input;

	if (input < 0)
		return;
	saved_input = -1;
	write_all(saved_output, leave_text, sizeof(leave_text) - 1);
	tcsetattr(input, TCSAFLUSH, &saved);
}

static void restore_and_die(int number)
{
	clinux_terminal_leave();
	/* SA_RESETHAND has put the default back: the second one ends the process. */
	raise(number);
}

int clinux_terminal_enter(int input, int output)
{
	struct sigaction action;
	struct termios raw;

	if (tcgetattr(input, &saved) < 0)
		return -1;
	raw = saved;
	cfmakeraw(&raw);
	if (tcsetattr(input, TCSAFLUSH, &raw) < 0)
		return -1;
	saved_output = output;
	saved_input = input;
	memset(&action, 0, sizeof(action));
	action.sa_handler = restore_and_die;
	action.sa_flags = SA_RESETHAND;
	for (size_t index = 0; index < sizeof(fatal_signals) / sizeof(fatal_signals[0]); index++)
		sigaction(fatal_signals[index], &action, NULL);
	write_all(output, enter_text, sizeof(enter_text) - 1);
	return 0;
}

int clinux_terminal_size(int output, uint16_t *columns, uint16_t *rows)
{
	struct winsize size;

	if (ioctl(output, TIOCGWINSZ, &size) < 0)
		return -1;
	*columns = size.ws_col;
	*rows = size.ws_row;
	return 0;
}
