// SPDX-License-Identifier: Apache-2.0
// Takes one name after the other and makes system calls fail under each: 101 the first, 103 the second, ...
// Arguments: TRUTH NAME...
#include "truth.h"

int main(int argc, char **argv)
{
	begin(argv);
	for (int i = 2; i < argc; i++) {
		int failed = 0;

		if (prctl(PR_SET_NAME, argv[i]))
			die("cannot be called that");
		nap_ms(1);
		for (int call = 0; call < 97 + 2 * i; call++)
			failed += close(-1) < 0;
		char key[16];
		snprintf(key, sizeof(key), "%d", i - 2);
		say(key, failed);
		nap_ms(250); // longer than an interval of the tests: a name of its own in the recording
	}
	finish();
	return 0;
}
