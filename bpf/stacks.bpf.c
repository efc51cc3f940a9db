// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Asks:   in which functions is a thread while it is on CPU, waits, or has a call that fails?
// Hooks:  none of its own for that: it runs behind on_sample, on_switch and on_return (EXTENSION);
//         tp_btf sched_process_fork, sched_process_exec; iter/task for those that sleep all the time
// Gives:  records of stacks: Python, native and kernel frames, with the open spans
// Cost:   a walk, 2 to 8 µs, for each sample; for waits by tokens; for failed calls a few a second of each kind
// Needs:  bpf_loop (5.17), bpf_task_pt_regs (5.15); tracekit.bpf.c, whose maps it shares
#include "native.bpf.h"
#include "opened.bpf.h"
#include "python.bpf.h"

enum {
	STACK_RING_BYTES = 1 << 22,
	TOKEN_NS = 2000000,		// a thread may walk for that many waits a second, and in bursts of
	MANY_TOKENS = 64,
	LONG_WAIT_NS = 100000,		// waits below have no stack
	MANY_BRIEF = 5,			// after so many brief waits in a system call one of 2^5 is walked
	FAILURE_NS = 50000000,		// one walk in so long for each system call and errno
	MAX_FAILURES = 1024,
	MAX_ERRNO = 4095,
	PLAIN_STACK = 0,
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, STACK_RING_BYTES);
} stack_records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_ANNOUNCED);
	__type(key, __u32);
	__type(value, __u64);
} announced SEC(".maps");

struct failure {
	__u64 since_ns;
	__u64 skipped;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FAILURES);
	__type(key, __u32);		// errno << 16 | system call
	__type(value, struct failure);
} failures SEC(".maps");

static __always_inline struct layout *layout_of_process(__u32 tgid, __u32 *number)
{
	__u32 *known = bpf_map_lookup_elem(&layout_of, &tgid);

	*number = known ? *known : 0;
	return known ? bpf_map_lookup_elem(&layouts, known) : NULL;
}

// --- Walks ------------------------------------------------------------------------------------

// Walk the user's side of the running thread into *s*. Returns how many words that are.
static __always_inline __u32 walk_user(struct scratch *s, struct task_struct *task, struct task_state *state)
{
	struct layout *layout = layout_of_process(task->tgid, &s->record.layout);
	__u32 python = 0, natives = 0;

	s->record.user = 0;
	s->record.python_end = PYTHON_NONE;
	s->record.native_end = NATIVE_NONE;
	if (layout) {
		python = walk_python(s, layout, state, task->thread.fsbase);
		if (python > MAX_PYTHON_FRAMES)
			python = 0;
		natives = walk_native(s, layout, python);
		if (natives > MAX_NATIVE_FRAMES)
			natives = 0;
		s->record.user = mixed(s->native.hash, (__u64)s->record.layout << 32 | task->tgid) | 1;
	}
	s->record.python = python;
	s->record.natives = natives;
	return python + natives;
}

static __always_inline __u32 hash_kernel(struct scratch *s, long bytes)
{
	__u64 hash = HASH_SEED;
	__u32 count = bytes > 0 ? (__u32)bytes / 8 : 0;

	for (__u32 i = 0; i < MAX_KERNEL_FRAMES; i++) {
		if (i >= count)
			break;
		hash = mixed(hash, s->kernel[i]);
	}
	s->record.kernel = count ? hash | 1 : 0;
	return count;
}

static __always_inline bool is_announced(__u64 identity)
{
	__u32 at = identity >> 8 & (MAX_ANNOUNCED - 1);
	__u64 *known = bpf_map_lookup_elem(&announced, &at);

	return known && *known == identity;
}

static __always_inline void announce(__u64 identity)
{
	__u32 at = identity >> 8 & (MAX_ANNOUNCED - 1);
	__u64 *known = bpf_map_lookup_elem(&announced, &at);

	if (known)
		*known = identity;
}

// Send the record in *s*, with those frames that the collector lacks. Global: the verifier walks it once.
__noinline int send(struct scratch *s, __u32 user, __u32 kernels)
{
	__u32 words = user & (MAX_WORDS - 1), bytes;

	if (!s)
		return 0;
	if (!s->record.user || is_announced(s->record.user)) {
		s->record.python = s->record.natives = 0;
		words = 0;
	}
	if (!s->record.kernel || is_announced(s->record.kernel) || kernels > MAX_KERNEL_FRAMES)
		kernels = 0;
	asm volatile("" : "+r"(words));
	words &= MAX_WORDS - 1;
	if (kernels && bpf_probe_read_kernel(&s->words[words], (kernels & 127) * 8, s->kernel))
		kernels = 0;
	s->record.kernels = kernels;
	bytes = sizeof(s->record) + ((words + kernels) & (2 * MAX_WORDS - 1)) * 8;
	if (bytes > sizeof(s->record) + sizeof(s->words))
		return 0;
	if (bpf_ringbuf_output(&stack_records, &s->record, bytes, BPF_RB_NO_WAKEUP)) {
		count_loss(LOSS_STACK);
		return 0;
	}
	if (words)
		announce(s->record.user);
	if (kernels)
		announce(s->record.kernel);
	return 0;
}

static __always_inline void copy_spans(__u64 *to, struct task_state *state)
{
	for (int i = 0; i < STACK_SPANS; i++)
		to[i] = state->probed && i < (int)state->spans.depth ? state->spans.open[i].start_ns : 0;
}

// Whoever has stacks of the open spans wants to know how long these become.
__noinline int mark_spans(struct task_state *state, __u32 tgid)
{
	if (!state || !state->probed)
		return 0;
	for (__u32 i = 0; i < MAX_OPEN_SPANS && i < state->spans.depth; i++) {
		struct open_key key = { .span = state->spans.open[i], .tgid = tgid };
		struct open_span *open = bpf_map_lookup_elem(&open_spans, &key);

		if (open)
			open->stacks = 1;
	}
	return 0;
}

static __always_inline void describe(struct stack_record *record, struct task_struct *task, struct task_state *state,
				     __u8 kind)
{
	record->at_ns = bpf_ktime_get_ns();
	record->tgid = task->tgid;
	record->pid = task->pid;
	record->role = state->role;
	record->thread = state->thread;
	record->span = state->span;
	record->nr = state->nr;
	record->err = 0;
	record->reason = 0;
	record->kind = kind;
}

// --- On CPU -----------------------------------------------------------------------------------

SEC("perf_event")
int on_stack_sample(void *context)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_state *state = state_of(task);
	struct scratch *s = get_scratch(OF_SAMPLES);
	__u32 user, kernels;

	if (!state || !s)
		return 0;
	describe(&s->record, task, state, STACK_CPU);
	s->record.weight = 1000000000ULL / SAMPLE_HZ * config.stacks;
	s->record.nr = NR_NONE;
	copy_spans(s->record.spans, state);
	mark_spans(state, task->tgid);
	user = walk_user(s, task, state);
	kernels = hash_kernel(s, bpf_get_stack(context, s->kernel, sizeof(s->kernel), PLAIN_STACK));
	return send(s, user, kernels);
}

// --- Waits ------------------------------------------------------------------------------------

// May this wait have a walk? A thread has tokens. When they get few it saves them in a call where its waits are brief:
// those for a lock say nothing of how long it will sleep.
static __always_inline bool is_worth_it(struct task_stack *stack, __u16 nr, __u64 now)
{
	__u64 fresh = (now - stack->filled_ns) / TOKEN_NS;

	if (fresh) {
		stack->tokens = stack->tokens + fresh > MANY_TOKENS ? MANY_TOKENS : stack->tokens + fresh;
		stack->filled_ns = now;
	}
	if (!stack->tokens)
		return false;
	if (stack->tokens < MANY_TOKENS / 2 && nr == stack->brief_nr && stack->brief >= MANY_BRIEF &&
	    stack->brief++ & ((1 << MANY_BRIEF) - 1))
		return false;
	stack->tokens--;
	return true;
}

// A wait is over, and long enough: it goes with the stack that was found as it began.
static __always_inline void end_wait(struct task_struct *task, struct task_state *state, struct scratch *s)
{
	struct task_stack *stack = &state->stack;
	__u64 waited = state->waited_ns;

	state->waited_ns = 0;
	if (waited < LONG_WAIT_NS) {
		if (state->nr != stack->brief_nr)
			stack->brief = 0;
		stack->brief_nr = state->nr;
		if (stack->brief < 255)
			stack->brief++;
		return;
	}
	if (state->nr == stack->brief_nr)
		stack->brief = 0;
	if ((!stack->user && !stack->kernel) || !was_seen_since(TIER_STACKS, stack->begun_ns))
		return;
	describe(&s->record, task, state, STACK_WAIT);
	s->record.weight = waited;
	s->record.user = stack->user;
	s->record.kernel = stack->kernel;
	s->record.nr = stack->nr;
	s->record.reason = stack->reason;
	s->record.span = stack->span;
	s->record.python = s->record.natives = s->record.kernels = 0;
	s->record.python_end = PYTHON_WHOLE;
	s->record.native_end = NATIVE_WHOLE;
	__builtin_memcpy(s->record.spans, stack->spans, sizeof(stack->spans));
	mark_spans(state, task->tgid);
	if (bpf_ringbuf_output(&stack_records, &s->record, sizeof(s->record), BPF_RB_NO_WAKEUP))
		count_loss(LOSS_STACK);
}

// A wait begins. Its frames are sent now if they are new: what it weighs is known when it ends.
static __always_inline void begin_wait(void *context, struct task_struct *task, struct task_state *state,
				       struct scratch *s)
{
	struct task_stack *stack = &state->stack;
	__u32 user, kernels;

	stack->user = stack->kernel = 0;
	stack->begun_ns = state->off_ns;
	if (!is_worth_it(stack, state->nr, state->off_ns))
		return;
	describe(&s->record, task, state, STACK_WAIT);
	s->record.weight = 0;
	user = walk_user(s, task, state);
	kernels = hash_kernel(s, bpf_get_stack(context, s->kernel, sizeof(s->kernel), PLAIN_STACK));
	stack->user = s->record.user;
	stack->kernel = s->record.kernel;
	stack->nr = state->nr;
	stack->reason = state->reason;
	stack->span = state->span;
	copy_spans(stack->spans, state);
	if (s->record.native_end == NATIVE_NONE || (user && !is_announced(stack->user)) ||
	    (kernels && !is_announced(stack->kernel)))
		send(s, user, kernels);	// without a layout it asks for one
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_stack_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	struct scratch *s = get_scratch(OF_SWITCHES);
	struct task_state *go = prev->pid ? state_of(prev) : NULL;
	struct task_state *come;

	if (!s)
		return 0;
	if (go) {
		if (go->waited_ns)
			end_wait(prev, go, s);	// its switch in was not reported
		if (go->asleep && go->off_ns)
			begin_wait(ctx, prev, go, s);
	}
	come = next->pid ? state_of(next) : NULL;
	if (come && come->waited_ns)
		end_wait(next, come, s);
	return 0;
}

// --- Failed calls -----------------------------------------------------------------------------

// How many failures does a walk stand for now? 0: there was one a moment ago.
static __always_inline __u64 failures_since(__u32 nr, __u32 err, __u64 now)
{
	__u32 key = err << 16 | nr;
	struct failure *known = bpf_map_lookup_elem(&failures, &key);
	struct failure fresh = { .since_ns = now };
	__u64 weight;

	if (!known) {
		bpf_map_update_elem(&failures, &key, &fresh, BPF_ANY);
		return 1;
	}
	if (now - known->since_ns < FAILURE_NS) {
		__sync_fetch_and_add(&known->skipped, 1);
		return 0;
	}
	known->since_ns = now;
	weight = known->skipped + 1;
	known->skipped = 0;
	return weight;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_stack_failure, struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_state *state = state_of(task);
	struct scratch *s = get_scratch(OF_FAILURES);
	__u32 nr = regs->orig_ax < NR_UNKNOWN ? regs->orig_ax : NR_UNKNOWN, user;
	__u64 weight;

	if (!state || !s || ret >= 0 || ret < -MAX_ERRNO)
		return 0;
	if (regs->cx != regs->ip && task->thread_info.status & TS_COMPAT)
		nr |= NR_COMPAT;
	weight = failures_since(nr, -ret, bpf_ktime_get_ns());
	if (!weight)
		return 0;
	describe(&s->record, task, state, STACK_ERROR);
	s->record.weight = weight;
	s->record.nr = nr;
	s->record.err = -ret;
	s->record.kernel = 0;
	copy_spans(s->record.spans, state);
	user = walk_user(s, task, state);
	return send(s, user, 0);
}

// --- Processes --------------------------------------------------------------------------------

// A child has the memory of its parent, until it becomes another program.
SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_stack_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 from = parent->tgid, tgid = child->tgid, *number;

	if (child->pid != child->tgid || !state_of(child))
		return 0;
	number = bpf_map_lookup_elem(&layout_of, &from);
	if (number)
		bpf_map_update_elem(&layout_of, &tgid, number, BPF_ANY);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_stack_exec, struct task_struct *task, int old, struct linux_binprm *program)
{
	struct task_state *state = state_of(task);
	__u32 tgid = task->tgid;

	if (!state)
		return 0;
	state->stack.python = 0;
	bpf_map_delete_elem(&layout_of, &tgid);
	return 0;
}

SEC("iter/task")
int on_stack_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct scratch *s = get_scratch(OF_SLEEPERS);
	struct sleeper *sleeper;
	struct pt_regs *regs;
	long bytes;

	if (!task || !s || !state_of(task))
		return 0;
	sleeper = (struct sleeper *)s->chunk;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	sleeper->pc = BPF_CORE_READ(regs, ip);
	sleeper->sp = BPF_CORE_READ(regs, sp);
	sleeper->bp = BPF_CORE_READ(regs, bp);
	sleeper->pointer = task->thread.fsbase;
	sleeper->pid = task->pid;
	sleeper->tgid = task->tgid;
	sleeper->running = task->on_cpu;
	bytes = bpf_get_task_stack(task, sleeper->kernel, sizeof(sleeper->kernel), PLAIN_STACK);
	sleeper->kernels = bytes > 0 ? bytes / 8 : 0;
	bpf_seq_write(ctx->meta->seq, sleeper, sizeof(*sleeper));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
