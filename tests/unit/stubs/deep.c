// Functions with frames of every kind, one inside the other; the innermost says where it is, and waits.
//
// Says it by the unwinder of libgcc, which reads the same tables with other eyes.
#include <alloca.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 256 };

static int said, awaited;
static void (*volatile innermost)(void);

// Returns addresses as gcc's unwinder sees them, the first inside of this function: 8 bytes each behind their number.
__attribute__((noinline)) void stay(void)
{
	void *at[MOST];
	long count = backtrace(at, MOST);
	char more;

	if (write(said, &count, sizeof(count)) < 0 || write(said, at, count * sizeof(*at)) < 0)
		abort();
	while (read(awaited, &more, 1) > 0)
		;
}

__attribute__((noinline)) static long on_heap_of_stack(long size)
{
	volatile char *room = alloca(size); // rbp is its frame pointer

	room[0] = 1;
	innermost();
	return room[0];
}

__attribute__((noinline)) static long aligned_anew(long size)
{
	volatile char fine[128] __attribute__((aligned(64)));
	volatile char *room = alloca(size); // found by DW_OP_deref

	fine[0] = room[0] = 1;
	return on_heap_of_stack(size * 3) + fine[0] + room[0];
}

__attribute__((noinline)) static long large(long size)
{
	volatile char room[100000];

	room[0] = 1;
	return aligned_anew(size) + room[0];
}

static int compared(const void *left, const void *right)
{
	return large(40) + (left < right);
}

__attribute__((noinline)) static void sorted(void)
{
	int numbers[2] = { 2, 1 };

	qsort(numbers, 2, sizeof(*numbers), compared);
}

void deep(int out, int in, void (*last)(void))
{
	said = out;
	awaited = in;
	innermost = last ? last : stay;
	sorted();
	said = -1;
}

static void *thread(void *nothing)
{
	deep(1, 0, NULL);
	return nothing;
}

int main(int count, char **words)
{
	pthread_t one;

	if (count < 2) {
		deep(1, 0, NULL);
	} else if (!pthread_create(&one, NULL, thread, words)) {
		pthread_join(one, NULL);
	}
	return 0;
}
