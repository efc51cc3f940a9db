// SPDX-License-Identifier: Apache-2.0
// Starts many short processes, eight at a time so that their lives overlap, then makes calls of its own.
// Arguments: TRUTH PROCESSES CALLS NOTHING
#include "truth.h"

static void spawn(char *path)
{
	char *arguments[] = { path, NULL };
	pid_t pid = vfork();

	if (!pid) {
		execv(path, arguments);
		_exit(99);
	}
	if (pid < 0)
		die("cannot start a child");
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	int processes = atoi(argv[2]), calls = atoi(argv[3]), reaped = 0, status, alive = 0;

	begin(argv);
	for (int i = 0; i < processes; i++, alive++) {
		for (; alive >= 8; alive--)
			reaped += wait(&status) > 0 && status == 0;
		spawn(argv[4]);
	}
	for (; alive; alive--)
		reaped += wait(&status) > 0 && status == 0;
	pid_t child = fork();
	if (!child) {
		for (int i = 0; i < calls; i++)
			syscall(SYS_getppid);
		_exit(0);
	}
	waitpid(child, &status, 0);
	say("processes", reaped);
	say("child", child);
	say_self();
	finish();
	return 0;
}
