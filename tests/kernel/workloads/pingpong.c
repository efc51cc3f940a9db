// SPDX-License-Identifier: Apache-2.0
// Two threads pass a byte to and fro through pipes: each read waits for the other's write.
// Arguments: TRUTH ROUNDS CPU [CPU]    the second thread's, if it is another one
#include "truth.h"

static int there[2], back[2];

static void *pong(void *cpu)
{
	char byte;

	pin((intptr_t)cpu);
	prctl(PR_SET_NAME, "pong");
	while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
		;
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char byte = 'x';

	if (argc < 4)
		return 2;
	begin(argv);
	pin(atoi(argv[3]));
	if (pipe(there) || pipe(back) || pthread_create(&thread, NULL, pong, (void *)(intptr_t)atoi(argv[argc - 1])))
		die("cannot set up");
	for (int i = 0; i < atoi(argv[2]); i++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			die("the ball is lost");
	close(there[1]);
	pthread_join(thread, NULL);
	say_self();
	finish();
	return 0;
}
