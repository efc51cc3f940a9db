// SPDX-License-Identifier: Apache-2.0
// What the workloads share: `NAME COUNT ROUNDS CPU` does COUNT operations ROUNDS times,
// pinned to CPU, and prints ns per operation of the fastest round. Noise of a machine only
// ever adds, so the fastest round is the steadiest number.
#pragma once

#include <err.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static void pin_to(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		err(1, "cannot run on CPU %d", cpu);
}

static double fastest(void (*operations)(long count), long count, int rounds)
{
	double best = 0;

	for (int round = 0; round < rounds; round++) {
		double start = now_ns();

		operations(count);
		double each = (now_ns() - start) / count;

		if (!round || each < best)
			best = each;
	}
	return best;
}

static int run(int argc, char **argv, void (*operations)(long count))
{
	if (argc != 4)
		errx(2, "usage: COUNT ROUNDS CPU");
	pin_to(atoi(argv[3]));
	printf("%.3f\n", fastest(operations, atol(argv[1]), atoi(argv[2])));
	return 0;
}
