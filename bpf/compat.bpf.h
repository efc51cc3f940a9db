/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Kernel differences, newest form first, each with the commit that made the older form
// old. Ask for the field, never for the version.
#pragma once
#include "kernel.bpf.h"

// "sched: Rename h_nr_running into h_nr_queued" (7b8a702d9438) and "sched/fair: Add new
// cfs_rq.h_nr_runnable" (c2a295bffeaf), both Linux 6.14.
struct cfs_rq___before_6_14 {
	unsigned int h_nr_running;
	unsigned int h_nr_delayed;	// only in 6.12 and 6.13, by stable backport
} __attribute__((preserve_access_index));

// Tasks of the fair class that want the CPU. Sleepers whose dequeue was delayed (6.12) still
// stand in the queue and are left out: they would double the length of a ping-pong.
static __always_inline unsigned int fair_runnable(struct rq *rq)
{
	if (bpf_core_field_exists(rq->cfs.h_nr_runnable))
		return BPF_CORE_READ(rq, cfs.h_nr_runnable);

	struct cfs_rq___before_6_14 *old = (void *)&rq->cfs;
	unsigned int running = BPF_CORE_READ(old, h_nr_running);

	if (bpf_core_field_exists(old->h_nr_delayed))
		running -= BPF_CORE_READ(old, h_nr_delayed);
	return running;
}
