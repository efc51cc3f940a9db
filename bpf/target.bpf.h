/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Asks:   who belongs to the target, and how do its processes begin and end?
// Hooks:  tp_btf sched_process_fork, sched_process_exec, sched_process_exit, task_rename,
//         cgroup_attach_task; iter/task to mark what exists, and to report what is under way
// Gives:  the marks that every other program filters by; process records
// Cost:   once per fork, exec, exit; one pass over all tasks at the start and at the end
// Needs:  task iterator (5.8)
#pragma once
#include "sched.bpf.h"

enum { MAX_TARGETS = 4096, MAX_ANCESTORS = 64, MAX_CGROUP_DEPTH = 32 };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_TARGETS);
	__type(key, __u32);		// tgid
	__type(value, __u8);
} targets SEC(".maps");

static __always_inline void count_threads(int change)
{
	struct shared *all = get_shared();

	if (all)
		__sync_fetch_and_add(&all->threads, change);
}

static __always_inline void count_in(struct task_state *state)
{
	count_threads(1);
	__sync_lock_test_and_set(&state->counted, 1);
}

static __always_inline void count_out(struct task_state *state)
{
	if (__sync_lock_test_and_set(&state->counted, 0))
		count_threads(-1);
}

static __always_inline bool has_wanted_name(const char *comm)
{
	char name[COMM_LEN] = {};

	bpf_probe_read_kernel_str(name, sizeof(name), comm);
	for (int i = 0; i < COMM_LEN; i++) {
		if (name[i] != config.comm[i])
			return false;
		if (!name[i])
			break;
	}
	return true;
}

static __always_inline int is_in_cgroup(struct cgroup *cgroup)
{
	for (int depth = 0; depth < MAX_CGROUP_DEPTH && cgroup; depth++) {
		if (BPF_CORE_READ(cgroup, kn, id) == config.cgroup_id)
			return 1;
		cgroup = (struct cgroup *)BPF_CORE_READ(cgroup, self.parent);	// self is its first member
	}
	return 0;
}

static __always_inline int is_target(struct task_struct *task)
{
	if (task->flags & PF_KTHREAD || task->tgid == config.self_tgid)
		return 0;
	if (config.mode == TARGET_ALL)
		return 1;
	if (config.mode == TARGET_CGROUP)
		return is_in_cgroup(task->cgroups->dfl_cgrp);

	struct task_struct *process = task->group_leader;

	for (int i = 0; i < MAX_ANCESTORS && process; i++) {
		__u32 tgid = BPF_CORE_READ(process, tgid);

		if (tgid <= 1 && i)
			return 0;
		if (config.mode == TARGET_PIDS && bpf_map_lookup_elem(&targets, &tgid))
			return 1;
		if (config.mode == TARGET_COMM && has_wanted_name(process->comm))
			return 1;
		if (!config.children)
			return 0;
		process = BPF_CORE_READ(process, real_parent, group_leader);
	}
	return 0;
}

// Begin to follow a task in whatever it is doing: how long it has been at that is not known.
static __always_inline void catch_sight(struct task_struct *task, struct task_state *state)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 waits = task->__state;

	state->cut = 1;
	if (task->on_cpu) {
		state->on_ns = now;
	} else if (waits == TASK_RUNNING) {
		state->reason = R_PREEMPTED;
		state->off_ns = now;
		state->runnable_ns = now;
	} else {
		explain_wait(task, state, waits);
		state->off_ns = now;
		state->asleep = 1;
	}
}

// Begin to trace a task that already exists.
static __noinline int adopt(struct task_struct *task)
{
	struct shared *all = get_shared();
	struct task_state *state;

	if (!all || task->flags & PF_EXITING || state_of(task))
		return 0;
	state = new_state(task);
	if (!state)
		return 0;
	count_in(state);
	if (task->flags & PF_EXITING) {	// it may have passed on_exit already, which knew nothing of it
		count_out(state);
		bpf_task_storage_delete(&states, task);
		return 0;
	}
	state->pause = present(all);
	state->found = 1;
	state->start_ns = task->group_leader->start_time;
	state->first_run_ns = 1;
	state->ready_ns = 1;
	refresh(task, state, all->epoch);
	catch_sight(task, state);
	return 0;
}

// The scheduler is looked at again, or the end has come: begin anew.
static __noinline int readopt(struct task_struct *task, struct task_state *state, __u32 pause)
{
	lose_sight(state, pause, pid_tgid_of(task));
	catch_sight(task, state);
	return 0;
}

// Records of lives are made again: a process of which there was none exists, as at the attach.
static __always_inline void find_silent(struct task_state *state)
{
	state->silent = 0;
	state->found = 1;
	state->first_run_ns = 1;
	state->ready_ns = 1;
}

// Tell a CPU that the task it runs is traced now; it would notice only at its next switch.
static __always_inline void adopt_running(struct shared *all, struct task_struct *task, struct task_state *state)
{
	__u32 number = task->thread_info.cpu;
	struct cpu *cpu = cpu_of(number);

	if (!cpu || cpu->task)
		return;
	state->cpu = number;
	if (!state->on_ns)	// it was forked, and came in before anybody looked
		state->on_ns = bpf_ktime_get_ns();
	cpu->call_ns = 0;
	occupy(cpu, task, state, state->on_ns);
	cpu->running = (__u64)task;
	if (!task->on_cpu && cpu->task == (__u64)task)
		cpu->task = 0;	// it left in this very moment
	else
		__sync_fetch_and_add(&all->adopted, 1);
}

// A child has the same memory, so its spans are read as its parent's: before its own board is known too.
static __always_inline int inherit_spans(struct task_struct *parent, struct task_state *from, struct task_struct *child,
				    struct task_state *state)
{
	__u32 tgid = child->tgid;

	if (has_spans(parent, from))
		look_at(parent, from, LOOK_ONLY);
	begin_spans(child, state, &from->spans.board, 0);
	if (child->pid == child->tgid && bpf_map_update_elem(&boards, &tgid, &from->spans.board, BPF_ANY))
		count_loss(LOSS_SPAN_READ);
	return 0;
}

// The last look at a thread. Its memory is there only since "exit: move and extend sched_process_exit()
// tracepoint" (Linux 6.16): before, nobody can say how the spans ended that were open when it last ran.
static __always_inline void end_thread_in_spans(struct task_struct *task, struct task_state *state)
{
	if (has_spans(task, state))
		look_at(task, state, LOOK_AND_SETTLE);
	else if (state->spans.depth)
		count_loss(LOSS_SPAN);
	end_spans(state, pid_tgid_of(task));
}

static __always_inline int forget_board(struct task_struct *task, struct task_state *state)
{
	__u32 tgid = task->tgid;

	end_spans(state, pid_tgid_of(task));
	bpf_map_delete_elem(&boards, &tgid);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct task_state *from = state_of(parent);
	struct shared *all = get_shared();
	bool is_thread = child->pid != child->tgid;

	if (!from || !all || (!is_thread && !config.children))
		return 0;

	struct task_state *state = new_state(child);

	if (!state)
		return 0;
	count_in(state);
	state->role = from->role;
	state->thread = from->thread;
	state->epoch = from->epoch;
	state->pause = present(all);
	if (from->probed)
		inherit_spans(parent, from, child, state);
	if (is_thread) {
		state->born_in = from->born_in;
		state->start_ns = from->start_ns;
		state->first_run_ns = from->first_run_ns;
		state->exec_ns = from->exec_ns;
		state->ready_ns = from->ready_ns;
		state->found = from->found;
		state->missed = from->missed;
		state->silent = from->silent;
		return 0;
	}
	if (all->quiet) {
		state->silent = 1;
		__sync_fetch_and_add(&all->silent, 1);
	}
	state->thread = state->role;
	state->start_ns = bpf_ktime_get_ns();
	state->born_in = from->probed ? from->span : SPAN_NONE;
	emit_life(child, state, LIFE_FORK, state->start_ns);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *program)
{
	struct task_state *state = state_of(task);

	if (!state) {
		if (config.mode == TARGET_COMM && task->tgid != config.self_tgid && has_wanted_name(task->comm))
			adopt(task);
		return 0;
	}
	if (state->probed) {
		struct cpu *cpu = this_cpu();

		forget_board(task, state);
		state->row = 0;
		if (cpu && cpu->task == (__u64)task) {
			__u64 now = bpf_ktime_get_ns();

			settle_slice(cpu, now);
			occupy(cpu, task, state, now);
		}
	}
	if (!state->found) {
		if (!state->exec_ns)
			state->exec_ns = bpf_ktime_get_ns();
		if (!state->first_run_ns && !(state->missed & MISSED_RUN) && is_in_sight(state))
			state->first_run_ns = state->exec_ns;	// it runs, though nobody reported that
		state->ready_ns = 0;
		state->missed &= ~MISSED_READY;
	}
	return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(on_rename, struct task_struct *task, const char *comm)
{
	struct shared *all = get_shared();
	struct task_state *state = state_of(task);

	if (!state || !all)
		return 0;
	state->thread = name_id(comm);
	state->row = 0;
	if (task->pid == task->tgid) {
		state->role = state->thread;
		if (task->signal->nr_threads > 1)
			state->epoch = __sync_fetch_and_add(&all->epoch, 1) + 1;
	}

	struct cpu *cpu = this_cpu();

	if (cpu && cpu->task == (__u64)task) {
		__u64 now = bpf_ktime_get_ns();

		settle_slice(cpu, now);
		occupy(cpu, task, state, now);
	}
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct task_state *state = state_of(task);

	if (!state)
		return 0;
	count_out(state);

	bool probed = state->probed;

	if (probed)
		end_thread_in_spans(task, state);
	if (task->signal->live.counter)	// an argument says so too, but only from 6.16 on
		return 0;

	struct task_state *process = state_of(task->group_leader);

	if (!process)
		process = state;
	__u32 tgid = task->tgid;

	if (probed)
		bpf_map_delete_elem(&boards, &tgid);
	if (__sync_lock_test_and_set(&process->ended, 1))	// two that go together may both be the last
		return 0;
	emit_life(task->group_leader, process, LIFE_EXIT, bpf_ktime_get_ns());
	return 0;
}

SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(on_cgroup, struct cgroup *cgroup, const char *path, struct task_struct *task, bool threadgroup)
{
	if (config.mode == TARGET_CGROUP && task->tgid != config.self_tgid && is_in_cgroup(cgroup))
		adopt(task);
	return 0;
}

static __always_inline void report(struct seq_file *seq, struct task_struct *task, struct task_state *state)
{
	struct task_record record = {
		.start_ns = state->start_ns,
		.pid = task->pid,
		.tgid = task->tgid,
		.ppid = task->real_parent->tgid,
		.role = state->role,
		.thread = state->thread,
		.span = state->span,
		.nr = state->nr,
		.reason = state->reason,
	};

	if (!state->off_ns && !state->on_ns) {	// forked, and has not run yet
		record.state = TASK_IS_RUNNABLE;
		record.since_ns = state->runnable_ns ? state->runnable_ns : state->start_ns;
	} else if (!state->off_ns) {
		struct cpu *cpu = cpu_of(state->cpu);

		record.state = TASK_IS_RUNNING;
		record.since_ns = cpu && cpu->task == (__u64)task ? cpu->since_ns : state->on_ns;
	} else if (state->asleep && !state->runnable_ns) {
		record.state = TASK_IS_BLOCKED;
		record.since_ns = state->off_ns;
	} else {
		record.state = TASK_IS_RUNNABLE;
		record.since_ns = state->waking_ns ? state->waking_ns : state->runnable_ns;
		if (state->reason != R_PREEMPTED)
			record.waited_ns = record.since_ns - state->off_ns;
	}
	bpf_probe_read_kernel(record.comm, sizeof(record.comm), task->group_leader->comm);
	bpf_seq_write(seq, &record, sizeof(record));
}

SEC("iter/task")
int on_task(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct shared *all = get_shared();

	if (!task || !all || task->exit_state)	// a zombie waits for its parent, not for a CPU
		return 0;
	if (all->iterate == ITERATE_MARK && is_target(task))
		adopt(task);

	struct task_state *state = state_of(task);

	if (!state)
		return 0;
	if (state->pause != all->pause)
		readopt(task, state, all->pause);
	if (state->silent && !all->quiet)
		find_silent(state);
	if (all->iterate == ITERATE_MARK && task->on_cpu && !state->off_ns)
		adopt_running(all, task, state);
	report(context->meta->seq, task, state);
	return 0;
}
