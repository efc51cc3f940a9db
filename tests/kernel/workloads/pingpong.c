// SPDX-License-Identifier: Apache-2.0
// Two threads pass a byte to and fro through pipes: each read waits for the other's write.
// Arguments: TRUTH ROUNDS CPU [CPU]    the second thread's, if it is another one
//
// idle_ns: how long these CPUs had nothing at all to do meanwhile, in ticks.
#include "truth.h"

static int there[2], back[2];

static long long idle_ns(int cpu)
{
	char line[512], name[16];
	long long idle = -1;
	FILE *file = fopen("/proc/stat", "re");

	snprintf(name, sizeof(name), "cpu%d ", cpu);
	while (file && idle < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			sscanf(line, "%*s %*d %*d %*d %lld", &idle);
	if (idle < 0)
		die("/proc/stat has no CPU %d", cpu);
	fclose(file);
	return idle * (1000000000 / sysconf(_SC_CLK_TCK));
}

static void *pong(void *cpu)
{
	char byte;

	pin((intptr_t)cpu);
	prctl(PR_SET_NAME, "pong");
	while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
		;
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char byte = 'x';

	if (argc < 4)
		return 2;
	begin(argv);
	int here = atoi(argv[3]), yonder = atoi(argv[argc - 1]);
	long long idle = idle_ns(here) + idle_ns(yonder);

	pin(here);
	if (pipe(there) || pipe(back) || pthread_create(&thread, NULL, pong, (void *)(intptr_t)yonder))
		die("cannot set up");
	for (int i = 0; i < atoi(argv[2]); i++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			die("the ball is lost");
	close(there[1]);
	pthread_join(thread, NULL);
	say("idle_ns", idle_ns(here) + idle_ns(yonder) - idle);
	say_self();
	finish();
	return 0;
}
