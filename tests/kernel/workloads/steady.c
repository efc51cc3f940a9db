// SPDX-License-Identifier: Apache-2.0
// Does the same things over and over until standard input ends, and checks the result of each.
// Arguments: TRUTH [ROUNDS]; it ends after so many rounds at the latest
//
// A round: a child that exits with 7, an open of a file that is not there, a byte through a pipe to a thread
// and back, a sleep. Exit status 23, or 1 if anything was not as it is when nobody looks.
#include <poll.h>
#include "truth.h"

enum { SURPRISES = 4, AS_EVER = 23 };
static int there[2], back[2];

static void *echo(void *unused)
{
	char byte;

	while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
		;
	return unused;
}

static bool has_ended(void)
{
	struct pollfd input = { .fd = STDIN_FILENO };

	return poll(&input, 1, 0) == 1 && input.revents & POLLHUP;
}

static bool child_ends_with_7(void)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(7);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7;
}

static bool comes_back(char byte)
{
	char other = 0;

	return write(there[1], &byte, 1) == 1 && read(back[0], &other, 1) == 1 && other == byte;
}

int main(int argc, char **argv)
{
	int rounds = 0, most = argc > 2 ? atoi(argv[2]) : 1 << 30;
	long long wrong[SURPRISES] = { 0 };
	pthread_t thread;

	if (argc < 2)
		return 2;
	begin(argv);
	if (pipe(there) || pipe(back) || pthread_create(&thread, NULL, echo, NULL))
		die("cannot begin");
	for (; rounds < most && !has_ended(); rounds++) {
		struct timespec nap = { 0, 2000000 };

		wrong[0] += !child_ends_with_7();
		wrong[1] += open("/nonexistent/tracekit", O_RDONLY) != -1 || errno != ENOENT;
		wrong[2] += !comes_back((char)rounds);
		wrong[3] += nanosleep(&nap, NULL) != 0;
	}
	say("rounds", rounds);
	say_list("wrong", wrong, SURPRISES);
	say_self();
	finish();
	return wrong[0] || wrong[1] || wrong[2] || wrong[3] ? 1 : AS_EVER;
}
