// SPDX-License-Identifier: Apache-2.0
// Takes memory until somebody puts an end to it. No arguments.
#include "truth.h"

int main(void)
{
	for (;;) {
		char *more = malloc(1 << 20);

		if (!more)
			return 1;
		memset(more, 1, 1 << 20);
	}
}
