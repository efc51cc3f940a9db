// SPDX-License-Identifier: Apache-2.0
// Works in functions that are known, and keeps no frame pointers, from when there is a line to read.
// Arguments: NAME TRUTH; the truth is how much CPU time it took in each function, ns
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define PLAIN __attribute__((noinline, noclone))
#define STAYS __asm__ volatile("" ::: "memory") // what is called last is no tail call

static const uint64_t WORK_NS = 200000000;
static volatile uint64_t sink;

static uint64_t cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

PLAIN static void inner_c(uint64_t ns)
{
	uint64_t end = cpu_ns() + ns;

	while (cpu_ns() < end)
		for (int i = 0; i < 10000; i++)
			sink += i;
}

PLAIN static void middle_b(uint64_t ns)
{
	inner_c(ns);
	STAYS;
}

PLAIN static void outer_a(uint64_t ns)
{
	middle_b(ns);
	STAYS;
}

// Its frame has a size that is known when it runs, and is aligned anew: rbp holds it.
PLAIN static void sized(size_t size, uint64_t ns)
{
	char room[size];
	_Alignas(64) volatile char aligned[64];

	memset(room, 0, size);
	aligned[0] = room[size - 1];
	middle_b(ns);
	STAYS;
	sink += aligned[0] + room[0];
}

PLAIN static void recursive(int depth, uint64_t ns)
{
	if (depth)
		recursive(depth - 1, ns);
	else
		middle_b(ns);
	STAYS;
}

// Another function is called by the C library.
static int compared(const void *a, const void *b)
{
	inner_c(WORK_NS / 4);
	STAYS;
	return *(const int *)a - *(const int *)b;
}

PLAIN static void sorted(void)
{
	int numbers[] = { 3, 1, 2 };

	qsort(numbers, 3, sizeof(int), compared);
	STAYS;
}

PLAIN static void of_thread(void)
{
	middle_b(WORK_NS);
	STAYS;
}

static void *begin_thread(void *unused)
{
	of_thread();
	STAYS;
	return unused;
}

static void stay(void)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };

	while (!poll(&input, 1, 20))
		;
}

int main(int argc, char **argv)
{
	char ready[4096];
	pthread_t thread;

	if (argc < 3)
		return 2;
	prctl(PR_SET_NAME, argv[1]);
	snprintf(ready, sizeof(ready), "%s.ready", argv[2]);
	fclose(fopen(ready, "w"));
	stay();
	outer_a(WORK_NS);
	sized(argc * 100, WORK_NS);
	recursive(90, WORK_NS);
	uint64_t before = cpu_ns();
	sorted();
	uint64_t sorting = cpu_ns() - before;

	pthread_create(&thread, NULL, begin_thread, NULL);
	pthread_join(thread, NULL);

	FILE *truth = fopen(argv[2], "w");

	fprintf(truth, "{\"outer_a\": %1$lu, \"sized\": %1$lu, \"recursive\": %1$lu, \"of_thread\": %1$lu, \"sorted\": %2$lu}",
		WORK_NS, sorting);
	return fclose(truth);
}
