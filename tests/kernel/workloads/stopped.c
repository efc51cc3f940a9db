// SPDX-License-Identifier: Apache-2.0
// A child stops itself by SIGSTOP, TIMES times; its parent lets it go on after MS.
// Arguments: TRUTH TIMES MS
#include "truth.h"

int main(int argc, char **argv)
{
	int status, stops = 0;

	if (argc < 4)
		return 2;
	begin(argv);
	int child = fork();
	if (!child) {
		prctl(PR_SET_NAME, "stops");
		for (int i = 0; i < atoi(argv[2]); i++)
			raise(SIGSTOP);
		_exit(0);
	}
	while (waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status)) {
		stops++;
		nap_ms(atoi(argv[3]));
		kill(child, SIGCONT);
	}
	say("stops", stops);
	finish();
	return 0;
}
