/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Why a task leaves the CPU: from its state, its saved registers and the file it waits for,
// with no hook on system calls.
#pragma once
#include "state.bpf.h"

enum { FILE_FRESH_NS = 10 * 1000 * 1000 };

static __noinline __u32 look_at_file(struct task_struct *task, struct task_state *state, __u32 descriptor)
{
	struct fdtable *table = task->files ? task->files->fdt : NULL;
	struct file *file = NULL;

	if (!table || descriptor >= table->max_fds)
		return R_OTHER;
	if (bpf_probe_read_kernel(&file, sizeof(file), table->fd + descriptor) || !file)
		return R_OTHER;
	state->descriptor = descriptor;
	state->file_ns = state->off_ns;
	if ((__u64)file == state->file)
		return state->file_reason;

	__u32 mode = BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT;
	__u32 reason = R_OTHER;	// terminals, event descriptors, inotify

	if (mode == S_IFIFO)
		reason = R_PIPE;
	else if (mode == S_IFSOCK)
		reason = R_NETWORK;
	else if (mode == S_IFREG || mode == S_IFBLK)
		reason = R_DISK;
	state->file = (__u64)file;
	state->file_reason = reason;
	return reason;
}

// What a read or write of *descriptor* waits for. The file is looked at once in 10 ms (that costs
// 60 ns): a descriptor that became another kind of file within that time is the price.
static __always_inline __u32 file_reason(struct task_struct *task, struct task_state *state, __u32 descriptor)
{
	if (state->file && state->descriptor == descriptor && state->off_ns - state->file_ns < FILE_FRESH_NS)
		return state->file_reason;
	return look_at_file(task, state, descriptor);
}

// Set state->nr and state->reason of a task that waits with task state *waits*.
static __always_inline void explain_wait(struct task_struct *task, struct task_state *state, __u32 waits)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	long nr = regs->orig_ax;
	__u32 reason;

	if (nr < 0) {
		state->nr = NR_NONE;
		state->reason = waits & TASK_STOPPED_OR_TRACED ? R_STOPPED : R_FAULT;
		return;
	}
	if (task->thread_info.status & TS_COMPAT) {
		state->nr = NR_COMPAT | (nr & (MAX_SYSCALLS - 1));
		state->reason = R_OTHER;
		return;
	}
	nr &= MAX_SYSCALLS - 1;
	state->nr = nr;
	reason = config.reason_of[nr];
	if (waits & TASK_STOPPED_OR_TRACED)
		reason = R_STOPPED;
	else if (BPF_CORE_READ_BITFIELD(task, in_iowait))
		reason = R_DISK;
	else if (reason == R_DISK && waits & TASK_INTERRUPTIBLE)
		reason = R_OTHER;	// the other end of a FIFO: disks are not waited for interruptibly
	else if (reason == R_FILE)
		reason = waits & TASK_INTERRUPTIBLE ? file_reason(task, state, regs->di) : R_DISK;
	state->reason = reason;
}
