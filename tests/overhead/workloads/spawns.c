// SPDX-License-Identifier: Apache-2.0
// Processes that start, run a program that does nothing, and end.
#define _GNU_SOURCE
#include <sys/wait.h>
#include <unistd.h>
#include "rounds.h"

static void spawn(long count)
{
	while (count--) {
		pid_t child = vfork();
		int status;

		if (child < 0)
			err(1, "cannot fork");
		if (!child) {
			execl("/bin/true", "true", (char *)NULL);
			_exit(127);
		}
		if (waitpid(child, &status, 0) != child || status)
			errx(1, "/bin/true did not run");
	}
}

int main(int argc, char **argv)
{
	return run(argc, argv, spawn);
}
