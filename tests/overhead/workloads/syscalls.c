// SPDX-License-Identifier: Apache-2.0
// System calls that do nothing: all that a hook on them costs, and the worst a tracer can meet.
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
#include "rounds.h"

static void ask_for_parent(long count)
{
	while (count--)
		syscall(SYS_getppid);
}

int main(int argc, char **argv)
{
	return run(argc, argv, ask_for_parent);
}
