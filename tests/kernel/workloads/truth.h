/* SPDX-License-Identifier: Apache-2.0 */
// What a workload knows of itself: the second source its recording is compared with.
//
// Every workload takes the file for its truth as the first argument and writes one JSON
// object there before it ends, so that nothing depends on what becomes of its output.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static FILE *truth_file;
static char truth_path[4096], truth_draft[4096 + sizeof(".draft")];
static const char *truth_comma = "";

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fprintf(stderr, ": %s\n", strerror(errno));
	exit(99);
}

static inline long long on_clock(clockid_t clock)
{
	struct timespec at;

	clock_gettime(clock, &at);
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

// /proc/self/task/TID/schedstat: ns on a CPU, ns runnable but waiting for one, times it got one.
static inline void schedstat(int tid, long long *ran_ns, long long *waited_ns, long long *slices)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", tid);
	FILE *file = fopen(path, "re");

	if (!file || fscanf(file, "%lld %lld %lld", ran_ns, waited_ns, slices) != 3)
		die("cannot read %s", path);
	fclose(file);
}

// What the kernel knows of this process, and how long its first thread stood in a run queue.
struct own {
	long long at_ns, cpu_ns, voluntary, involuntary, waited_ns;
};

static struct own truth_at_begin;

static inline struct own own_now(void)
{
	struct own own = { .at_ns = on_clock(CLOCK_MONOTONIC), .cpu_ns = on_clock(CLOCK_PROCESS_CPUTIME_ID) };
	struct rusage use;
	long long ran, slices;

	schedstat(getpid(), &ran, &own.waited_ns, &slices);
	getrusage(RUSAGE_SELF, &use);
	own.voluntary = use.ru_nvcsw;
	own.involuntary = use.ru_nivcsw;
	return own;
}

static inline void begin(char **argv)
{
	truth_at_begin = own_now();
	snprintf(truth_path, sizeof(truth_path), "%s", argv[1]);
	snprintf(truth_draft, sizeof(truth_draft), "%s.draft", truth_path);
	truth_file = fopen(truth_draft, "we");
	if (!truth_file)
		die("cannot write %s", truth_draft);
	fputs("{", truth_file);
}

static inline void say(const char *key, long long value)
{
	fprintf(truth_file, "%s\"%s\": %lld", truth_comma, key, value);
	truth_comma = ",\n ";
}

static inline void say_list(const char *key, const long long *values, int count)
{
	fprintf(truth_file, "%s\"%s\": [", truth_comma, key);
	for (int i = 0; i < count; i++)
		fprintf(truth_file, "%s%lld", i ? ", " : "", values[i]);
	fputs("]", truth_file);
	truth_comma = ",\n ";
}

static inline long long now_ns(void)
{
	return on_clock(CLOCK_MONOTONIC);
}

// How often this thread has left the CPU to wait.
static inline long long waits_so_far(void)
{
	struct rusage use;

	getrusage(RUSAGE_THREAD, &use);
	return use.ru_nvcsw;
}

// Sleeps: where the time passes before the thread has gone to sleep, as on a CPU that another machine uses, again.
static inline void nap_ms(int ms)
{
	long long before = waits_so_far();

	do {
		struct timespec left = { ms / 1000, ms % 1000 * 1000000L };

		while (nanosleep(&left, &left) && errno == EINTR)
			;
	} while (waits_so_far() == before);
}

static inline void burn_until(long long end_ns)
{
	while (now_ns() < end_ns)
		;
}

static inline void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("cannot run on CPU %d", cpu);
}

static inline char state_of(int tid)
{
	char path[64], line[512] = "";

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	FILE *file = fopen(path, "re");

	if (!file)
		return 0;
	if (!fgets(line, sizeof(line), file))
		line[0] = 0;
	fclose(file);
	char *end = strrchr(line, ')');
	return end ? end[2] : 0;
}

// Waits until the kernel says that thread *tid* sleeps, so that what follows has to wake it.
static inline void until_asleep(int tid)
{
	for (char state = 0; state != 'S' && state != 'D'; state = state_of(tid))
		usleep(200);
}

// The truth every workload can tell of its whole process, children not included, from begin() to
// here. What came before is partly not its own: until its exec it was the process of its parent,
// under the parent's name, and is recorded so.
static inline void say_self(void)
{
	struct own now = own_now();

	say("pid", getpid());
	say("cpu_ns", now.cpu_ns - truth_at_begin.cpu_ns);
	say("process_cpu_ns", now.cpu_ns);	// with what it was before it became this program
	say("voluntary", now.voluntary - truth_at_begin.voluntary);
	say("involuntary", now.involuntary - truth_at_begin.involuntary);
	say("leader_runq_ns", now.waited_ns - truth_at_begin.waited_ns);
	say("wall_ns", now.at_ns - truth_at_begin.at_ns);
	say("end_ns", now_ns());
}

static inline void finish(void)
{
	fputs("}\n", truth_file);
	if (fclose(truth_file) || rename(truth_draft, truth_path)) // nobody reads half of it
		die("cannot write the truth");
}
