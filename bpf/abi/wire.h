/* SPDX-License-Identifier: MIT */
// What crosses from the kernel to the collector.
//
// One definition, two readers: the BPF programs and tracekit/capture/wire.py, which
// tests/kernel/test_abi.py compares with the BTF of the built object. Fixed-width
// fields, widest first, no hidden padding. Times are nanoseconds of CLOCK_MONOTONIC.
// Ids use kernel words: pid = thread, tgid = process.
#pragma once
#include <linux/types.h>

enum {
	WIRE_VERSION = 6,
	STEP_BITS = 7,		// linear steps per power of two: 2^7, HdrHistogram with 2 digits
	SLOTS = 4608,		// 1 ns .. 2^42 ns in HdrHistogram's order
	COMM_LEN = 16,
	MAX_SYSCALLS = 512,
	MAX_CPUS = 512,
	MAX_NAMES = 4096,
	MAX_HISTOGRAMS = 768,
	MAX_ACCOUNTS = 8192,
	MAX_PARTS = 4096,
	MAX_SPANS = 512,		// kinds of spans; 0: outside of any, 1: those that find no room
	SPAN_NONE = 0,
	SPAN_OTHER = 1,
	MAX_PEERS = 512,
	MAX_DB_NAMES = 1024,
	MAX_CONNECTIONS = 8192,
	PEER_LEN = 108,			// a path of a Unix socket
	DB_NAME_LEN = 16,
	DB_TEXT_LEN = 512,
	PARTIAL_LEN = 36,
	SAMPLE_HZ = 99,
	NR_NONE = 0xffff,	// not in a system call
	NR_COMPAT = 0x8000,	// | number: an i386 call, which has its own numbering
	NR_UNKNOWN = MAX_SYSCALLS - 1,	// any number above: no such call
};

// Kinds of rows. The first ones are histograms; row number == kind is the row that
// takes what found no room.
enum kind {
	H_RUNQ_WAIT,
	H_RUNQ_WAKE,
	H_RUNQ_LENGTH,
	H_ONCPU,
	H_OFFCPU,
	H_BLOCKED,
	H_SYSCALL,
	H_LOOP,
	H_DB,				// a role, a peer (thread), an operation (nr), what DB (reason): calls
	HISTOGRAM_KINDS,
	A_THREAD = HISTOGRAM_KINDS,	// a role and thread name: time on CPU and in the run queue
	A_BLOCKED,			// the same, waiting for a reason in a system call
	A_ERROR,			// a role, a system call, an errno: failures
	A_DB_ERROR,			// as H_DB, and an error (err): calls that failed
	P_SPAN,				// a role, a span, a latency bucket (nr), suspended or not (err): its parts
	P_DB,				// as H_DB, but a latency bucket (nr), an operation (err): the parts of calls
};

enum reason {
	R_OTHER,
	R_DISK,
	R_NETWORK,
	R_LOCK,
	R_POLL,
	R_PIPE,
	R_CHILD,
	R_FAULT,
	R_STOPPED,
	R_PREEMPTED,
	REASONS,
	R_FILE = REASONS,	// only in config.reason_of: ask the file of the first argument
};

enum loss_reason {
	LOSS_TASK_STATE,	// no memory for per-task state: the task is not seen
	LOSS_WAKE,		// a task ran that was never seen to wake: one wait is too long
	LOSS_CLOCK,		// time ran backwards between two CPUs: recorded as 0 ns
	LOSS_CLAMPED,		// a value above the highest slot: recorded as the highest
	LOSS_RING,		// no room in the ring: a process record is missing
	LOSS_SERIES,		// no room for a new series: recorded without its labels
	LOSS_NAMES,		// no room for a new name: recorded as <other>
	LOSS_SWITCH,		// the kernel did not report a switch: times are put together from what it did
	LOSS_SPAN,		// a span that was not seen whole: its parts are not known
	LOSS_SPAN_READ,		// the current span could not be read: recorded as outside of any
	LOSS_CONNECTION,	// no room for a connection to a DB: its calls are not seen
	LOSS_SLOW,		// no room in the ring: a slow span has no record of its own
	LOSS_STACK,		// no room in the ring: a sample or wait has no stack
	LOSS_REASONS,
};

struct key {
	__u32 role;		// name id of the process
	__u32 thread;		// name id of the thread; 0 in keys of most histograms
	__u16 nr;		// system call, CPU number or latency bucket
	__u16 err;
	__u8 kind;
	__u8 reason;
	__u16 span;		// small id of the span's kind
} __attribute__((aligned(8)));	// compared as two words
_Static_assert(sizeof(struct key) == 16, "wire format changed: raise WIRE_VERSION");

struct head {			// of one histogram, beside its slots
	__u64 count;
	__u64 total;		// sum of the values
	__u64 low;
	__u64 high;
	__u64 groups;		// bit g: a slot in [128 g, 128 g + 128) was touched
	__u64 unused[3];
};
_Static_assert(sizeof(struct head) == 64, "wire format changed: raise WIRE_VERSION");

struct slots {
	__u64 count[SLOTS];	// 9 pages: mapped row by row, as rows come into use
};

struct account {
	__u64 ns;		// A_THREAD: on CPU; A_BLOCKED: waited
	__u64 count;		// slices; waits; errors
	__u64 queued_ns;	// A_THREAD: runnable, not running
	__u64 queued;
	__u64 involuntary;
	__u64 migrations;
	__u64 unused[2];
};
_Static_assert(sizeof(struct account) == 64, "wire format changed: raise WIRE_VERSION");

// Waits of a span: by reason, then for a CPU, then for the answer of a DB, which is taken from the reason.
enum { WAIT_RUNQ = R_PREEMPTED, WAIT_DB, WAITS };

struct span_sums {		// what spans went through
	__u64 wait_ns[WAITS];
	__u64 sampled_ns;	// samples on CPU
	__u64 errors;		// system calls that failed
};

struct parts {			// sums over spans of one latency bucket that have ended
	struct span_sums sums;
	__u64 unseen_ns;	// latency of those that were not seen whole
	__u64 latency_ns;	// of the others
	__u64 count;
};
_Static_assert(sizeof(struct parts) == 128, "wire format changed: raise WIRE_VERSION");

struct slow {			// which spans are worth a record of their own; the collector resets it each tick
	__u64 floor_ns;
	__u64 records;
};
_Static_assert(sizeof(struct slow) == 16, "wire format changed: raise WIRE_VERSION");

struct span_record {		// one of the slowest spans
	__u64 start_ns;
	__u64 duration_ns;
	struct span_sums sums;
	__u32 tgid;
	__u32 pid;
	__u32 role;
	__u16 span;
	__u8 awaited;
	__u8 flags;		// SPAN_FAILED | SPAN_SEEN | SPAN_SLOW | SPAN_STACKS
};
_Static_assert(sizeof(struct span_record) == 136, "wire format changed: raise WIRE_VERSION");

enum { SPAN_FAILED = 1, SPAN_SEEN = 2, SPAN_SLOW = 4, SPAN_STACKS = 8 };

struct board {			// how to read the current span of the threads of a process; from the collector
	__s64 offset;		// PROBE_STATIC, PROBE_DYNAMIC: of the thread record; PROBE_TABLE: address of the table
	__u32 module;		// PROBE_DYNAMIC
	__u32 mode;		// enum probe_mode
};
_Static_assert(sizeof(struct board) == 16, "wire format changed: raise WIRE_VERSION");

struct cpu {			// what one CPU does, and counts that it alone writes
	__u64 task;		// the traced task that runs here, 0: none
	__u64 waking;		// the task that this CPU is waking
	__u64 running;		// whoever came in last, traced or not; 0: no switch seen yet
	__u64 regs;		// saved registers of the task that was seen to run here since the last switch
	__u64 since_ns;		// its time on CPU is settled up to here
	__u64 call_ns;		// its system call began
	__u64 switches;		// traced tasks that came in: seen == recorded + lost
	__u64 restarts;
	__u64 samples;
	__u64 loss[LOSS_REASONS];
	__u32 role;
	__u32 row;		// account of the running thread
	__u32 oncpu;		// its histogram
	__u16 call_nr;
	__u8 resuming;		// its call was interrupted and may go on
	__u8 probed;		// it has a board: its spans can be read
	__u16 span;
	__u16 unused;
	__u32 unused2;
};
_Static_assert(sizeof(struct cpu) == 200, "wire format changed: raise WIRE_VERSION");

// What can be taken away and come back (capture/tiers.py), beside the scheduler and the lives of processes.
enum tier { TIER_RETURNS, TIER_CALLS, TIER_STACKS, TIER_DB, TIERS };

struct shared {			// one, written by all
	__u32 histograms;	// rows in use
	__u32 accounts;
	__u32 names;
	__u32 epoch;		// rises when a process takes another name
	__u32 iterate;		// what the next run of the iterator does
	__s32 threads;		// traced now
	__u32 adopted;		// tasks that were on a CPU when the trace began
	__u32 parts;
	__u32 spans;		// kinds in use
	__u32 peers;
	__u32 db_names;
	__u32 pause;		// odd: the scheduler is not looked at; what a task did in between is not known
	__u64 since_ns[TIERS];	// when the tier was attached last; NEVER_NS: it is not; 0: always was
	__u32 quiet;		// no records of the lives of processes that are forked now
	__u32 silent;		// processes that were forked so
};
_Static_assert(sizeof(struct shared) == 88, "wire format changed: raise WIRE_VERSION");

enum { ITERATE_MARK, ITERATE_REPORT };

enum life { LIFE_FORK = 1, LIFE_READY, LIFE_EXIT, LIFE_BOARD };
enum { LIFE_OOM = 1 };

struct life_record {
	__u64 at_ns;
	__u64 start_ns;
	__u64 first_run_ns;
	__u64 exec_ns;
	__u64 ready_ns;
	__u32 tgid;
	__u32 ppid;
	__u32 exit_code;	// as wait(2) tells it; LIFE_BOARD: descriptor of the board
	__u32 span;		// in which it was forked
	__u32 unused2;
	__u8 what;
	__u8 flags;
	__u8 found;		// existed at the attach
	__u8 unused;
	char comm[COMM_LEN];
};
_Static_assert(sizeof(struct life_record) == 80, "wire format changed: raise WIRE_VERSION");

enum db_system { DB_UNKNOWN, DB_POSTGRESQL, DB_MYSQL, DB_REDIS, DB_MONGODB, DB_SQLITE, DB_SYSTEMS };

// What DB, and how its calls are seen: key.reason of the rows of DB calls.
enum { DB_SYSTEM = 0x0f, DB_LIBRARY = 0x40, DB_TLS = 0x80 };

struct peer {			// who is called
	__u16 family;		// AF_UNIX, AF_INET, AF_INET6; 0: inside of the process (SQLite)
	__u16 port;
	__u8 address[PEER_LEN];	// 4 or 16 bytes, or the path of the socket, or of the library's file
};
_Static_assert(sizeof(struct peer) == 112, "wire format changed: raise WIRE_VERSION");

enum { DB_SPANS = 4 };

struct connection {		// to a DB, and the call that is under way on it
	__u64 start_ns;		// its first bytes were sent; 0: no call
	__u64 ready_ns;		// the first bytes of the answer came in; 0: not yet
	__u64 last_ns;		// the latest bytes of the answer were received; 0: none yet
	__u64 delay_ns;		// its thread has waited for a CPU, ever
	__u64 pid_tgid;		// its thread
	__u64 inode;		// of the socket
	__u64 polled_ns;	// its thread has waited for events, ever; for the network; inside of spans
	__u64 waited_ns;
	struct { __u64 node, start_ns; } spans[DB_SPANS];	// that the call is in, innermost first
	__u32 role;
	__u32 peer;
	__u16 operation;
	__u16 span;
	__u16 error;		// in the answer so far
	__u8 about;		// enum db_system, DB_TLS
	__u8 phase;
	__u32 rest;		// bytes of the answer that are still to come, where it says how many
	__u32 partial;		// bytes below: of a request of which too little has been sent to tell what it is
	__u8 begun[PARTIAL_LEN];
	__u32 asked;		// bytes of the last request, which began as above, but for TLS; 0: it is to be read again
	__u32 row;		// of the last call; 0: none
	__u32 parts_row;
	__u32 row_role;
	__u16 row_operation;
	__u16 row_span;
	__u16 row_bucket;
	__u8 row_about;
	__u8 unused[5];
};
_Static_assert(sizeof(struct connection) == 216, "wire format changed: raise WIRE_VERSION");

struct db_text {		// what is asked of a DB, and again without the text when the answer is there
	__u64 connection;
	__u64 start_ns;
	__u64 latency_ns;	// 0: there is no answer yet
	__u32 role;
	__u32 peer;
	__u16 operation;
	__u16 span;
	__u16 length;		// of text
	__u8 about;
	__u8 unused;
	char text[DB_TEXT_LEN];
};
_Static_assert(sizeof(struct db_text) == 552, "wire format changed: raise WIRE_VERSION");

enum { TASK_IS_RUNNING, TASK_IS_RUNNABLE, TASK_IS_BLOCKED };

struct task_record {		// one traced task, from the iterator
	__u64 since_ns;		// in this state
	__u64 start_ns;
	__u64 waited_ns;	// woken, but not on a CPU yet: the wait that ended
	__u32 pid;
	__u32 tgid;
	__u32 ppid;
	__u32 role;
	__u32 thread;
	__u32 span;
	__u16 nr;
	__u8 state;
	__u8 reason;
	char comm[COMM_LEN];	// of the process
	__u32 unused;
};
_Static_assert(sizeof(struct task_record) == 72, "wire format changed: raise WIRE_VERSION");

enum target_mode { TARGET_PIDS, TARGET_COMM, TARGET_CGROUP, TARGET_ALL };

struct config {			// constants of one session
	__u64 cgroup_id;
	__u32 self_tgid;	// never traced
	__u32 shards;		// power of two: copies of each row, to keep CPUs apart
	__u32 histograms;	// rows there are, at most MAX_HISTOGRAMS
	__u8 mode;
	__u8 children;
	__u8 latency;
	__u8 atomic;		// a shard is written by several CPUs
	__u8 returns;		// sys_exit is attached
	__u8 db_text;		// what is asked of DBs is reported
	__u8 stacks;		// one of so many samples takes a stack; 0: there are no stacks at all
	__u8 unused[5];
	char comm[COMM_LEN];
	__u8 reason_of[MAX_SYSCALLS];
};
_Static_assert(sizeof(struct config) == 560, "wire format changed: raise WIRE_VERSION");
