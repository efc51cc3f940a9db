/* SPDX-License-Identifier: MIT */
// What a traced process tells of its spans: memory that it alone writes.
//
// One definition, three readers: the probe in the process (tracekit/probe/_probe.c writes it,
// tracekit/probe/_fallback.py does so by struct formats), the collector
// (tracekit/capture/probes/layout.py) and the BPF programs. tests/unit/test_probe_abi.py and
// tests/kernel/test_abi.py compare them.
//
// Two places. The *board* is a sealed memfd named "tracekit" with the layout of struct
// probe_board: names, latency histograms, errors, counters; the collector finds it in
// /proc/PID/fd and maps it. The *thread record* is thread-local and says which span is
// current; the BPF programs read it in the process, as a debugger would. Nothing here may
// be trusted: whoever reads checks every index, pointer and text.
//
// Order is what makes it readable at any moment: a field that says that others are valid
// (magic, a table's `used`, a node's link) is written after them. Times: CLOCK_MONOTONIC, ns.
#pragma once
#include <linux/types.h>

#define PROBE_MAGIC "TRACEKIT"

enum {
	PROBE_VERSION = 1,
	PROBE_SLOTS = 4608,		// HdrHistogram's, as SLOTS in wire.h
	PROBE_BUCKETS = 288,		// slot >> 4: eight to a power of two
	PROBE_BUCKET_SHIFT = 4,
	PROBE_KINDS = 256,		// kind 0 takes what finds no room: <other>
	PROBE_ERRORS = 512,		// row 0: what finds no room
	PROBE_VALUES = 256,		// row 0 is not used: a value that finds no room is counted as lost
	PROBE_THREADS = 1024,		// slots of the table for probes without thread-local records
	PROBE_NAME = 64,		// bytes, with the NUL
	PROBE_LABELS = 184,		// "name=value\n" each, sorted by name; with the NUL
	PROBE_TYPE = 52,
	PROBE_ENDS = 256,		// of each class
	PROBE_LONG_NS = 100000,		// ends of spans at least this long have a ring of their own
	PROBE_SHORT_NS = 3000,		// shorter ones never left the CPU, and have none
};

enum probe_mode {
	PROBE_NOTHING,			// latencies only: the current span cannot be read
	PROBE_STATIC,			// thread record at thread pointer + tls_offset
	PROBE_DYNAMIC,			// at dtv[tls_module] + tls_offset, glibc's 16-byte entries
	PROBE_TABLE,			// no thread record: board.threads says the kind by thread pointer
};

struct probe_kind {
	__u64 id;			// BLAKE2b, 8 bytes, of the name, a NUL, and the labels
	char name[PROBE_NAME];		// UTF-8
	char labels[PROBE_LABELS];
};
_Static_assert(sizeof(struct probe_kind) == 256, "probe format changed: raise PROBE_VERSION");

struct probe_latency {			// of one kind: the spans that have ended
	__u64 errors;
	__u64 low;			// exact; 0 of no spans
	__u64 high;
	__u64 unused;
	__u64 total[PROBE_BUCKETS];	// sum of the latencies of a bucket
	__u64 awaited[PROBE_BUCKETS];	// as much of it is of spans whose Context was left and entered again
	__u64 count[PROBE_SLOTS];
};

struct probe_error {			// spans of a kind that ended by an exception
	__u64 count;
	__u32 kind;			// row of the kind
	char type[PROBE_TYPE];		// "ValueError"; "failed" of span.fail()
};
_Static_assert(sizeof(struct probe_error) == 64, "probe format changed: raise PROBE_VERSION");

enum probe_value_type { PROBE_COUNTER = 1, PROBE_GAUGE, PROBE_MARK };

struct probe_value {
	double value;			// counter: sum; gauge: last sample
	__u64 count;			// times it was set
	__u64 first_ns;			// mark: when it was first set
	__u32 type;
	__u32 unused;
	char name[PROBE_NAME];
	char labels[PROBE_LABELS - 24];
};
_Static_assert(sizeof(struct probe_value) == 256, "probe format changed: raise PROBE_VERSION");

struct probe_thread_slot {		// PROBE_TABLE: open addressing, hash = (thread pointer * 0x9E3779B97F4A7C15) >> 40
	__u64 thread_pointer;		// 0: free
	__u64 kind;			// id, 0: no span
};

struct probe_header {
	char magic[8];			// written last
	__u32 version;
	__u32 size;			// sizeof(struct probe_board)
	__u32 pid;			// as the process sees itself: another number inside a pid namespace
	__u32 mode;
	__s64 tls_offset;
	__u64 tls_module;
	__u64 threads_at;		// PROBE_TABLE: address of board.threads in the process
	__u32 kinds;			// rows in use
	__u32 errors;
	__u32 values;
	__u32 python;			// PY_VERSION_HEX
	__u64 lost_kinds;		// spans recorded as <other>
	__u64 lost_errors;
	__u64 lost_values;
	__u64 lost_threads;		// PROBE_TABLE: enters that found no slot
	__u64 start_ns;
	__u64 unused[51];
};
_Static_assert(sizeof(struct probe_header) == 512, "probe format changed: raise PROBE_VERSION");

struct probe_board {
	struct probe_header header;
	struct probe_kind kinds[PROBE_KINDS];
	struct probe_error errors[PROBE_ERRORS];
	struct probe_value values[PROBE_VALUES];
	struct probe_thread_slot threads[PROBE_THREADS];
	struct probe_latency latency[PROBE_KINDS];	// sparse: a kind that is not used costs no memory
};

// The thread record and what hangs on it lie in private memory: fork would not copy the page
// tables of shared memory, and a BPF program cannot wait for a page.

struct probe_node {			// an open span; the rest of it is the probe's own
	__u64 kind;			// id
	__u64 start_ns;			// 0: linked, but not begun yet
	__u64 prev;			// enclosing span of the same Context, 0: none
};

struct probe_contexts {			// current spans of the Contexts that do not run
	__u64 mask;			// of slots; hash = (context >> 4) * 0x9E3779B97F4A7C15 >> 40
	__u64 used;
	struct {
		__u64 context;		// 0: free
		__u64 top;
	} slot[];
};

struct probe_end {			// a span that ended
	__u64 node;
	__u64 start_ns;
	__u64 duration_ns;		// | PROBE_AWAITED, PROBE_FAILED
	__u64 kind;
};

#define PROBE_AWAITED (1ULL << 63)
#define PROBE_FAILED (1ULL << 62)

struct probe_ends {			// of the last spans that ended on this thread, [0] the short, [1] the long ones
	struct probe_end end[2][PROBE_ENDS];	// the n-th one is at n % PROBE_ENDS
};

struct probe_thread {			// thread-local
	__u64 top;			// innermost open span of `context`, a struct probe_node; 0: none
	__u64 context;			// Context that `top` belongs to
	__u64 context_at;		// where the running Context is found: &PyThreadState.context; 0: no span yet
	__u64 contexts;			// struct probe_contexts, 0: none
	__u64 ends;			// struct probe_ends
	__u64 ended[2];			// spans in `ends`, ever, by class
	__u64 entered;			// times that a span became the innermost, ever: the same `top` is the same span
};
_Static_assert(sizeof(struct probe_thread) == 64, "probe format changed: raise PROBE_VERSION");
