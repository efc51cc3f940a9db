// SPDX-License-Identifier: Apache-2.0
// Waits for a disk: writes and reads around the page cache, then page faults on a file that is not in it.
// Arguments: TRUTH FILE
#include <sys/mman.h>
#include "truth.h"

enum { BLOCK = 4096, BLOCKS = 61, FAULTS = 31 };

static void done(ssize_t result, const char *what)
{
	if (result != BLOCK)
		die("cannot %s", what);
}

static long long direct(const char *path, char *block)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC, 0600);
	long long start = now_ns();

	if (fd < 0)
		die("cannot write %s around the page cache", path);
	for (int i = 0; i < BLOCKS; i++)
		done(pwrite(fd, block, BLOCK, i * BLOCK), "write");
	for (int i = 0; i < BLOCKS; i++)
		done(pread(fd, block, BLOCK, i * BLOCK), "read");
	close(fd);
	return now_ns() - start;
}

static long long faults(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *map = mmap(NULL, BLOCKS * BLOCK, PROT_READ, MAP_SHARED, fd, 0);
	long long start = now_ns();
	volatile char sum = 0;

	if (map == MAP_FAILED || madvise(map, BLOCKS * BLOCK, MADV_RANDOM))
		die("cannot map %s", path);
	for (int i = 0; i < FAULTS; i++) {
		posix_fadvise(fd, i * BLOCK, BLOCK, POSIX_FADV_DONTNEED);
		sum += map[i * BLOCK];
	}
	return now_ns() - start;
}

int main(int argc, char **argv)
{
	char *block = aligned_alloc(BLOCK, BLOCK);

	if (argc < 3)
		return 2;
	begin(argv);
	memset(block, 'x', BLOCK);
	say("direct_ns", direct(argv[2], block));
	say("blocks", BLOCKS);
	long long before = waits_so_far();
	say("faults_ns", faults(argv[2]));
	say("faults_slept", waits_so_far() - before);
	struct rusage use;
	getrusage(RUSAGE_SELF, &use);
	say("major_faults", use.ru_majflt);
	say_self();
	finish();
	return 0;
}
