/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Asks:   how many tasks wait for each CPU? And how far is a slice that has not ended yet?
// Hooks:  perf_event, cpu-clock, on every CPU
// Gives:  runq.length{cpu}; accounts that are current to 10 ms
// Cost:   one sample, 99 times a second
// Needs:  CAP_PERFMON; group scheduling (task -> cfs_rq -> rq)
#pragma once
#include "compat.bpf.h"
#include "sched.bpf.h"

enum { SAMPLE_NS = 1000000000 / SAMPLE_HZ };

// Settle the slice of the running task up to now, as its span's.
static __always_inline int sample(struct cpu *cpu, struct task_struct *task)
{
	struct task_state *state = state_of(task);
	struct shared *all = get_shared();

	if (!state || !all)
		return 0;
	if (state->epoch != all->epoch) {
		refresh(task, state, all->epoch);
		cpu->probed = state->probed;
	}
	if (has_spans(task, state)) {
		look_at(task, state, LOOK_AND_SETTLE);
		if (state->spans.depth)
			state->spans.sums.sampled_ns += SAMPLE_NS;
		if (state->span != cpu->span) {
			struct key key = {
				.role = state->role, .thread = state->thread, .kind = A_THREAD, .span = state->span,
			};

			cpu->row = row_of(&key);
			cpu->span = state->span;
			state->row = 0;	// the histograms' rows are not known yet
		}
	}
	settle_slice(cpu, bpf_ktime_get_ns());
	return 0;
}

EXTENSION(after_sample);

SEC("perf_event")
int on_sample(void *context)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct cfs_rq *fair = task->se.cfs_rq;
	struct rq *rq = fair ? fair->rq : NULL;
	struct cpu *cpu = this_cpu();

	if (!rq || !cpu)
		return 0;

	__u32 runnable = fair_runnable(rq) + BPF_CORE_READ(rq, rt.rt_nr_running) + BPF_CORE_READ(rq, dl.dl_nr_running);

	cpu->samples++;
	if (task->pid && runnable)
		runnable--;	// the one that runs does not wait
	// not by the cache: this interrupts programs that may be filling it
	add_to_histogram(histogram_row(0, H_RUNQ_LENGTH, 0, bpf_get_smp_processor_id(), 0), runnable);
	if (cpu->task == (__u64)task) {
		sample(cpu, task);
		if (config.stacks && cpu->samples % config.stacks == 0)
			bpf_tail_call(context, &after_sample, 0);
	}
	return 0;
}
