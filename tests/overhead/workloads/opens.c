// SPDX-License-Identifier: Apache-2.0
// System calls that fail, as a program that searches its path makes them.
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>
#include "rounds.h"

static void open_nothing(long count)
{
	while (count--)
		if (open("/no-such-file", O_RDONLY) >= 0)
			errx(1, "/no-such-file exists");
}

int main(int argc, char **argv)
{
	return run(argc, argv, open_nothing);
}
