// SPDX-License-Identifier: Apache-2.0
// Starts children, one after the other, in one of the ways Linux has, and tells what became of each.
// Arguments: TRUTH HOW COUNT LEAF [LEAF ARGUMENT]...
//
// HOW: exec     fork, then execv in the child
//      fork     the child goes on in the parent's program: 2 ms of sleep, exit 3
//      vfork    vfork, then execv
//      spawn    posix_spawn
//      thread   fork; a second thread of the child calls execv, so its thread id changes
//      double   the child forks a grandchild that executes LEAF, and exits at once with 5
//      leader   the child's first thread ends at once, a second one 60 ms later with 7
#include <spawn.h>
#include "truth.h"

enum { MOST = 20000 };
static char **leaf;
static long long pids[MOST], statuses[MOST], started_ns[MOST], ended_ns[MOST];

static void *exec_leaf(void *unused)
{
	(void)unused;
	execv(leaf[0], leaf);
	_exit(99);
}

static void *outlive(void *unused)
{
	(void)unused;
	nap_ms(60);
	_exit(7);
}

__attribute__((noreturn)) static void in_thread(void *(*act)(void *))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, act, NULL))
		_exit(98);
	pthread_detach(thread);
	for (;;)
		pause();
}

__attribute__((noreturn)) static void child(char how)
{
	pthread_t thread;

	switch (how) {
	case 'f':
		nap_ms(2);
		_exit(3);
	case 't':
		in_thread(exec_leaf);
	case 'd':
		if (!fork())
			exec_leaf(NULL);
		_exit(5);
	case 'l':
		if (pthread_create(&thread, NULL, outlive, NULL))
			_exit(98);
		syscall(SYS_exit, 0);
	}
	exec_leaf(NULL);
	_exit(97);
}

static pid_t start(const char *how)
{
	pid_t pid = 0;

	if (!strcmp(how, "spawn")) {
		if (posix_spawn(&pid, leaf[0], NULL, NULL, leaf, NULL))
			die("cannot spawn %s", leaf[0]);
		return pid;
	}
	if (!strcmp(how, "vfork")) {
		pid = vfork();
		if (!pid) {
			execv(leaf[0], leaf);
			_exit(99);
		}
		return pid;
	}
	pid = fork();
	if (!pid)
		child(how[0]);
	return pid;
}

static int reap(int born, int index)
{
	int status;
	pid_t pid = waitpid(-1, &status, 0);

	if (pid < 0)
		die("lost a child");
	while (index < born && pids[index] != pid)
		index++;
	pids[index] = pid; // a grandchild, if it is none that we know
	statuses[index] = status;
	ended_ns[index] = now_ns();
	return index == born;
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	int count = atoi(argv[3]), born = 0, expected = !strcmp(argv[2], "double") ? 2 : 1;

	begin(argv);
	leaf = argv + 4;
	if (count > MOST / 2 || prctl(PR_SET_CHILD_SUBREAPER, 1))
		die("cannot have %d children", count);
	for (int i = 0; i < count; i++) {
		int first = born;

		started_ns[born] = now_ns();
		pids[born] = start(argv[2]);
		if (pids[born] < 0)
			die("cannot start a child");
		born++;
		for (int wait = 0; wait < expected; wait++)
			born += reap(born, first);
	}
	say_list("pids", pids, born);
	say_list("statuses", statuses, born);
	say_list("started_ns", started_ns, born);
	say_list("ended_ns", ended_ns, born);
	say_self();
	finish();
	return 0;
}
