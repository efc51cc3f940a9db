/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Lives of processes: one record when a process is forked, is ready, is gone.
#pragma once
#include "state.bpf.h"

enum { RING_BYTES = 1 << 22, RING_WAKE_BYTES = 1 << 17 };

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} lives SEC(".maps");

static __noinline int emit_life(struct task_struct *leader, struct task_state *state, __u32 what, __u64 now)
{
	struct life_record *record;

	if (state->silent)
		return 0;
	record = bpf_ringbuf_reserve(&lives, sizeof(*record), 0);
	if (!record) {
		count_loss(LOSS_RING);
		return 0;
	}
	record->at_ns = now;
	record->start_ns = state->start_ns;
	record->first_run_ns = state->first_run_ns;
	record->exec_ns = state->exec_ns;
	record->ready_ns = state->ready_ns;
	record->tgid = leader->tgid;
	record->ppid = leader->real_parent->tgid;
	record->exit_code = 0;
	record->span = state->born_in;
	record->unused2 = 0;
	record->what = what;
	record->flags = 0;
	record->found = state->found;
	record->unused = 0;
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), leader->comm);
	if (what == LIFE_EXIT) {
		struct signal_struct *signal = leader->signal;

		record->exit_code = leader->exit_code;
		if (signal->flags & SIGNAL_GROUP_EXIT)
			record->exit_code = signal->group_exit_code;
		if ((record->exit_code & 0x7f) == SIGKILL && signal->oom_mm)
			record->flags = LIFE_OOM;
	}
	// the collector reads at each tick; it is woken in between only when the ring fills
	bool full = bpf_ringbuf_query(&lives, BPF_RB_AVAIL_DATA) > RING_WAKE_BYTES;

	bpf_ringbuf_submit(record, full ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	return 0;
}

// The calling process has a board at *descriptor*: the collector is woken, as the process may be short.
static __always_inline int emit_board(struct task_struct *task, struct task_state *state, __u32 descriptor)
{
	struct life_record *record = bpf_ringbuf_reserve(&lives, sizeof(*record), 0);

	if (!record) {
		count_loss(LOSS_RING);
		return 0;
	}
	__builtin_memset(record, 0, sizeof(*record));
	record->at_ns = bpf_ktime_get_ns();
	record->start_ns = state->start_ns;
	record->tgid = task->tgid;
	record->exit_code = descriptor;
	record->what = LIFE_BOARD;
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), task->group_leader->comm);
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
	return 0;
}

// A process is ready at its first wait for something outside: not for its own files or memory,
// and not on its way out, where it may still wait for locks.
static __always_inline bool is_ready(struct task_struct *task, __u32 reason)
{
	return task->pid == task->tgid && !(task->flags & PF_EXITING) && reason != R_DISK && reason != R_FAULT &&
	       reason != R_STOPPED;
}
