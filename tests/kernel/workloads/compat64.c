// SPDX-License-Identifier: Apache-2.0
// A 64-bit program that makes i386 system calls by int 0x80, whose numbers mean other calls.
// Arguments: TRUTH GETPIDS OPENS
#include "truth.h"

static long int80(long number, long first, long second)
{
	long result;

	// 20 is getpid there and writev here; 5 is open there and fstat here.
	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second)
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

int main(int argc, char **argv)
{
	static const char missing[] = "/nonexistent/tracekit"; // below 4 GB: the program is not PIE
	int pids = 0, missed = 0;

	if (argc < 4)
		return 2;
	begin(argv);
	for (int i = 0; i < atoi(argv[2]); i++)
		pids += int80(20, 0, 0) == getpid();
	for (int i = 0; i < atoi(argv[3]); i++)
		missed += int80(5, (long)missing, O_RDONLY) == -ENOENT;
	say("getpid", pids);
	say("open ENOENT", missed);
	finish();
	return 0;
}
