/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Asks:   where does the wall time of each thread go: CPU, run queue, or waiting, and for what?
// Hooks:  tp_btf sched_waking, sched_wakeup, sched_wakeup_new, sched_switch
// Gives:  runq.wait, runq.wake, oncpu, offcpu{reason}, blocked{syscall}; accounts of wall time
// Cost:   one task-storage lookup per wake-up hook, up to two per switch; nothing per system call
// Needs:  kernel BTF, task storage in tracing programs (5.11), prev_state argument (5.18)
#pragma once
#include "life.bpf.h"
#include "names.bpf.h"
#include "series.bpf.h"
#include "spans.bpf.h"
#include "waits.bpf.h"

// now - then, 0 and a count if the clocks of two CPUs disagree.
static __always_inline __u64 since(__u64 now, __u64 then)
{
	if (now >= then)
		return now - then;
	count_loss(LOSS_CLOCK);
	return 0;
}

// A wake-up on the waker's own CPU has waking and wakeup back to back: one clock read does for
// both, and the second hook has nothing left to do. Only one that crosses CPUs takes time between.
SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *task)
{
	struct task_state *state = state_of(task);
	struct cpu *cpu = this_cpu();

	if (!state || !cpu || !state->asleep)
		return 0;
	cpu->waking = (__u64)task;
	state->waking_ns = bpf_ktime_get_ns();
	state->runnable_ns = state->waking_ns;
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	struct cpu *cpu = this_cpu();

	if (!cpu)
		return 0;
	if (cpu->waking == (__u64)task) {
		cpu->waking = 0;
		return 0;
	}

	struct task_state *state = state_of(task);

	if (state && state->asleep)
		state->runnable_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(on_wakeup_new, struct task_struct *task)
{
	struct task_state *state = state_of(task);

	if (state)
		state->runnable_ns = bpf_ktime_get_ns();
	return 0;
}

// Settle the time on CPU of the task that runs here, up to now.
static __always_inline struct account *settle_slice(struct cpu *cpu, __u64 now)
{
	struct account *account = account_of(cpu->row);

	if (now > cpu->since_ns) {	// else the sampler came in between, and has settled more
		if (account)
			bump(&account->ns, now - cpu->since_ns);
		cpu->since_ns = now;
	}
	return account;
}

// A wait for events: what a thread does between two of them keeps an event loop from its other work.
static __always_inline bool is_poll(__u32 nr)
{
	return nr == NR_EPOLL_WAIT || nr == NR_EPOLL_PWAIT || nr == NR_EPOLL_PWAIT2;
}

static __always_inline int end_busy(struct task_state *state, __u64 now)
{
	struct entry *entry;

	if (!state || !state->polled_ns)
		return 0;
	entry = was_seen_since(TIER_RETURNS, state->polled_ns) ?
			find(state->role, state->thread, H_LOOP, 0, 0, 0, 0) : NULL;
	if (entry)
		add_to_histogram(entry->row, since(now, state->polled_ns));
	state->polled_ns = 0;
	return 0;
}

// Find the rows of a thread: they go by its role, name and span.
static __always_inline bool find_rows(struct task_state *state)
{
	struct entry *entry = find(state->role, state->thread, A_THREAD, 0, 0, 0, state->span);

	if (!entry)
		return false;
	state->row = entry->row;
	state->oncpu = entry->histogram[0];
	state->runq_wait = entry->histogram[1];
	state->runq_wake = entry->histogram[2];
	return true;
}

// Which span is a thread in as it leaves the CPU? The slice is that span's. Global, as settle_absence is.
__noinline int follow_span(struct cpu *cpu, struct task_state *state, __u64 pointer, __u64 pid_tgid)
{
	if (!cpu || !state)
		return 0;
	if (pointer)
		look_at_spans(state, pointer, pid_tgid, LOOK_AND_SETTLE);
	else
		state->span = SPAN_NONE;	// its memory has gone
	if ((state->span != cpu->span || !state->row) && find_rows(state)) {
		cpu->span = state->span;
		cpu->row = state->row;
		cpu->oncpu = state->oncpu;
	}
	return 0;
}

// The slice of *task* ends: settle its time on CPU, and remember why it leaves.
static __always_inline void leave(struct cpu *cpu, struct task_struct *task, struct task_state *state, __u64 now,
				  bool runnable, __u32 waits)
{
	if (state->probed)
		follow_span(cpu, state, has_spans(task, state) ? task->thread.fsbase : 0, pid_tgid_of(task));

	struct account *account = settle_slice(cpu, now);

	if (account) {
		bump(&account->count, 1);
		if (runnable)
			bump(&account->involuntary, 1);
	}
	add_to_histogram(cpu->oncpu, since(now, state->on_ns));
	if (config.latency) {
		state->call_ns = cpu->call_ns;
		state->call_nr = cpu->call_nr;
		state->resuming = cpu->resuming;
	}
	state->off_ns = now;
	state->waking_ns = 0;
	if (runnable) {
		state->reason = R_PREEMPTED;
		state->runnable_ns = now;
		return;
	}
	state->runnable_ns = 0;
	if (waits & TASK_GONE)
		return;
	state->asleep = 1;
	explain_wait(task, state, waits);
	if (is_poll(state->nr) && !state->poll_ns) {
		state->poll_ns = now;
		end_busy(state, now);
	}
	if (!state->ready_ns && !(state->missed & MISSED_READY) && is_ready(task, state->reason)) {
		state->ready_ns = now;
		emit_life(task, state, LIFE_READY, now);
	}
}

// Settle what *state* waited for until it became runnable.
static __always_inline void settle_wait(struct task_state *state)
{
	__u64 end = state->waking_ns ? state->waking_ns : state->runnable_ns;
	__u64 waited = end > state->off_ns ? end - state->off_ns : 0;
	struct entry *entry = find(state->role, state->thread, A_BLOCKED, state->reason, state->nr, 0, state->span);

	if (!entry)
		return;

	struct account *account = account_of(entry->row);

	if (account) {
		bump(&account->ns, waited);
		bump(&account->count, 1);
	}
	if (state->probed && state->reason < R_PREEMPTED)
		state->spans.sums.wait_ns[state->reason] += waited;
	if (state->cut)
		return;
	state->waited_ns = waited;

	__u32 slot = clamped_slot_of(waited);

	add_to_slot(entry->histogram[0], waited, slot);
	if (entry->histogram[1])
		add_to_slot(entry->histogram[1], waited, slot);
}

// Settle how long *state* was runnable and did not run.
static __always_inline void settle_queue(struct account *account, struct task_state *state, __u64 now)
{
	__u64 wait = since(now, state->runnable_ns);
	__u64 wake = state->waking_ns ? since(state->runnable_ns, state->waking_ns) : 0;

	bump(&account->queued_ns, wait + wake);
	bump(&account->queued, 1);
	if (state->probed)
		state->spans.sums.wait_ns[WAIT_RUNQ] += wait + wake;
	if (state->cut)
		return;
	add_to_histogram(state->runq_wait, wait);
	if (wake)
		add_to_histogram(state->runq_wake, wake);
	if (state->reason == R_PREEMPTED && state->off_ns)
		add_to_histogram(histogram_row(state->role, H_OFFCPU, R_PREEMPTED, 0, state->span), wait);
}

// Settle the time of *state* off the CPU, up to now. Not static: the verifier walks a global
// function once, and not again for every path to it, which takes a third off the time to attach.
__noinline int settle_absence(struct task_state *state, __u64 now)
{
	if (!state)
		return 0;

	struct account *account = account_of(state->row);

	if (state->asleep && !state->runnable_ns) {	// it runs without a wake-up that we saw
		count_loss(LOSS_WAKE);
		state->runnable_ns = now;
	} else if (state->runnable_ns && account) {
		settle_queue(account, state, now);
	}
	if (state->off_ns && state->reason != R_PREEMPTED)
		settle_wait(state);
	return 0;
}

// Nobody looked at this task for a while: what it began before is in no histogram, and its spans are not seen whole.
static __noinline int lose_sight(struct task_state *state, __u32 pause, __u64 pid_tgid)
{
	if (!state->first_run_ns)
		state->missed |= MISSED_RUN;
	if (!state->ready_ns)
		state->missed |= MISSED_READY;
	state->cut = 1;
	state->asleep = 0;
	state->resuming = 0;
	state->off_ns = state->waking_ns = state->runnable_ns = state->waited_ns = 0;
	state->poll_ns = state->polled_ns = state->call_ns = 0;
	forget_open_spans(state, pid_tgid);
	state->spans.since_ns = bpf_ktime_get_ns();
	state->pause = pause;
	return 0;
}

// Something about processes has changed: a name, or one has a board now; or the scheduler is looked at again.
static __noinline int refresh(struct task_struct *task, struct task_state *state, __u32 epoch)
{
	__u32 tgid = task->tgid;
	struct shared *all = get_shared();

	if (all && state->pause != all->pause)
		lose_sight(state, all->pause, pid_tgid_of(task));
	refresh_names(task, state, epoch);
	if (!state->probed) {
		struct board *board = bpf_map_lookup_elem(&boards, &tgid);

		if (board)
			begin_spans(task, state, board, state->found ? 0 : state->start_ns);
	}
	return 0;
}

// Have *cpu* know what it runs.
static __always_inline void occupy(struct cpu *cpu, struct task_struct *task, struct task_state *state, __u64 since_ns)
{
	struct shared *all = get_shared();

	if (all && (state->epoch != all->epoch || state->pause != all->pause))
		refresh(task, state, all->epoch);
	if (!state->row && !find_rows(state))
		return;
	cpu->since_ns = since_ns;
	cpu->role = state->role;
	cpu->span = state->span;
	cpu->probed = state->probed;
	cpu->row = state->row;
	cpu->oncpu = state->oncpu;
	cpu->task = (__u64)task;
}

// A slice of *task* begins: settle how it came here.
static __always_inline void enter(struct cpu *cpu, struct task_struct *task, struct task_state *state, __u64 now)
{
	__u32 here = bpf_get_smp_processor_id();

	occupy(cpu, task, state, now);
	cpu->switches++;
	if (config.latency) {
		cpu->call_ns = state->call_ns;
		cpu->call_nr = state->call_nr;
		cpu->resuming = state->resuming;
	}

	struct account *account = account_of(state->row);

	if (!account)
		return;
	state->waited_ns = 0;
	settle_absence(state, now);
	if (!state->first_run_ns && !(state->missed & MISSED_RUN))
		state->first_run_ns = now;
	if (state->off_ns && state->cpu != here)
		bump(&account->migrations, 1);
	state->cpu = here;
	state->on_ns = now;
	state->off_ns = 0;
	state->asleep = 0;
	state->runnable_ns = 0;
	state->waking_ns = 0;
	state->cut = 0;
	if (state->poll_ns && !config.returns) {	// on_return knows better when the wait is over
		state->poll_ns = 0;
		state->polled_ns = now;
	}
}

// Some kernels leave switches out: a CPU that comes out of idle may run no tracepoint at all (seen
// under nested virtualization, with every tool). *task* runs here, and nobody said that it came in.
// When it did is told by the time it has run since, which the scheduler counts for itself.
static __noinline int catch_up(struct cpu *cpu, struct task_struct *task)
{
	bool left = cpu->task && cpu->task != (__u64)task;	// who ran before has left, unseen
	bool began = !cpu->running;	// the first switch of this CPU: nothing was left out
	struct task_state *state = task->pid ? state_of(task) : NULL;

	cpu->running = (__u64)task;
	if (began)
		return 0;
	cpu->task = 0;
	cpu->call_ns = 0;
	if (left)
		count_loss(LOSS_SWITCH);
	if (!state)
		return 0;

	__u64 at = bpf_ktime_get_ns() - (task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime);

	count_loss(LOSS_SWITCH);
	if (at < state->off_ns)
		at = state->off_ns;
	if (at < state->runnable_ns)
		at = state->runnable_ns;
	enter(cpu, task, state, at);
	return 0;
}

// The first switch of this CPU has yet to come: *task*, which runs here, lends its role to its calls.
static __always_inline void lend(struct cpu *cpu, struct task_struct *task)
{
	struct task_state *state = state_of(task);

	if (state && (!is_in_sight(state) || !state->on_ns))
		state = NULL;	// nobody knows since when it runs
	cpu->task = state ? (__u64)task : 0;
	cpu->role = state ? state->role : 0;
	cpu->span = state ? state->span : 0;
	cpu->probed = state && state->probed;
	cpu->since_ns = NEVER_NS;
	cpu->call_ns = 0;
}

// Is the task with saved registers *regs*, which runs here, traced? It is looked at once between
// two switches; its registers lie at the top of its stack, so no other task has them there. One
// whose switch was not reported is caught up with before anybody looks at its spans: what it
// waited for is that of the spans it waited in, not of those that it has begun since.
static __always_inline bool runs_traced(struct cpu *cpu, struct pt_regs *regs)
{
	if (cpu->regs != (__u64)regs) {
		struct task_struct *task = bpf_get_current_task_btf();

		if (!cpu->running)
			lend(cpu, task);
		else if (cpu->running != (__u64)task)
			catch_up(cpu, task);
		cpu->regs = (__u64)regs;
	}
	return cpu->task;
}

EXTENSION(after_switch);

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	struct cpu *cpu = this_cpu();

	if (!cpu)
		return 0;

	cpu->waking = 0;	// a wake-up that went to another CPU ended there
	cpu->regs = 0;
	if (cpu->running != (__u64)prev)
		catch_up(cpu, prev);
	cpu->running = (__u64)next;

	bool traced = cpu->task == (__u64)prev;
	struct task_state *come = next->pid ? state_of(next) : NULL;

	if (!traced) {
		asm volatile("" ::: "memory");	// one || of both would be an OR of pointers, which the verifier refuses
		if (!come)
			return 0;
	}

	__u64 now = bpf_ktime_get_ns();

	if (traced) {
		struct task_state *go = state_of(prev);

		if (go)
			leave(cpu, prev, go, now, preempt || prev_state == TASK_RUNNING, prev_state);
		cpu->task = 0;
		cpu->call_ns = 0;
	}
	if (come)
		enter(cpu, next, come, now);
	if (config.stacks)
		bpf_tail_call(ctx, &after_switch, 0);
	return 0;
}
