// SPDX-License-Identifier: Apache-2.0
// Waits in page faults that a second thread resolves, each after MS: userfaultfd, no disk needed.
// Arguments: TRUTH FAULTS MS
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "truth.h"

enum { PAGE = 4096 };
static int faultfd, ms;

static void *resolve(void *unused)
{
	static char page[PAGE] __attribute__((aligned(PAGE)));
	struct uffd_msg message;

	(void)unused;
	prctl(PR_SET_NAME, "helper");
	while (read(faultfd, &message, sizeof(message)) == sizeof(message)) {
		struct uffdio_copy copy = {
			.dst = message.arg.pagefault.address & ~(PAGE - 1ULL), .src = (uintptr_t)page, .len = PAGE,
		};

		until_asleep(getpid());
		nap_ms(ms);
		if (ioctl(faultfd, UFFDIO_COPY, &copy))
			die("cannot resolve a page fault");
	}
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	int count = atoi(argv[2]);
	size_t length = (size_t)count * PAGE;
	char *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register area = {
		.range = { (uintptr_t)map, length }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	pthread_t thread;
	volatile char sum = 0;

	long long start = now_ns();

	begin(argv);
	ms = atoi(argv[3]);
	faultfd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (faultfd < 0 || ioctl(faultfd, UFFDIO_API, &api) || ioctl(faultfd, UFFDIO_REGISTER, &area))
		die("cannot handle page faults");
	if (pthread_create(&thread, NULL, resolve, NULL))
		die("cannot start a thread");
	for (int i = 0; i < count; i++)
		sum += map[i * PAGE];
	say("spent_ns", now_ns() - start);
	finish();
	return 0;
}
