/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Asks:   which system calls fail, and (on demand) how long does each take?
// Hooks:  tp_btf sys_exit; sys_enter too for latency
// Gives:  syscall.errors, syscall.calls, syscall.restarts; syscall.latency
// Cost:   every call of every process on the host pays the hook; a traced call that succeeds
//         adds one counter, a failing one a cached lookup, a timed one two clock reads
// Needs:  sched.bpf.h attached: it keeps who runs on each CPU
#pragma once
#include "sched.bpf.h"

enum { ERESTARTSYS = 512, ERESTART_RESTARTBLOCK = 516, MAX_ERRNO = 4095 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SYSCALLS);	// x CPUs
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

// SYSCALL leaves the return address in rcx; int 0x80 and SYSENTER, the ways of i386 calls, do
// not. So nearly every call is told by its registers, and few need the helper (14 ns).
static __always_inline bool is_compat(struct pt_regs *regs)
{
	if (regs->cx == regs->ip)
		return false;
	return bpf_get_current_task_btf()->thread_info.status & TS_COMPAT;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_call, struct pt_regs *regs, long nr)
{
	struct cpu *cpu = this_cpu();

	if (!cpu || !runs_traced(cpu, regs))
		return 0;
	if (cpu->resuming) {
		cpu->resuming = 0;
		if (cpu->call_ns && (nr == cpu->call_nr || nr == NR_RESTART_SYSCALL))
			return 0;	// one call for the user: it goes on
	}
	cpu->call_nr = nr;
	cpu->call_ns = bpf_ktime_get_ns();
	return 0;
}

// The span that the running task is in. One that a call fails in counts that.
static __noinline __u32 span_now(int failed)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_state *state = state_of(task);

	if (!state || !has_spans(task, state))
		return SPAN_NONE;
	look_at(task, state, LOOK_ONLY);
	if (failed)
		state->spans.sums.errors++;
	return state->span;
}

static __noinline int count_error(struct cpu *cpu, __u32 nr, __u32 err)
{
	__u32 span = cpu->probed ? span_now(1) : SPAN_NONE;
	struct entry *entry = find(cpu->role, 0, A_ERROR, 0, nr, err, span);
	struct account *account = entry ? account_of(entry->row) : NULL;

	if (account)
		bump(&account->count, 1);
	return 0;
}

static __always_inline void time_call(struct cpu *cpu, __u32 nr)
{
	__u64 latency = since(bpf_ktime_get_ns(), cpu->call_ns);
	__u32 span = cpu->probed ? span_now(0) : SPAN_NONE;
	struct entry *entry = was_seen_since(TIER_CALLS, cpu->call_ns) ? find(cpu->role, 0, H_SYSCALL, 0, nr, 0, span) : NULL;

	cpu->call_ns = 0;
	if (entry)
		add_to_histogram(entry->row, latency);
}

// A wait for events is over: from here to the next one the loop is busy.
static __always_inline int end_poll(void)
{
	struct task_state *state = state_of(bpf_get_current_task_btf());
	__u64 now = bpf_ktime_get_ns();

	if (!state)
		return 0;
	end_busy(state, now);	// it did not sleep, else this has been said
	state->poll_ns = 0;
	state->polled_ns = now;
	return 0;
}

// A probe asks for the seals of its board last of all: then the board is ready.
static __always_inline bool is_board(__u32 nr, struct pt_regs *regs, long ret)
{
	return nr == NR_FCNTL && regs->si == F_GET_SEALS && ret > 0;
}

// Its third argument, which the kernel has no use for, is where the header is: so that no span of the process is too
// early, however late the collector comes to look. Threads it has already are told by the collector.
static __noinline int find_board(struct cpu *cpu, __u32 descriptor, __u64 header)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_state *state = state_of(task);
	__u32 tgid = task->tgid;
	struct board board;

	if (!cpu || !state)
		return 0;
	if (!state->probed && read_board(header, &board)) {
		if (bpf_map_update_elem(&boards, &tgid, &board, BPF_ANY))
			count_loss(LOSS_SPAN_READ);
		begin_spans(task, state, &board, state->found ? 0 : state->start_ns);
		if (cpu->task == (__u64)task)
			cpu->probed = 1;
	}
	return emit_board(task, state, descriptor);
}

EXTENSION(after_failure);

SEC("tp_btf/sys_exit")
int BPF_PROG(on_return, struct pt_regs *regs, long ret)
{
	struct cpu *cpu = this_cpu();

	if (!cpu || !runs_traced(cpu, regs))
		return 0;
	if (ret <= -ERESTARTSYS && ret >= -ERESTART_RESTARTBLOCK) {
		cpu->restarts++;	// resumed or turned into EINTR after this hook: no result yet
		cpu->resuming = 1;
		return 0;
	}

	if ((long)regs->orig_ax < 0)	// rt_sigreturn: it has put back the registers of what was interrupted,
		return 0;		// and its "result", often -EINTR, is one of them

	__u32 nr = regs->orig_ax < NR_UNKNOWN ? regs->orig_ax : NR_UNKNOWN;

	if (is_compat(regs)) {
		nr |= NR_COMPAT;
	} else {
		__u32 at = bpf_get_smp_processor_id() * MAX_SYSCALLS + nr;
		__u64 *count = bpf_map_lookup_elem(&calls, &at);

		if (count)
			(*count)++;
	}
	if (is_poll(nr))
		end_poll();
	else if (is_board(nr, regs, ret))
		find_board(cpu, regs->di, regs->dx);
	if (config.latency && cpu->call_ns)	// none: a fork's child returns here, or it began before the attach
		time_call(cpu, nr);
	if (ret < 0 && ret >= -MAX_ERRNO) {
		count_error(cpu, nr, -ret);
		if (config.stacks)
			bpf_tail_call(ctx, &after_failure, 0);
	}
	return 0;
}
