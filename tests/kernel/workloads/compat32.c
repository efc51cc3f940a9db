// SPDX-License-Identifier: Apache-2.0
// An i386 program without a C library: 1009 times getpid, 31 opens of a missing file, exit 0.
static long int80(long number, long first, long second)
{
	long result;

	asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second) : "memory");
	return result;
}

void _start(void)
{
	int wrong = 0;

	for (int i = 0; i < 1009; i++)
		wrong |= int80(20, 0, 0) <= 1;
	for (int i = 0; i < 31; i++)
		wrong |= int80(5, (long)"/nonexistent/tracekit", 0) != -2;
	int80(1, wrong, 0);
}
