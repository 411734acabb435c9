/* tools/lab distance: puts a distance between the two nodes. A TUN device in each node's network namespace; what one of them
 * sends comes out of the other after a delay, unless it is lost. Not every kernel has netem.
 *
 *   distance NETNS-A NETNS-B DEVICE DELAY-MS LOSS-PERCENT    delay and loss of each direction; until it is ended, and the
 *                                                            devices and their routes with it
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Packets on their way in one direction: 4,096 full ones in 20 ms are 2.4 Gbit/s, more than what two processors encrypt. More
 * are lost, as in a router. */
enum { PACKET_MAX = 2048, UNDER_WAY_MAX = 4096 };

struct packet {
	uint64_t due;
	size_t size;
	char bytes[PACKET_MAX];
};

struct direction {
	int from, to;
	uint64_t seed;
	unsigned first, count;
	struct packet packets[UNDER_WAY_MAX];
};

static struct direction directions[2];
static uint64_t delay_ns, loss_of_2_32;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000ull + (uint64_t)time.tv_nsec;
}

static int device_in(const char *netns, const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	char path[256];
	int namespace, tun;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	namespace = open(path, O_RDONLY);
	if (namespace < 0 || setns(namespace, CLONE_NEWNET) < 0)
		fail(path);
	close(namespace);
	tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (tun < 0 || ioctl(tun, TUNSETIFF, &request) < 0)
		fail("/dev/net/tun");
	return tun;
}

/* xorshift64: the same packets of every run are lost. */
static int is_lost(struct direction *on)
{
	on->seed ^= on->seed << 13;
	on->seed ^= on->seed >> 7;
	on->seed ^= on->seed << 17;
	return (on->seed >> 32) < loss_of_2_32;
}

static void take(struct direction *on, uint64_t now)
{
	static char spare[PACKET_MAX];

	for (;;) {
		int is_full = on->count == UNDER_WAY_MAX;
		struct packet *last = &on->packets[(on->first + on->count) % UNDER_WAY_MAX];
		ssize_t size = read(on->from, is_full ? spare : last->bytes, PACKET_MAX);

		if (size <= 0)
			return;
		if (is_full || is_lost(on))
			continue;
		last->size = (size_t)size;
		last->due = now + delay_ns;
		on->count++;
	}
}

/* Nanoseconds until the next one is due, or a second. */
static uint64_t deliver(struct direction *on, uint64_t now)
{
	while (on->count > 0) {
		struct packet *next = &on->packets[on->first];

		if (next->due > now)
			return next->due - now;
		/* A packet that the device does not take is lost. */
		if (write(on->to, next->bytes, next->size) < 0 && errno != EAGAIN && errno != EIO)
			fail("write");
		on->first = (on->first + 1) % UNDER_WAY_MAX;
		on->count--;
	}
	return 1000000000;
}

int main(int count, char **arguments)
{
	int a, b;

	if (count != 6) {
		fprintf(stderr, "usage: distance NETNS-A NETNS-B DEVICE DELAY-MS LOSS-PERCENT\n");
		return 64;
	}
	delay_ns = (uint64_t)(atof(arguments[4]) * 1e6);
	loss_of_2_32 = (uint64_t)(atof(arguments[5]) / 100 * 4294967296.0);
	a = device_in(arguments[1], arguments[3]);
	b = device_in(arguments[2], arguments[3]);
	directions[0].from = directions[1].to = a;
	directions[0].to = directions[1].from = b;
	directions[0].seed = 0x9e3779b97f4a7c15ull;
	directions[1].seed = 0xd1b54a32d192ed03ull;
	for (;;) {
		struct pollfd ready[2] = { { .fd = a, .events = POLLIN }, { .fd = b, .events = POLLIN } };
		uint64_t now = now_ns(), first = deliver(&directions[0], now), second = deliver(&directions[1], now);
		struct timespec wait = { 0 };

		wait.tv_nsec = (long)(first < second ? first : second);
		if (wait.tv_nsec >= 1000000000)
			wait.tv_nsec = 999999999;
		if (ppoll(ready, 2, &wait, NULL) < 0 && errno != EINTR)
			fail("ppoll");
		now = now_ns();
		for (int i = 0; i < 2; i++)
			if (ready[i].revents != 0)
				take(&directions[i], now);
	}
}
