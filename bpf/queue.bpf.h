/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Asks:   how many tasks wait for each CPU? And how far is a slice that has not ended yet?
// Hooks:  perf_event, cpu-clock, on every CPU
// Gives:  runq.length{cpu}; accounts that are current to 10 ms
// Cost:   one sample, 99 times a second
// Needs:  CAP_PERFMON; group scheduling (task -> cfs_rq -> rq)
#pragma once
#include "compat.bpf.h"
#include "sched.bpf.h"

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
	add_to_histogram(histogram_row(0, H_RUNQ_LENGTH, 0, bpf_get_smp_processor_id()), runnable);
	if (cpu->task == (__u64)task)
		settle_slice(cpu, bpf_ktime_get_ns());
	return 0;
}
