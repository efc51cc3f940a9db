// SPDX-License-Identifier: Apache-2.0
// Tells who it is, then becomes another program.
// Arguments: TRUTH PROGRAM
#include <sys/auxv.h>
#include "truth.h"

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	begin(argv);
	say("uid", getuid());
	say("euid", geteuid());
	say("gid", getgid());
	say("secure", getauxval(AT_SECURE));
	finish();
	execv(argv[2], argv + 2);
	return 99;
}
