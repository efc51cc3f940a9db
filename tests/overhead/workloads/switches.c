// SPDX-License-Identifier: Apache-2.0
// Two processes on one CPU that pass a byte back and forth: 2 switches, 2 wake-ups, 4 system calls a round trip.
#define _GNU_SOURCE
#include <sys/wait.h>
#include <unistd.h>
#include "rounds.h"

static int to_child[2], to_parent[2];

static void answer(void)
{
	char byte;

	close(to_child[1]);
	while (read(to_child[0], &byte, 1) == 1)
		if (write(to_parent[1], &byte, 1) != 1)
			break;
	_exit(0);
}

static void pass_back_and_forth(long count)
{
	char byte = 0;

	while (count--)
		if (write(to_child[1], &byte, 1) != 1 || read(to_parent[0], &byte, 1) != 1)
			err(1, "cannot pass a byte");
}

int main(int argc, char **argv)
{
	if (argc == 4)
		pin_to(atoi(argv[3]));	// the child inherits it
	if (pipe(to_child) || pipe(to_parent))
		err(1, "cannot make pipes");
	pid_t child = fork();

	if (child < 0)
		err(1, "cannot fork");
	if (!child)
		answer();
	int status = run(argc, argv, pass_back_and_forth);

	close(to_child[1]);
	waitpid(child, NULL, 0);
	return status;
}
