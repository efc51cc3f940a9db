// SPDX-License-Identifier: Apache-2.0
// Makes system calls fail, each kind a known number of times, and counts its own errnos.
// Arguments: TRUTH
#include <arpa/inet.h>
#include <linux/futex.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "truth.h"

static void expect(int times, const char *call, const char *errno_name, int errno_number, long (*act)(void))
{
	char key[64];
	int failed = 0;

	for (int i = 0; i < times; i++) {
		errno = 0;
		if (act() < 0 && errno == errno_number)
			failed++;
	}
	snprintf(key, sizeof(key), "%s %s", call, errno_name);
	say(key, failed);
}

static int fds[2], unconnected;

static long open_missing(void) { return syscall(SYS_openat, AT_FDCWD, "/nonexistent/tracekit", O_RDONLY); }
static long read_empty(void) { char byte; return read(fds[0], &byte, 1); }
static long close_nothing(void) { return close(-1); }
static long resize_pipe_window(void) { struct winsize size; return ioctl(fds[0], TIOCGWINSZ, &size); }
static long wait_for_nobody(void) { return waitpid(-1, NULL, 0); }
static long make_root(void) { return mkdir("/", 0755); }
// No call has this number; its lower nine bits are those of write.
static long unknown_call(void) { return syscall(1025); }
static long signal_nobody(void) { return kill(0x3ffffff0, 0); }

static long wait_in_vain(void)
{
	static uint32_t word;
	struct timespec timeout = { 0, 100000 };

	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &timeout, NULL, 0);
}

static long connect_to_nobody(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(1), .sin_addr = { htonl(INADDR_LOOPBACK) } };

	return connect(unconnected, (struct sockaddr *)&address, sizeof(address));
}

int main(int argc, char **argv)
{
	begin(argv);
	unconnected = socket(AF_INET, SOCK_STREAM, 0);
	if (argc < 2 || pipe2(fds, O_NONBLOCK) || unconnected < 0)
		die("cannot set up");

	expect(101, "openat", "ENOENT", ENOENT, open_missing);
	expect(103, "read", "EAGAIN", EAGAIN, read_empty);
	expect(109, "close", "EBADF", EBADF, close_nothing);
	expect(113, "ioctl", "ENOTTY", ENOTTY, resize_pipe_window);
	expect(127, "wait4", "ECHILD", ECHILD, wait_for_nobody);
	expect(131, "mkdir", "EEXIST", EEXIST, make_root);
	expect(137, "1025", "ENOSYS", ENOSYS, unknown_call);
	expect(139, "kill", "ESRCH", ESRCH, signal_nobody);
	expect(13, "futex", "ETIMEDOUT", ETIMEDOUT, wait_in_vain);
	expect(149, "connect", "ECONNREFUSED", ECONNREFUSED, connect_to_nobody);
	finish();
	return 0;
}
