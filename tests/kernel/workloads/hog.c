// SPDX-License-Identifier: Apache-2.0
// Computes on one CPU for MS of wall time, and makes no system call meanwhile.
// Arguments: TRUTH MS CPU
#include "truth.h"

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	begin(argv);
	pin(atoi(argv[3]));
	long long start = now_ns();
	burn_until(start + atoi(argv[2]) * 1000000LL);
	say_self();
	finish();
	return 0;
}
