// SPDX-License-Identifier: Apache-2.0
// Threads that begin something and never end it, until standard input ends.
// Arguments: TRUTH, written as soon as all of them are in it
//
// Truth, by thread name: [thread id, when it began: at most this long after it, ns].
#include <linux/futex.h>
#include "truth.h"

enum { THREADS = 5 };
static const char *const names[THREADS] = { "reader", "waiter", "napper", "spinner", "child" };
static int fds[2], tids[THREADS];
static long long began_ns[THREADS];
static uint32_t word;

static void *begin_forever(void *argument)
{
	int which = (intptr_t)argument;
	struct timespec day = { 86400, 0 };
	char byte;

	prctl(PR_SET_NAME, names[which]);
	began_ns[which] = now_ns();
	__atomic_store_n(&tids[which], syscall(SYS_gettid), __ATOMIC_RELEASE);
	switch (which) {
	case 0:
		if (read(fds[0], &byte, 1) < 0)
			die("cannot read");
		break;
	case 1:
		syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
		break;
	case 2:
		clock_nanosleep(CLOCK_MONOTONIC, 0, &day, NULL);
		break;
	case 3:
		for (;;)
			;
	case 4:
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pause();
		}
		syscall(SYS_wait4, -1, NULL, 0, NULL);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char byte;

	if (argc < 2)
		return 2;
	begin(argv);
	if (pipe(fds))
		die("cannot make a pipe");
	for (intptr_t i = 0; i < THREADS; i++) {
		if (pthread_create(&thread, NULL, begin_forever, (void *)i))
			die("cannot start a thread");
		while (!__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE))
			usleep(1000);
		if (i != 3)
			until_asleep(tids[i]);
		say_list(names[i], (long long[]){ tids[i], began_ns[i] }, 2);
	}
	finish();
	while (read(0, &byte, 1) > 0)
		;
	_exit(0);
}
