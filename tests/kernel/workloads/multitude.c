// SPDX-License-Identifier: Apache-2.0
// Very many children that live all at once, every seventh of which exits with 3; then as many threads as told.
// Arguments: TRUTH PROCESSES THREADS
#include "truth.h"

enum { STACK = 16384, SEVENTH = 7, ITS_END = 3 };
static int gate[2];

static void *wait_for_the_gate(void *unused)
{
	char byte;

	if (read(gate[0], &byte, 1))
		die("the gate let something through");
	return unused;
}

static int start_children(int most)
{
	for (int i = 0; i < most; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return i;
		if (!pid) {
			close(gate[1]);
			wait_for_the_gate(NULL);
			_exit(i % SEVENTH ? 0 : ITS_END);
		}
	}
	return most;
}

static int start_threads(int most, pthread_t *threads)
{
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK);
	for (int i = 0; i < most; i++)
		if (pthread_create(&threads[i], &small, wait_for_the_gate, NULL))
			return i;
	return most;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	int status, seventh = 0, ended = 0, most = atoi(argv[3]);
	pthread_t *threads = calloc(most + 1, sizeof(*threads));

	begin(argv);
	if (!threads || pipe(gate))
		die("cannot begin");
	int children = start_children(atoi(argv[2]));

	close(gate[1]);
	while (wait(&status) > 0) {
		ended += WIFEXITED(status);
		seventh += WIFEXITED(status) && WEXITSTATUS(status) == ITS_END;
	}
	if (pipe(gate))
		die("cannot make another gate");
	int started = start_threads(most, threads);

	close(gate[1]);
	for (int i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	say("children", children);
	say("ended", ended);
	say("seventh", seventh);
	say("threads", started);
	say_self();
	finish();
	return 0;
}
