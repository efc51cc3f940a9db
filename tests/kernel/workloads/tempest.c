// SPDX-License-Identifier: Apache-2.0
// Storms that cost a tracer much, for as long as they are told, and small things that can be counted exactly:
// `tempest getppid|opens|pingpong|spawns SECONDS`, `tempest kill|nap|spawn TIMES`.
#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NOBODY = 1 << 22, NAP_NS = 20000000 };

static int to_child[2], to_parent[2];

static void get_parent(void)
{
	syscall(SYS_getppid);
}

static void open_nothing(void)
{
	if (open("/no-such-file", O_RDONLY) >= 0)
		errx(1, "/no-such-file exists");
}

static void pass_back_and_forth(void)
{
	char byte = 0;

	if (write(to_child[1], &byte, 1) != 1 || read(to_parent[0], &byte, 1) != 1)
		err(1, "cannot pass a byte");
}

static void spawn(void)
{
	pid_t child = vfork();

	if (!child) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(127);
	}
	if (child < 0 || waitpid(child, NULL, 0) != child)
		err(1, "cannot start /bin/true");
}

static void kill_nobody(void)
{
	if (!kill(NOBODY, 0))
		errx(1, "there is a process %d", NOBODY);
}

static void nap(void)
{
	struct timespec length = { .tv_nsec = NAP_NS };

	nanosleep(&length, NULL);
}

static void answer(void)
{
	char byte;

	close(to_child[1]);
	while (read(to_child[0], &byte, 1) == 1)
		if (write(to_parent[1], &byte, 1) != 1)
			break;
	_exit(0);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static const struct {
	const char *name;
	void (*what)(void);
	int for_seconds;
} KINDS[] = {
	{ "getppid", get_parent, 1 },
	{ "opens", open_nothing, 1 },
	{ "pingpong", pass_back_and_forth, 1 },
	{ "spawns", spawn, 1 },
	{ "kill", kill_nobody, 0 },
	{ "nap", nap, 0 },
	{ "spawn", spawn, 0 },
};

int main(int argc, char **argv)
{
	double amount = argc == 3 ? atof(argv[2]) : 0;

	if (pipe(to_child) || pipe(to_parent))
		err(1, "cannot make pipes");
	for (unsigned i = 0; amount && i < sizeof(KINDS) / sizeof(*KINDS); i++) {
		double end = seconds() + amount;

		if (strcmp(KINDS[i].name, argv[1]))
			continue;
		if (KINDS[i].what == pass_back_and_forth && !fork())
			answer();
		for (long n = 0; KINDS[i].for_seconds ? n % 64 || seconds() < end : n < amount; n++)
			KINDS[i].what();
		return 0;
	}
	errx(1, "usage: tempest KIND AMOUNT");
}
