/* tools/bench's load: what it asks of a path is the same for all of them, and costs little itself.
 *
 *   load serve PORT                              a stream for 'D', a sink for 'U', until the client goes
 *   load bulk HOST PORT down|up STREAMS SECONDS  prints bytes and nanoseconds after a warm-up of a
 *                                                quarter, and all bytes
 *   load rate HOST PORT CONNECTIONS RATE SECONDS requests of /1KiB at fixed times; prints answers, p50 and p99 in us, each
 *                                                from the time at which it was due
 *   load connects HOST PORT COUNT                prints CPU nanoseconds of connect() alone, per call
 *   load principals HOST PORT CGROUPS COUNT      COUNT processes, the first in cgroup CGROUPS1, each with one connection
 *                                                that echoes; prints nanoseconds until all of them have, and waits
 *   load spin                                    keeps its processor awake at the lowest priority
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_SIZE = 1 << 20, EVENTS_MAX = 256, CONNECTIONS_MAX = 4096, ANSWER_MAX = 8192 };

static char buffer[BUFFER_SIZE];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000ull + (uint64_t)time.tv_nsec;
}

static struct addrinfo *target(const char *host, const char *port)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
	struct addrinfo *found;

	if (getaddrinfo(host, port, &hints, &found) != 0)
		fail("getaddrinfo");
	return found;
}

static int connected(const struct addrinfo *to)
{
	int one = 1;
	int s = socket(to->ai_family, SOCK_STREAM, 0);

	if (s < 0 || connect(s, to->ai_addr, to->ai_addrlen) < 0)
		fail("connect");
	setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return s;
}

static void watch(int epoll, int s, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, s, &event) < 0)
		fail("epoll_ctl");
}

/* --- serve */

static int serve_one(int s, char *kind)
{
	ssize_t count;

	if (*kind == 0) {
		count = recv(s, kind, 1, MSG_DONTWAIT);
		if (count < 0)
			return errno == EAGAIN ? 0 : -1;
		if (count == 0)
			return -1;
	}
	if (*kind == 'D')
		count = send(s, buffer, 262144, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		count = recv(s, buffer, sizeof(buffer), MSG_DONTWAIT);
	return count == 0 || (count < 0 && errno != EAGAIN) ? -1 : 0;
}

static _Noreturn void serve(const char *port)
{
	static char kinds[CONNECTIONS_MAX];
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port)) };
	struct epoll_event events[EVENTS_MAX];
	int epoll = epoll_create1(0);
	int listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int one = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 4096) < 0)
		fail("listen");
	watch(epoll, listener, EPOLLIN, (uint64_t)listener);
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS_MAX, -1);

		for (int i = 0; i < count; i++) {
			int s = (int)events[i].data.u64;

			if (s == listener) {
				s = accept(listener, NULL, NULL);
				if (s < 0 || s >= CONNECTIONS_MAX)
					continue;
				kinds[s] = 0;
				watch(epoll, s, EPOLLIN, (uint64_t)s);
			} else if (serve_one(s, &kinds[s]) < 0) {
				close(s);
			} else if (kinds[s] == 'D') {
				struct epoll_event out = { .events = EPOLLOUT | EPOLLRDHUP, .data.u64 = (uint64_t)s };

				epoll_ctl(epoll, EPOLL_CTL_MOD, s, &out);
			}
		}
	}
}

/* --- bulk */

static int bulk(char **arguments)
{
	struct addrinfo *to = target(arguments[0], arguments[1]);
	int is_down = strcmp(arguments[2], "down") == 0;
	int streams = atoi(arguments[3]);
	uint64_t span = (uint64_t)(atof(arguments[4]) * 1e9);
	struct epoll_event events[EVENTS_MAX];
	int epoll = epoll_create1(0);
	uint64_t start, from, until, time, bytes = 0, total = 0;

	for (int i = 0; i < streams; i++) {
		int s = connected(to);

		if (send(s, is_down ? "D" : "U", 1, MSG_NOSIGNAL) != 1)
			fail("send");
		watch(epoll, s, is_down ? EPOLLIN : EPOLLOUT, (uint64_t)s);
	}
	start = now_ns(CLOCK_MONOTONIC);
	from = start + span / 4;
	until = from + span;
	do {
		int count = epoll_wait(epoll, events, EVENTS_MAX, 1000);

		time = now_ns(CLOCK_MONOTONIC);
		for (int i = 0; i < count; i++) {
			int s = (int)events[i].data.u64;
			ssize_t step = is_down ? recv(s, buffer, sizeof(buffer), MSG_DONTWAIT) :
						 send(s, buffer, 262144, MSG_DONTWAIT | MSG_NOSIGNAL);

			if (step == 0 || (step < 0 && errno != EAGAIN))
				fail("bulk");
			if (step > 0) {
				total += (uint64_t)step;
				bytes += time >= from ? (uint64_t)step : 0;
			}
		}
	} while (time < until);
	printf("%llu %llu %llu\n", (unsigned long long)bytes, (unsigned long long)(time - from), (unsigned long long)total);
	return 0;
}

/* --- rate */

struct exchange {
	int socket;
	int is_busy;
	uint64_t due;
	size_t received;
	size_t expected; /* 0: not known yet */
	char answer[ANSWER_MAX];
};

static const char request[] = "GET /1KiB HTTP/1.1\r\nHost: bench\r\n\r\n";

static void ask(struct exchange *exchange, uint64_t due)
{
	exchange->is_busy = 1;
	exchange->due = due;
	exchange->received = exchange->expected = 0;
	if (send(exchange->socket, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1)
		fail("send");
}

/* 1 when the whole answer is there. */
static int answered(struct exchange *exchange)
{
	ssize_t step = recv(exchange->socket, exchange->answer + exchange->received,
			    sizeof(exchange->answer) - 1 - exchange->received, MSG_DONTWAIT);
	char *end, *length;

	if (step <= 0) {
		if (step < 0 && errno == EAGAIN)
			return 0;
		fail("recv");
	}
	exchange->received += (size_t)step;
	exchange->answer[exchange->received] = 0;
	if (exchange->expected == 0) {
		end = strstr(exchange->answer, "\r\n\r\n");
		if (!end)
			return 0;
		length = strcasestr(exchange->answer, "content-length:");
		if (!length || strncmp(exchange->answer, "HTTP/1.1 200", 12) != 0) {
			fprintf(stderr, "load: unexpected answer: %.40s\n", exchange->answer);
			exit(1);
		}
		exchange->expected = (size_t)(end + 4 - exchange->answer) + strtoul(length + 15, NULL, 10);
	}
	return exchange->received >= exchange->expected;
}

static int by_value(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return left < right ? -1 : left > right;
}

/* Requests that find no free connection wait for one, and their waiting counts: an open loop. */
static int rate(char **arguments)
{
	struct addrinfo *to = target(arguments[0], arguments[1]);
	int connections = atoi(arguments[2]);
	double interval = 1e9 / atof(arguments[3]);
	double seconds = atof(arguments[4]);
	size_t due_max = (size_t)(seconds * 1.25 * atof(arguments[3]));
	struct exchange *exchanges = calloc((size_t)connections, sizeof(*exchanges));
	uint32_t *latencies = malloc((due_max + 1) * sizeof(*latencies));
	int *idle = malloc((size_t)connections * sizeof(*idle));
	struct epoll_event events[EVENTS_MAX];
	int epoll = epoll_create1(0), idle_count = 0;
	size_t asked = 0, got = 0, warm = due_max / 5, kept = 0;
	uint64_t start, deadline;

	for (int i = 0; i < connections; i++) {
		exchanges[i].socket = connected(to);
		watch(epoll, exchanges[i].socket, EPOLLIN, (uint64_t)i);
		idle[idle_count++] = i;
	}
	start = now_ns(CLOCK_MONOTONIC) + 1000000;
	deadline = start + (uint64_t)(due_max * interval) + 5000000000ull;
	while (got < due_max) {
		uint64_t time = now_ns(CLOCK_MONOTONIC);
		uint64_t due = start + (uint64_t)((double)asked * interval);
		struct timespec wait = { 0 };
		int count;

		if (time > deadline)
			break;
		while (asked < due_max && due <= time && idle_count > 0) {
			ask(&exchanges[idle[--idle_count]], due);
			due = start + (uint64_t)((double)++asked * interval);
		}
		if (asked >= due_max || idle_count == 0)
			wait.tv_nsec = 100000000;
		else if (due > time)
			wait.tv_nsec = (long)(due - time > 100000000 ? 100000000 : due - time);
		count = epoll_pwait2(epoll, events, EVENTS_MAX, &wait, NULL);
		time = now_ns(CLOCK_MONOTONIC);
		for (int i = 0; i < count; i++) {
			struct exchange *exchange = &exchanges[events[i].data.u64];

			if (!exchange->is_busy || !answered(exchange))
				continue;
			exchange->is_busy = 0;
			/* The oldest is asked next: connections take turns. */
			memmove(idle + 1, idle, (size_t)idle_count * sizeof(*idle));
			idle[0] = (int)events[i].data.u64;
			idle_count++;
			if (got++ >= warm)
				latencies[kept++] = (uint32_t)((time - exchange->due) / 1000);
		}
	}
	qsort(latencies, kept, sizeof(*latencies), by_value);
	if (got < due_max)
		fprintf(stderr, "load: %zu of %zu requests were not answered in time\n", due_max - got, due_max);
	if (kept == 0)
		return 1;
	printf("%zu %u %u\n", got, latencies[kept / 2], latencies[kept * 99 / 100]);
	return got < due_max;
}

/* --- principals */

enum { PRINCIPALS_WAIT_MS = 100000 };

static void enter(const char *cgroups, int number)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s%d/cgroup.procs", cgroups, number);
	file = fopen(path, "w");
	if (!file || fprintf(file, "%d\n", getpid()) < 0 || fclose(file) != 0)
		fail(path);
}

static void await(const int *counter, int wanted, const char *what)
{
	for (int i = 0; __atomic_load_n(counter, __ATOMIC_ACQUIRE) < wanted; i++) {
		if (i == PRINCIPALS_WAIT_MS || waitpid(-1, NULL, WNOHANG) > 0) {
			printf("%d of %d %s\n", *counter, wanted, what);
			exit(1);
		}
		usleep(1000);
	}
}

static _Noreturn void principals(char **arguments)
{
	struct addrinfo *to = target(arguments[0], arguments[1]);
	int count = atoi(arguments[3]), start[2];
	/* How many have entered their cgroups, and how many have been answered. */
	int *reached = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t before;
	char byte = 'x';

	if (reached == MAP_FAILED || pipe(start) < 0)
		fail("principals");
	for (int i = 1; i <= count; i++) {
		int s;

		if (fork() != 0)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(start[1]);
		enter(arguments[2], i);
		__atomic_add_fetch(&reached[0], 1, __ATOMIC_RELEASE);
		if (read(start[0], &byte, 1) != 0)
			fail("start");
		s = connected(to);
		if (send(s, &byte, 1, MSG_NOSIGNAL) != 1 || recv(s, &byte, 1, 0) != 1)
			fail("echo");
		__atomic_add_fetch(&reached[1], 1, __ATOMIC_RELEASE);
		for (;;)
			pause();
	}
	await(&reached[0], count, "entered their cgroups");
	before = now_ns(CLOCK_MONOTONIC);
	close(start[1]);
	await(&reached[1], count, "were answered");
	printf("%llu\n", (unsigned long long)(now_ns(CLOCK_MONOTONIC) - before));
	fflush(stdout);
	for (;;)
		pause();
}

/* --- connects and spin */

static int connects(char **arguments)
{
	struct addrinfo *to = target(arguments[0], arguments[1]);
	int count = atoi(arguments[2]);
	uint64_t spent = 0;

	for (int i = 0; i < count; i++) {
		int s = socket(to->ai_family, SOCK_STREAM, 0);
		uint64_t before = now_ns(CLOCK_THREAD_CPUTIME_ID);

		if (connect(s, to->ai_addr, to->ai_addrlen) < 0)
			fail("connect");
		spent += now_ns(CLOCK_THREAD_CPUTIME_ID) - before;
		close(s);
	}
	printf("%llu\n", (unsigned long long)(spent / (uint64_t)count));
	return 0;
}

static _Noreturn void spin(void)
{
	struct sched_param parameters = { 0 };

	if (sched_setscheduler(0, SCHED_IDLE, &parameters) < 0)
		fail("sched_setscheduler");
	for (;;)
		__asm__ volatile("" ::: "memory");
}

int main(int count, char **arguments)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	signal(SIGPIPE, SIG_IGN);
	if (count == 3 && strcmp(arguments[1], "serve") == 0)
		serve(arguments[2]);
	if (count == 7 && strcmp(arguments[1], "bulk") == 0)
		return bulk(arguments + 2);
	if (count == 7 && strcmp(arguments[1], "rate") == 0)
		return rate(arguments + 2);
	if (count == 5 && strcmp(arguments[1], "connects") == 0)
		return connects(arguments + 2);
	if (count == 6 && strcmp(arguments[1], "principals") == 0)
		principals(arguments + 2);
	if (count == 2 && strcmp(arguments[1], "spin") == 0)
		spin();
	fprintf(stderr, "usage: load serve | bulk | rate | connects | principals | spin, see load.c\n");
	return 64;
}
