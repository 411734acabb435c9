/* libbpf's messages: kept for the error that follows them, printed nowhere. */
#include <stdarg.h>
#include <stdio.h>

#include <bpf/libbpf.h>

#include "CBPFObjects.h"

static void (*log_sink)(const char *line);

static int log_line(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char line[2048];

	if (level != LIBBPF_WARN || !log_sink)
		return 0;
	vsnprintf(line, sizeof(line), format, arguments);
	log_sink(line);
	return 0;
}

void culvert_libbpf_log_to(void (*sink)(const char *line))
{
	log_sink = sink;
	libbpf_set_print(log_line);
}
