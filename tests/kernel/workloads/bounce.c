// SPDX-License-Identifier: Apache-2.0
// Moves from CPU to CPU, TIMES times. Arguments: TRUTH TIMES
#include "truth.h"

int main(int argc, char **argv)
{
	int moved = 0;

	if (argc < 3)
		return 2;
	begin(argv);
	pin(0);
	for (int i = 0; i < atoi(argv[2]); i++) {
		int before = sched_getcpu();

		pin(!before);
		moved += sched_getcpu() != before;
	}
	say("moved", moved);
	say_self();
	finish();
	return 0;
}
