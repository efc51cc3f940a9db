// SPDX-License-Identifier: Apache-2.0
// Forks processes of several threads that all end in the same moment, on all CPUs.
// Arguments: TRUTH PROCESSES THREADS
#include "truth.h"

static void *forever(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void crowd(int threads)
{
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	prctl(PR_SET_NAME, "crowd-child");
	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread, &small, forever, NULL))
			_exit(99);
	_exit(0);
}

int main(int argc, char **argv)
{
	int status, ended = 0;

	if (argc < 4)
		return 2;
	begin(argv);
	for (int i = 0; i < atoi(argv[2]); i++) {
		if (!fork())
			crowd(atoi(argv[3]));
		ended += wait(&status) > 0 && status == 0;
	}
	say("ended", ended);
	finish();
	return 0;
}
