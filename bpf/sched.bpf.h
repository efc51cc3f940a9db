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
#include "waits.bpf.h"

// now - then, 0 and a count if the clocks of two CPUs disagree.
static __always_inline __u64 since(__u64 now, __u64 then)
{
	if (now >= then)
		return now - then;
	count_loss(LOSS_CLOCK);
	return 0;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_waking, struct task_struct *task)
{
	struct task_state *state = state_of(task);

	if (state && state->asleep)
		state->waking_ns = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *task)
{
	struct task_state *state = state_of(task);

	if (!state || !state->asleep)
		return 0;
	state->asleep = 0;
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

	if (account)
		bump(&account->ns, since(now, cpu->since_ns));
	cpu->since_ns = now;
	return account;
}

// The slice of *task* ends: settle its time on CPU, and remember why it leaves.
static __always_inline void leave(struct cpu *cpu, struct task_struct *task, struct task_state *state, __u64 now,
				  bool runnable, __u32 waits)
{
	struct account *account = settle_slice(cpu, now);

	if (account) {
		bump(&account->count, 1);
		if (runnable)
			bump(&account->involuntary, 1);
	}
	add_to_histogram(cpu->oncpu, since(now, state->on_ns));
	state->call_ns = cpu->call_ns;
	state->call_nr = cpu->call_nr;
	state->resuming = cpu->resuming;
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
	if (!state->ready_ns && task->pid == task->tgid && is_ready_reason(state->reason)) {
		state->ready_ns = now;
		emit_life(task, state, LIFE_READY, now);
	}
}

// Settle what *state* waited for until it became runnable.
static __always_inline void settle_wait(struct task_state *state)
{
	__u64 end = state->waking_ns ? state->waking_ns : state->runnable_ns;
	__u64 waited = end > state->off_ns ? end - state->off_ns : 0;
	struct key key = {
		.role = state->role,
		.thread = state->thread,
		.kind = A_BLOCKED,
		.reason = state->reason,
		.nr = state->nr,
	};
	struct entry *entry = find(&key);

	if (!entry)
		return;

	struct account *account = account_of(entry->row);

	if (account) {
		bump(&account->ns, waited);
		bump(&account->count, 1);
	}
	if (state->cut)
		return;
	add_to_histogram(entry->histogram[0], waited);
	if (entry->histogram[1])
		add_to_histogram(entry->histogram[1], waited);
}

// A slice of *task* begins: settle how it came here.
static __always_inline void enter(struct cpu *cpu, struct task_struct *task, struct task_state *state, __u64 now)
{
	struct shared *all = get_shared();
	__u32 here = bpf_get_smp_processor_id();

	if (all && state->epoch != all->epoch)
		refresh_names(task, state, all->epoch);

	struct key key = { .role = state->role, .thread = state->thread, .kind = A_THREAD };
	struct entry *entry = find(&key);
	struct account *account = entry ? account_of(entry->row) : NULL;

	if (!entry || !account)
		return;
	cpu->task = (__u64)task;
	cpu->since_ns = now;
	cpu->role = state->role;
	cpu->row = entry->row;
	cpu->oncpu = entry->histogram[0];
	cpu->call_ns = state->call_ns;
	cpu->call_nr = state->call_nr;
	cpu->resuming = state->resuming;
	cpu->switches++;

	if (state->asleep) {	// ran without a wake-up that we saw
		count_loss(LOSS_WAKE);
		state->asleep = 0;
		state->runnable_ns = now;
	}
	if (state->runnable_ns) {
		__u64 wait = since(now, state->runnable_ns);
		__u64 wake = state->waking_ns ? since(state->runnable_ns, state->waking_ns) : 0;

		bump(&account->queued_ns, wait + wake);
		bump(&account->queued, 1);
		if (!state->cut)
			add_to_histogram(entry->histogram[1], wait);
		if (state->waking_ns && !state->cut)
			add_to_histogram(entry->histogram[2], wake);
		if (state->reason != R_PREEMPTED && state->off_ns)
			settle_wait(state);
		else if (state->off_ns && !state->cut)
			add_to_histogram(histogram_row(state->role, H_OFFCPU, R_PREEMPTED, 0), wait);
	}
	if (!state->first_run_ns)
		state->first_run_ns = now;
	if (state->off_ns && state->cpu != here)
		bump(&account->migrations, 1);
	state->cpu = here;
	state->on_ns = now;
	state->off_ns = 0;
	state->runnable_ns = 0;
	state->waking_ns = 0;
	state->cut = 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	struct cpu *cpu = this_cpu();

	if (!cpu)
		return 0;

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
	return 0;
}
