// SPDX-License-Identifier: Apache-2.0
// Blocks in every kind of call, each a known number of times and for a known least time.
// Arguments: TRUTH
//
// Truth, by "reason syscall": [waits, least ns, most ns]. The main thread blocks; a helper (another thread
// or process, under that name) lets it go MS after the kernel says that it sleeps.
#include <arpa/inet.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include "truth.h"

enum { MS = 5, LONG_MS = 20 };

static int waiter, signal_pipe[2], data_pipe[2], tcp[2], listener, files[2], semaphores;
static uint32_t word;
static struct sockaddr_in address = { .sin_family = AF_INET };

struct wait {
	const char *name;	// "reason syscall"
	int times;
	int ms;
	void (*block)(void);
	void (*let_go)(void);	// what the helper does; NULL: the call ends by itself, and is made until it waits
};

static struct timespec soon(void) { return (struct timespec){ 0, MS * 1000000L }; }

static void block_nanosleep(void) { struct timespec t = { 0, 10 * 1000000L }; clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL); }
static void block_poll(void) { struct pollfd p = { data_pipe[0], POLLIN, 0 }; syscall(SYS_poll, &p, 1, MS); }
static void block_ppoll(void) { struct pollfd p = { data_pipe[0], POLLIN, 0 }; struct timespec t = soon(); ppoll(&p, 1, &t, NULL); }
static void block_select(void) { struct timeval t = { 0, MS * 1000 }; syscall(SYS_select, 0, NULL, NULL, NULL, &t); }
static void block_pselect(void) { struct timespec t = soon(); pselect(0, NULL, NULL, NULL, &t, NULL); }

static void block_epoll(void)
{
	static int poller;
	struct epoll_event event;

	if (!poller)
		poller = epoll_create1(0);
	syscall(SYS_epoll_wait, poller, &event, 1, MS);
}

static void must(ssize_t result)
{
	if (result < 0)
		die("a call failed");
}

static void block_pipe(void) { char byte; must(read(data_pipe[0], &byte, 1)); }
static void feed_pipe(void) { must(write(data_pipe[1], "x", 1)); }
static void block_tcp(void) { char byte; must(recv(tcp[0], &byte, 1, 0)); }
static void feed_tcp(void) { must(send(tcp[1], "x", 1, 0)); }
static void block_accept(void) { int fd = accept(listener, NULL, NULL); must(fd); close(fd); }
static void feed_accept(void) { int fd = socket(AF_INET, SOCK_STREAM, 0); must(connect(fd, (void *)&address, sizeof(address))); close(fd); }
static void block_futex(void) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); }
static void wake_futex(void) { syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }
static void block_flock(void) { must(flock(files[0], LOCK_EX)); must(flock(files[0], LOCK_UN)); }
static void unlock_flock(void) { must(flock(files[1], LOCK_UN)); }
static void block_semaphore(void) { struct sembuf take = { 0, -1, 0 }; must(semop(semaphores, &take, 1)); }
static void raise_semaphore(void) { struct sembuf give = { 0, 1, 0 }; must(semop(semaphores, &give, 1)); }

static void fork_napper(void)
{
	if (!fork()) {
		prctl(PR_SET_NAME, "helper");
		nap_ms(LONG_MS);
		_exit(0);
	}
}

static void block_wait4(void) { fork_napper(); syscall(SYS_wait4, -1, NULL, 0, NULL); }
static void block_waitid(void) { fork_napper(); siginfo_t info; must(waitid(P_ALL, 0, &info, WEXITED)); }

static void block_vfork(void)
{
	if (!vfork()) {
		struct timespec t = { 0, LONG_MS * 1000000L };

		syscall(SYS_prctl, PR_SET_NAME, "helper");
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, NULL);
		_exit(0);
	}
	syscall(SYS_wait4, -1, NULL, WNOHANG, NULL);
}

static const struct wait waits[] = {
	{ "poll clock_nanosleep", 37, 10, block_nanosleep, NULL },
	{ "poll poll", 11, MS, block_poll, NULL },
	{ "poll ppoll", 3, MS, block_ppoll, NULL },
	{ "poll select", 7, MS, block_select, NULL },
	{ "poll pselect6", 2, MS, block_pselect, NULL },
	{ "poll epoll_wait", 13, MS, block_epoll, NULL },
	{ "pipe read", 17, MS, block_pipe, feed_pipe },
	{ "network recvfrom", 19, LONG_MS, block_tcp, feed_tcp },
	{ "network accept", 5, MS, block_accept, feed_accept },
	{ "lock futex", 23, LONG_MS, block_futex, wake_futex },
	{ "lock flock", 5, MS, block_flock, unlock_flock },
	{ "lock semtimedop", 3, MS, block_semaphore, raise_semaphore },
	{ "child wait4", 5, LONG_MS, block_wait4, NULL },
	{ "child waitid", 3, LONG_MS, block_waitid, NULL },
	{ "child vfork", 7, LONG_MS, block_vfork, NULL },
};
enum { KINDS = sizeof(waits) / sizeof(waits[0]) };

static void *help(void *unused)
{
	int kind;

	(void)unused;
	prctl(PR_SET_NAME, "helper");
	while (read(signal_pipe[0], &kind, sizeof(kind)) == sizeof(kind)) {
		until_asleep(waiter);
		nap_ms(waits[kind].ms);
		waits[kind].let_go();
	}
	return NULL;
}

static void set_up(const char *truth)
{
	static char path[4096];
	socklen_t length = sizeof(address);
	pthread_t thread;

	snprintf(path, sizeof(path), "%s.lock", truth);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	must(bind(listener, (void *)&address, sizeof(address)));
	must(listen(listener, 5));
	must(getsockname(listener, (void *)&address, &length));
	tcp[1] = socket(AF_INET, SOCK_STREAM, 0);
	must(connect(tcp[1], (void *)&address, sizeof(address)));
	tcp[0] = accept(listener, NULL, NULL);
	must(tcp[0]);
	must(pipe(signal_pipe));
	must(pipe(data_pipe));
	for (int i = 0; i < 2; i++)
		must(files[i] = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	must(semaphores = semget(IPC_PRIVATE, 1, 0600));
	waiter = syscall(SYS_gettid);
	if (pthread_create(&thread, NULL, help, NULL))
		die("cannot start the helper");
}

static void measure(int kind)
{
	const struct wait *wait = &waits[kind];
	long long spent = 0;

	for (int i = 0; i < wait->times; i++) {
		if (wait->block == block_flock)
			must(flock(files[1], LOCK_EX));
		if (wait->let_go)
			must(write(signal_pipe[1], &kind, sizeof(kind)));
		long long before = waits_so_far(), start = now_ns();
		do
			wait->block();
		while (!wait->let_go && waits_so_far() == before);
		spent += now_ns() - start;
	}
	say_list(wait->name, (long long[]){ wait->times, wait->times * wait->ms * 1000000LL, spent }, 3);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	begin(argv);
	set_up(argv[1]);
	for (int kind = 0; kind < KINDS; kind++)
		measure(kind);
	semctl(semaphores, 0, IPC_RMID);
	finish();
	return 0;
}
