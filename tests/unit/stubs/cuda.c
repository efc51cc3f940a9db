// SPDX-License-Identifier: MIT
// Calls of NVIDIA's driver that wait for a GPU, on a machine without one: the argument says for how many ns.
#define _GNU_SOURCE
#include <poll.h>
#include <time.h>

static long long now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

// The real one spins by default (CU_CTX_SCHED_SPIN): CPU time of this thread.
__attribute__((noinline)) static int spin(long long ns)
{
	long long end = now(CLOCK_THREAD_CPUTIME_ID) + ns;
	volatile long long rounds = 0;

	while (now(CLOCK_THREAD_CPUTIME_ID) < end)
		for (int i = 0; i < 1000; i++)
			rounds++;
	return 0;
}

int cuCtxSynchronize(long long ns)
{
	return spin(ns) + (int)(ns < 0);
}

// With CU_CTX_SCHED_BLOCKING_SYNC it sleeps until the interrupt comes.
__attribute__((noinline)) static int sleep_until_interrupt(long long ns)
{
	struct timespec time = { ns / 1000000000, ns % 1000000000 };

	return ppoll((void *)0, 0, &time, (void *)0);
}

int cuStreamSynchronize(long long ns)
{
	return sleep_until_interrupt(ns) + (int)(ns < 0);
}
