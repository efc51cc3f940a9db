// SPDX-License-Identifier: Apache-2.0
// Threads that are woken and then wait for a CPU which another one never leaves, until standard input ends.
// Arguments: TRUTH, written when all of them have begun
//
// Truth: the thread ids of "starved-N".
#include "truth.h"

enum { THREADS = 5 };
static long long tids[THREADS];

static void *starve(void *argument)
{
	struct sched_param none = { 0 };
	struct timespec moment = { 0, 50000 };
	char name[16];

	snprintf(name, sizeof(name), "starved-%d", (int)(intptr_t)argument);
	prctl(PR_SET_NAME, name);
	pin(0);
	if (sched_setscheduler(0, SCHED_IDLE, &none))
		die("cannot give way to all others");
	__atomic_store_n(&tids[(intptr_t)argument], syscall(SYS_gettid), __ATOMIC_RELEASE);
	for (;;)
		nanosleep(&moment, NULL);
	return NULL;
}

static void *hog(void *unused)
{
	prctl(PR_SET_NAME, "hog");
	pin(0);
	for (;;)
		;
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char byte;

	if (argc < 2)
		return 2;
	begin(argv);
	for (intptr_t i = 0; i < THREADS; i++) {
		if (pthread_create(&thread, NULL, starve, (void *)i))
			die("cannot start a thread");
		while (!__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE))
			usleep(1000);
	}
	if (pthread_create(&thread, NULL, hog, NULL))
		die("cannot start a thread");
	say_list("tids", tids, THREADS);
	finish();
	while (read(0, &byte, 1) > 0)
		;
	_exit(0);
}
