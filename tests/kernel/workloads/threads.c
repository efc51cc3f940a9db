// SPDX-License-Identifier: Apache-2.0
// Five named threads mix work, sleep, a contended lock and yields for MS each, and tell how long each lived.
// Arguments: TRUTH MS
//
// Truth, by thread name: [observed ns, CPU ns, ns runnable but waiting, times on a CPU]; joined_ns: from
// before each began until it was known to have ended, in the order of names.
#include "truth.h"

enum { THREADS = 5 };
static const char *const names[THREADS] = { "burner", "sleeper", "locker-1", "locker-2", "mixer" };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, output = PTHREAD_MUTEX_INITIALIZER;
static int ms;

static void step(int which)
{
	switch (which) {
	case 0:
		burn_until(now_ns() + 1000000);
		break;
	case 1:
		nap_ms(3);
		break;
	case 2:
	case 3:
		pthread_mutex_lock(&lock);
		burn_until(now_ns() + 500000);
		usleep(1000);
		pthread_mutex_unlock(&lock);
		sched_yield();
		break;
	case 4:
		burn_until(now_ns() + 200000);
		usleep(300);
		break;
	}
}

static void *live(void *argument)
{
	int which = (intptr_t)argument;
	long long start = now_ns(), ran, waited, slices;

	prctl(PR_SET_NAME, names[which]);
	while (now_ns() < start + ms * 1000000LL)
		step(which);
	schedstat(syscall(SYS_gettid), &ran, &waited, &slices);
	pthread_mutex_lock(&output);
	long long cpu = on_clock(CLOCK_THREAD_CPUTIME_ID);
	say_list(names[which], (long long[]){ now_ns() - start, cpu, waited, slices }, 4);
	pthread_mutex_unlock(&output);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	long long joined[THREADS];

	if (argc < 3)
		return 2;
	begin(argv);
	ms = atoi(argv[2]);
	for (intptr_t i = 0; i < THREADS; i++) {
		joined[i] = -now_ns();
		if (pthread_create(&threads[i], NULL, live, (void *)i))
			die("cannot start a thread");
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		joined[i] += now_ns();
	}
	say_list("joined_ns", joined, THREADS);
	say_self();
	finish();
	return 0;
}
