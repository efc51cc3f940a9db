/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Constants of the session, what each CPU does, and what each traced task is doing.
//
// A task is traced when it has a task_state: bystanders pay one failed lookup. The state
// lives in task storage, so it survives exec from any thread and goes with the task.
#pragma once
#include "abi/probe.h"
#include "abi/stacks.h"
#include "abi/wire.h"
#include "kernel.bpf.h"

const volatile struct config config = {};

static const __u64 NEVER_NS = -1ULL;	// later than any time

enum { MAX_OPEN_SPANS = 8 };

struct span_key {		// an open span, as no two are open at one place at one time
	__u64 node;
	__u64 start_ns;
};

struct task_spans {		// of a thread whose process has a board
	struct board board;
	__u64 memory;		// mm of the process: after an exec it is another, when it exits none
	__u64 since_ns;		// spans that began earlier are not seen whole
	__u64 begin_ns;		// those that ended earlier are nobody's: of the parent, or before the attach
	__u64 ended[2];		// of struct probe_thread: seen so far
	__u64 entered;		// the same, as of the last look
	struct span_sums sums;	// what the thread went through inside of spans, ever
	struct span_key open[MAX_OPEN_SPANS];	// innermost first, as of the last look
	// what a look reads; not on the stack, of which 6.1 has too little
	struct span_key seen[MAX_OPEN_SPANS];
	struct probe_thread thread;
	struct probe_end end;
	__u32 depth;
	__u32 records;		// in open_spans, made by this thread
	__u8 looking;		// a look is under way: another one, by an interrupt, would meet half of it
};

struct task_stack {		// of the wait that is under way, if somebody looks at stacks
	__u64 user;		// identities of its frames, as in struct stack_record
	__u64 kernel;
	__u64 spans[STACK_SPANS];
	__u64 python;		// state of the thread in its interpreter, as found last
	__u64 filled_ns;	// tokens were counted up to here
	__u64 begun_ns;		// the wait whose frames these are
	__u16 tokens;
	__u16 nr;
	__u16 span;
	__u8 reason;
	__u8 brief;		// waits in a row that were too short,
	__u16 brief_nr;		// in this system call
};

enum missed { MISSED_RUN = 1, MISSED_READY = 2 };	// it came to pass while nobody looked

struct task_state {
	__u64 start_ns;		// of the process: fork
	__u64 first_run_ns;
	__u64 exec_ns;
	__u64 ready_ns;
	__u64 on_ns;		// came on CPU
	__u64 off_ns;		// left it
	__u64 waking_ns;	// somebody began to wake it
	__u64 runnable_ns;	// it stands in a run queue
	__u64 call_ns;		// its system call began; kept here while it is off CPU
	__u64 file;		// the file it last slept in a read or write of
	__u64 file_ns;		// when that was looked at
	__u32 role;
	__u32 thread;
	__u32 epoch;
	__u32 cpu;		// last one
	__u32 descriptor;	// of file
	__u32 row;		// account of its role and thread name, 0: to be looked up
	__u32 oncpu;		// histograms of its role
	__u32 runq_wait;
	__u32 runq_wake;
	__u32 ended;		// the last of its threads has gone: said once
	__u32 counted;		// in shared.threads
	__u16 nr;
	__u16 call_nr;
	__u8 reason;
	__u8 file_reason;
	__u8 asleep;		// left the CPU to wait: only then does a wake-up mean anything
	__u8 cut;		// the wait began before the attach: no histogram gets it
	__u8 found;		// the process existed at the attach
	__u8 resuming;
	__u8 probed;		// spans are in use
	__u8 missed;		// enum missed
	__u8 silent;		// nobody was told of the process
	__u16 span;		// small id of the innermost one, as of the last look
	__u16 born_in;		// span in which the process was forked
	__u64 poll_ns;		// it began to sleep in a wait for events, since it last ran
	__u64 polled_ns;	// its last wait for events returned
	__u64 waited_ns;	// the wait from which it came
	__u32 pause;		// of struct shared: as of when the rest is true
	struct task_stack stack;
	struct task_spans spans;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_state);
} states SEC(".maps");

// What runs behind a program, on the same event: nothing, until the collector puts it there.
#define EXTENSION(name)                               \
	struct {                                      \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY); \
		__uint(max_entries, 1);               \
		__type(key, __u32);                   \
		__type(value, __u32);                 \
	} name SEC(".maps")

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_CPUS);
	__type(key, __u32);
	__type(value, struct cpu);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shared);
} shared SEC(".maps");

static __always_inline struct cpu *cpu_of(__u32 number)
{
	return bpf_map_lookup_elem(&cpus, &number);
}

static __always_inline struct cpu *this_cpu(void)
{
	return cpu_of(bpf_get_smp_processor_id());
}

static __always_inline struct shared *get_shared(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&shared, &only);
}

// Has *tier* been looked at without a gap since *begun_ns*?
static __always_inline bool was_seen_since(enum tier tier, __u64 begun_ns)
{
	struct shared *all = get_shared();

	return all && begun_ns >= all->since_ns[tier];
}

static __always_inline bool is_shed(enum tier tier)
{
	struct shared *all = get_shared();

	return all && all->since_ns[tier] == NEVER_NS;
}

// Does the state of a task hold? Not while the scheduler is not looked at, nor after that until it is made anew.
static __always_inline bool is_in_sight(struct task_state *state)
{
	struct shared *all = get_shared();

	return all && state->pause == all->pause;
}

// What a state that is made now is true as of. In a pause it will not do for what comes after.
static __always_inline __u32 present(struct shared *all)
{
	return all->pause & ~1U;
}

static __always_inline void count_loss(enum loss_reason reason)
{
	struct cpu *cpu = this_cpu();

	if (cpu)
		cpu->loss[reason]++;
}

static __always_inline struct task_state *state_of(struct task_struct *task)
{
	return bpf_task_storage_get(&states, task, NULL, 0);
}

static __always_inline struct task_state *new_state(struct task_struct *task)
{
	struct task_state *state = bpf_task_storage_get(&states, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!state)
		count_loss(LOSS_TASK_STATE);
	return state;
}
