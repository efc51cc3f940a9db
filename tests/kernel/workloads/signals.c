// SPDX-License-Identifier: Apache-2.0
// Is interrupted by signals in blocking calls, each a known number of times.
// Arguments: TRUTH. A child sends each signal only when the parent sleeps in the call.
//
// What the kernel returns from the call, before it decides on restart or EINTR:
//   read with SA_RESTART    -ERESTARTSYS (-512)             the call starts again, unseen
//   read without            -ERESTARTSYS (-512)             user space gets EINTR
//   pause                   -ERESTARTNOHAND (-514)          user space gets EINTR
//   clock_nanosleep         -ERESTART_RESTARTBLOCK (-516)   user space gets EINTR
//   epoll_wait              -EINTR                          a real error
#include <sys/epoll.h>
#include <sys/mman.h>
#include "truth.h"

enum { RESTARTED = 11, READ_EINTR = 13, PAUSED = 5, SLEPT = 3, EPOLLED = 7 };

static volatile int *handled;

static void handler(int number)
{
	(void)number;
	(*handled)++;
}

static void handle_with(int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };

	if (sigaction(SIGUSR1, &action, NULL))
		die("cannot handle SIGUSR1");
}

static void pester(int pid, int times)
{
	for (int i = 0; i < times; i++) {
		int before = *handled;

		until_asleep(pid);
		kill(pid, SIGUSR1);
		while (*handled == before)
			usleep(200);
	}
}

static void tormentor(int pid, int end_of_pipe)
{
	prctl(PR_SET_NAME, "tormentor");
	pester(pid, RESTARTED);
	until_asleep(pid);
	if (write(end_of_pipe, "x", 1) != 1)
		_exit(1);
	pester(pid, READ_EINTR + PAUSED + SLEPT + EPOLLED);
	_exit(0);
}

int main(int argc, char **argv)
{
	int fds[2], poller = epoll_create1(0), interrupted = 0;
	struct epoll_event event;
	char byte;

	(void)argc;
	begin(argv);
	handled = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	handle_with(SA_RESTART);
	if (pipe(fds))
		die("cannot make a pipe");
	int child = fork();
	if (!child)
		tormentor(getppid(), fds[1]);

	if (read(fds[0], &byte, 1) != 1)
		die("read was not restarted");
	int restarted = *handled;
	handle_with(0);
	for (int i = 0; i < READ_EINTR; i++)
		interrupted += read(fds[0], &byte, 1) < 0 && errno == EINTR;
	for (int i = 0; i < PAUSED; i++)
		interrupted += pause() < 0 && errno == EINTR;
	for (int i = 0; i < SLEPT; i++) {
		struct timespec hour = { 3600, 0 };
		interrupted += clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, NULL) == EINTR;
	}
	say("restarted", restarted);
	say("interrupted", interrupted);
	int epolled = 0;
	for (int i = 0; i < EPOLLED; i++)
		epolled += epoll_wait(poller, &event, 1, -1) < 0 && errno == EINTR;
	say("epoll_wait EINTR", epolled);
	waitpid(child, NULL, 0);
	finish();
	return 0;
}
