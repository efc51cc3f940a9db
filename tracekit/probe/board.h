// The board: names, latencies, errors and values of this process, in a memfd that the collector
// maps. It never moves: a child of fork puts its own where its parent's was, at the first use.
//
// Rows are given out under board_lock, which no Python code runs under. Counting takes no lock.
#pragma once
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "blake2b.h"
#include "record.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static struct probe_board *board;
static pthread_mutex_t board_lock = PTHREAD_MUTEX_INITIALIZER;
static u32 board_generation;		// raised by fork: spans opened before are the parent's
static bool board_is_parents;		// since fork, until the first use
static int board_fd = -1;
static struct stat board_file;		// what board_fd was when it was ours

static u32 kinds_used, errors_used, values_used;	// not from the board: after fork that is the parent's
static u32 first_error[PROBE_KINDS];	// of a kind; 0: none
static u32 next_error[PROBE_ERRORS];

static u64 clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000 + now.tv_nsec;
}

// The GIL keeps writers apart where there is one; readers only need whole words.
static inline void add(__u64 *sum, u64 more)
{
#ifdef Py_GIL_DISABLED
	__atomic_fetch_add(sum, more, __ATOMIC_RELAXED);
#else
	__atomic_store_n(sum, *sum + more, __ATOMIC_RELAXED);
#endif
}

static int memfd_above_stdio(unsigned int flags)
{
	int fd = memfd_create("tracekit", flags);

	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	int higher = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	close(fd);
	return higher;
}

// Beyond this limit ftruncate would not only fail, it would signal.
static bool file_may_be_as_large(void)
{
	struct rlimit limit;

	return !getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur >= sizeof(struct probe_board);
}

// Returns a sealed memfd of the size of a board, -1 if there is none to be had.
static int new_file(void)
{
	if (!file_may_be_as_large())
		return -1;
	int fd = memfd_above_stdio(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd < 0)	// MFD_NOEXEC_SEAL: "mm/memfd: add MFD_NOEXEC_SEAL" (105ff5339f49, Linux 6.3)
		fd = memfd_above_stdio(MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -1;
	if (!ftruncate(fd, sizeof(struct probe_board)) &&
	    !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return fd;
	close(fd);
	return -1;
}

// Without a file a board is still good for snapshots: private memory. NULL: no memory at all.
static struct probe_board *map_board(int *fd)
{
	void *new = MAP_FAILED;

	*fd = new_file();
	if (*fd >= 0)
		new = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (new != MAP_FAILED)
		return new;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	new = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return new == MAP_FAILED ? NULL : new;
}

// Of the interpreter that runs, which may be a later one of the same minor version.
static u32 python_version(void)
{
#if PY_VERSION_HEX >= 0x030b0000
	return Py_Version;
#else
	return PY_VERSION_HEX;
#endif
}

static void fill_header(struct probe_board *new)
{
	struct probe_header *header = &new->header;

	header->version = PROBE_VERSION;
	header->size = sizeof(*new);
	header->pid = getpid();
	header->python = python_version();
	header->kinds = kinds_used;
	header->errors = errors_used;
	header->values = values_used;
	header->start_ns = clock_ns();
	tell_record(header);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	memcpy(header->magic, PROBE_MAGIC, sizeof(header->magic));
}

// The number may be another file by now: daemons close every descriptor.
static void close_file(void)
{
	struct stat now;

	if (board_fd >= 0 && !fstat(board_fd, &now) &&
	    now.st_dev == board_file.st_dev && now.st_ino == board_file.st_ino)
		close(board_fd);
	board_fd = -1;
}

// Nothing else in this process may make this call: it tells the kernel side that a board is ready, and where.
static void announce(int fd)
{
	board_fd = fd;
	if (fd < 0 || fstat(fd, &board_file))
		return;
	fcntl(fd, F_GET_SEALS, &board->header);
}

static void name_kind(struct probe_kind *kind, const char *key, size_t name_length, size_t labels_length)
{
	kind->id = blake2b(key, name_length + 1 + labels_length);
	memcpy(kind->name, key, name_length);
	memcpy(kind->labels, key + name_length + 1, labels_length);
}

// At import. Returns false if there is no memory.
static bool begin_board(void)
{
	static const char other[] = "<other>";
	int fd;
	struct probe_board *new = map_board(&fd);

	if (!new)
		return false;
	name_kind(&new->kinds[0], other, sizeof(other) - 1, 0);
	kinds_used = errors_used = values_used = 1;
	board_generation = 1;
	fill_header(new);
	board = new;
	announce(fd);
	return true;
}

static void copy_names(struct probe_board *to, const struct probe_board *from)
{
	memcpy(to->kinds, from->kinds, kinds_used * sizeof(*to->kinds));
	for (u32 row = 1; row < values_used; row++) {
		to->values[row].type = from->values[row].type;
		memcpy(to->values[row].name, from->values[row].name, sizeof(to->values->name));
		memcpy(to->values[row].labels, from->values[row].labels, sizeof(to->values->labels));
	}
}

// In a child of fork, under board_lock: the same rows, all counts zero, at the same address.
static void replace_parents_board(void)
{
	int fd;
	struct probe_board *new = map_board(&fd);

	if (!new)
		return;
	errors_used = 1;
	memset(first_error, 0, sizeof(first_error));
	copy_names(new, board);
	fill_header(new);
	if (mremap(new, sizeof(*new), sizeof(*new), MREMAP_MAYMOVE | MREMAP_FIXED, board) == MAP_FAILED) {
		munmap(new, sizeof(*new));
		if (fd >= 0)
			close(fd);
		return;
	}
	close_file();
	__atomic_store_n(&board_is_parents, false, __ATOMIC_RELEASE);
	announce(fd);
}

// Returns whether this process has a board of its own to write to; makes one after a fork.
static bool board_is_ours(void)
{
	if (__builtin_expect(!__atomic_load_n(&board_is_parents, __ATOMIC_ACQUIRE), 1))
		return true;
	pthread_mutex_lock(&board_lock);
	if (board_is_parents)
		replace_parents_board();
	pthread_mutex_unlock(&board_lock);
	return !board_is_parents;
}

static u32 find_kind(u64 id)
{
	for (u32 row = 0; row < kinds_used; row++)
		if (board->kinds[row].id == id)
			return row;
	return 0;
}

// key: name, NUL, labels. Returns 0, <other>, where there is no room.
static u32 row_of_kind(const char *key, size_t name_length, size_t labels_length)
{
	struct probe_kind kind = { 0 };

	name_kind(&kind, key, name_length, labels_length);
	pthread_mutex_lock(&board_lock);
	u32 row = find_kind(kind.id);

	if (!row && kind.id != board->kinds[0].id && kinds_used < PROBE_KINDS) {
		row = kinds_used;
		board->kinds[row] = kind;
		__atomic_store_n(&board->header.kinds, ++kinds_used, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&board_lock);
	return row;
}

// Returns 0 if there is no such row.
static u32 find_error(u32 kind, const char *type)
{
	u32 row = __atomic_load_n(&first_error[kind], __ATOMIC_ACQUIRE);

	while (row && strncmp(board->errors[row].type, type, PROBE_TYPE))
		row = next_error[row];
	return row;
}

static u32 new_error(u32 kind, const char *type)
{
	pthread_mutex_lock(&board_lock);
	u32 row = find_error(kind, type);

	if (!row && errors_used < PROBE_ERRORS) {
		row = errors_used;
		board->errors[row].kind = kind;
		memcpy(board->errors[row].type, type, PROBE_TYPE);
		__atomic_store_n(&board->header.errors, ++errors_used, __ATOMIC_RELEASE);
		next_error[row] = first_error[kind];
		__atomic_store_n(&first_error[kind], row, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&board_lock);
	return row;
}

// type: PROBE_TYPE bytes, padded with NULs.
static void count_error(u32 kind, const char *type)
{
	u32 row = find_error(kind, type);

	if (!row)
		row = new_error(kind, type);
	if (!row)
		add(&board->header.lost_errors, 1);
	add(&board->errors[row].count, 1);
	add(&board->latency[kind].errors, 1);
}

// key as of kinds. Returns 0 if there is no room.
static u32 row_of_value(enum probe_value_type type, const char *key, size_t name_length, size_t labels_length)
{
	u32 row;

	pthread_mutex_lock(&board_lock);
	for (row = 1; row < values_used; row++)
		if (board->values[row].type == type &&
		    !strcmp(board->values[row].name, key) &&
		    !strcmp(board->values[row].labels, key + name_length + 1))
			break;
	if (row == PROBE_VALUES) {
		row = 0;
	} else if (row == values_used) {
		board->values[row].type = type;
		memcpy(board->values[row].name, key, name_length);
		memcpy(board->values[row].labels, key + name_length + 1, labels_length);
		__atomic_store_n(&board->header.values, ++values_used, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&board_lock);
	return row;
}

static u32 slot_of(u64 duration_ns)
{
	int octave = 56 - __builtin_clzll(duration_ns | 255);
	u64 slot = ((u64)octave << 7) + (duration_ns >> octave);

	return slot < PROBE_SLOTS ? slot : PROBE_SLOTS - 1;
}

static void widen(struct probe_latency *latency, u64 duration_ns)
{
#ifdef Py_GIL_DISABLED
	u64 low = __atomic_load_n(&latency->low, __ATOMIC_RELAXED);
	u64 high = __atomic_load_n(&latency->high, __ATOMIC_RELAXED);

	while ((!low || duration_ns < low) &&
	       !__atomic_compare_exchange_n(&latency->low, (__u64 *)&low, duration_ns, true,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	while (duration_ns > high &&
	       !__atomic_compare_exchange_n(&latency->high, (__u64 *)&high, duration_ns, true,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
#else
	if (duration_ns > latency->high)
		latency->high = duration_ns;
	if (!latency->low || duration_ns < latency->low)
		latency->low = duration_ns;
#endif
}

static inline void count_latency(u32 kind, u64 duration_ns, bool awaited)
{
	struct probe_latency *latency = &board->latency[kind];
	u32 slot = slot_of(duration_ns);

	add(&latency->count[slot], 1);
	add(&latency->total[slot >> PROBE_BUCKET_SHIFT], duration_ns);
	if (awaited)
		add(&latency->awaited[slot >> PROBE_BUCKET_SHIFT], duration_ns);
	widen(latency, duration_ns);
	if (__builtin_expect(!kind, 0))
		add(&board->header.lost_kinds, 1);
}
