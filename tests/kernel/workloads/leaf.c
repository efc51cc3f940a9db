// SPDX-License-Identifier: Apache-2.0
// A child: works for some time, then blocks, then ends as told.
// Arguments: BURN_MS NAP_MS END; END is an exit code, or -N to die by signal N.
#include "truth.h"

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	burn_until(now_ns() + atoi(argv[1]) * 1000000LL);
	if (atoi(argv[2]))
		nap_ms(atoi(argv[2]));

	int end = atoi(argv[3]);
	if (end >= 0)
		_exit(end);
	raise(-end);
	pause();
}
