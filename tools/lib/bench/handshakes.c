/* tools/bench: cold tunnels. Connects, shakes hands with a client certificate, says the HTTP/2 preface, waits for the
 * server's first byte (so that the server has judged the certificate) and closes; again and again, by several processes.
 *
 *   handshakes HOST PORT CERTIFICATE KEY AUTHORITY SERVER-NAME SECONDS PROCESSES    
 *   prints handshakes and nanoseconds after a warm-up, and all handshakes
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000ull + (uint64_t)time.tv_nsec;
}

static SSL_CTX *context(char **arguments)
{
	SSL_CTX *made = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION);
	SSL_CTX_set_ciphersuites(made, "TLS_AES_128_GCM_SHA256");
	SSL_CTX_set1_groups_list(made, "X25519");
	SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
	/* As proxies do: the root is not sent. */
	SSL_CTX_set_mode(made, SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_verify(made, SSL_VERIFY_PEER, NULL);
	if (SSL_CTX_use_certificate_chain_file(made, arguments[2]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(made, arguments[3], SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_load_verify_file(made, arguments[4]) != 1 ||
	    SSL_CTX_set_alpn_protos(made, (const unsigned char *)"\2h2", 3) != 0)
		fail("certificates");
	return made;
}

static void shake_hands(SSL_CTX *with, const struct sockaddr_in *to, const char *name)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
	struct linger now = { 1, 0 };
	struct timeval limit = { 10, 0 };
	int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
	SSL *ssl = SSL_new(with);
	char first;

	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(s, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(s, (const struct sockaddr *)to, sizeof(*to)) < 0)
		fail("connect");
	SSL_set_fd(ssl, s);
	SSL_set_tlsext_host_name(ssl, name);
	/* The string's own NUL is the last byte of the empty SETTINGS frame. */
	if (SSL_connect(ssl) != 1 || SSL_write(ssl, preface, sizeof(preface)) <= 0 || SSL_read(ssl, &first, 1) != 1)
		fail("handshake");
	SSL_free(ssl);
	close(s);
}

int main(int count, char **arguments)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	uint64_t *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t start, span, warm, before, after;
	int processes, status;

	if (count != 9) {
		fprintf(stderr, "usage: handshakes HOST PORT CERTIFICATE KEY AUTHORITY SERVER-NAME SECONDS PROCESSES\n");
		return 64;
	}
	inet_pton(AF_INET, arguments[1], &to.sin_addr);
	to.sin_port = htons((uint16_t)atoi(arguments[2]));
	span = (uint64_t)(atof(arguments[7]) * 1e9);
	processes = atoi(arguments[8]);
	signal(SIGPIPE, SIG_IGN);
	start = now_ns();
	warm = span / 4;
	for (int i = 0; i < processes; i++) {
		if (fork() > 0)
			continue;
		SSL_CTX *with = context(arguments + 1);

		while (now_ns() - start < warm + span) {
			shake_hands(with, &to, arguments[6]);
			__atomic_add_fetch(done, 1, __ATOMIC_RELAXED);
		}
		_exit(0);
	}
	usleep((useconds_t)(warm / 1000));
	before = *done;
	start = now_ns();
	usleep((useconds_t)(span / 1000));
	after = *done;
	span = now_ns() - start;
	while (wait(&status) > 0)
		if (status != 0)
			return 1;
	printf("%llu %llu %llu\n", (unsigned long long)(after - before), (unsigned long long)span, (unsigned long long)*done);
	return 0;
}
