/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// What the latency of spans is made of: the books of open spans, settled when they end.
//
// A thread counts what it goes through inside of spans (task_spans.sums). An open span keeps the
// state of these sums at the time it was first seen, and when it ends the difference is its own:
// so a switch costs the same in any depth of spans. When a span ends, the probe says how long it
// was (struct probe_end); sums stand still while a thread runs, so it matters not how long ago
// that was. A span whose Context is left (an async task that awaits) is suspended: it keeps what
// it had until it is seen again.
#pragma once
#include "opened.bpf.h"
#include "series.bpf.h"
#include "where.bpf.h"

enum { SLOW_RING_BYTES = 1 << 19, MANY_SLOW = 128 };
enum { SUMS = sizeof(struct span_sums) / sizeof(__u64) };

struct {				// an open span that has gone through nothing: never written
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct open_span);
} fresh_span SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SPANS);
	__type(key, __u32);
	__type(value, struct slow);
} slow SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SLOW_RING_BYTES);
} slow_spans SEC(".maps");

// had += now - base
static __always_inline void gather(struct open_span *open, struct span_sums *now)
{
	__u64 *had = (__u64 *)&open->had, *base = (__u64 *)&open->base, *sums = (__u64 *)now;

#pragma clang loop unroll(disable)	// unrolled, it would take half of the stack
	for (int i = 0; i < SUMS; i++)
		had[i] += sums[i] - base[i];
}

static __always_inline void suspend(struct task_spans *spans, struct open_span *open, __u64 pid_tgid)
{
	if (!open || open->pid != (__u32)pid_tgid)
		return;
	gather(open, &spans->sums);
	open->pid = 0;
}

static __always_inline void resume(struct task_spans *spans, struct open_span *open, __u64 pid_tgid)
{
	if (!open || open->pid)	// or it is open on another thread
		return;
	open->base = spans->sums;
	open->pid = (__u32)pid_tgid;
}

static __always_inline struct open_span *new_open_span(struct task_spans *spans, struct open_key *key)
{
	__u32 only = 0;
	struct open_span *fresh = bpf_map_lookup_elem(&fresh_span, &only);

	if (!fresh || bpf_map_update_elem(&open_spans, key, fresh, BPF_NOEXIST)) {
		count_loss(LOSS_SPAN);
		return NULL;
	}
	spans->records++;
	return bpf_map_lookup_elem(&open_spans, key);
}

// Waits cannot be longer than the latency: what was waited between the probe's clock and its publishing is taken off.
// First of the wait for databases: calls that one span has under way at the same time are each counted whole.
static __always_inline void fit(struct span_sums *sums, __u64 latency)
{
	__u64 excess = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < WAITS; i++)
		excess += sums->wait_ns[i];
	if (excess <= latency)
		return;
	excess -= latency;
#pragma clang loop unroll(disable)
	for (int i = 0; i < WAITS; i++) {
		__u64 *wait = &sums->wait_ns[i ? i - 1 : WAIT_DB];
		__u64 off = *wait < excess ? *wait : excess;

		*wait -= off;
		excess -= off;
	}
}

static __always_inline void add_parts(struct task_state *state, __u32 span, __u64 latency, bool awaited,
				      struct open_span *open, bool unseen)
{
	__u32 bucket = slot_of(latency) >> PROBE_BUCKET_SHIFT;
	struct key key = { .role = state->role, .kind = P_SPAN, .nr = bucket, .err = awaited, .span = span };
	__u32 at = shard_of(row_of(&key));	// not by the cache: a sample interrupts programs that may be filling it
	struct parts *parts = bpf_map_lookup_elem(&parts_of_spans, &at);

	if (!parts)
		return;
	bump(&parts->count, 1);
	if (unseen || !open) {
		bump(&parts->unseen_ns, latency);
		return;
	}
	bump(&parts->latency_ns, latency);

	__u64 *to = (__u64 *)&parts->sums, *from = (__u64 *)&open->had;

#pragma clang loop unroll(disable)
	for (int i = 0; i < SUMS; i++)
		bump(to + i, from[i]);
}

// A record for each of the slowest spans, and for those whose end is waited for.
static __always_inline void record_span(struct task_state *state, __u32 span, struct probe_end *end, __u64 latency,
					   __u64 pid_tgid, struct open_span *open, bool unseen)
{
	struct slow *limit = bpf_map_lookup_elem(&slow, &span);
	bool is_slow = limit && latency > limit->floor_ns, has_stacks = open && open->stacks;

	if (!is_slow && !has_stacks)
		return;
	if (limit && is_slow && __sync_fetch_and_add(&limit->records, 1) >= MANY_SLOW)
		limit->floor_ns = latency;

	struct span_record *record = bpf_ringbuf_reserve(&slow_spans, sizeof(*record), 0);

	if (!record) {
		count_loss(LOSS_SLOW);
		return;
	}
	record->start_ns = end->start_ns;
	record->duration_ns = latency;
	if (open)
		record->sums = open->had;
	else
		__builtin_memset(&record->sums, 0, sizeof(record->sums));
	record->tgid = pid_tgid >> 32;
	record->pid = pid_tgid;
	record->role = state->role;
	record->span = span;
	record->awaited = end->duration_ns >> 63;
	record->flags = (end->duration_ns & PROBE_FAILED ? SPAN_FAILED : 0) | (unseen ? 0 : SPAN_SEEN) |
			(is_slow ? SPAN_SLOW : 0) | (has_stacks ? SPAN_STACKS : 0);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

// A span has ended. Global, as settle_absence is.
__noinline int settle_span(struct task_state *state, __u64 pid_tgid)
{
	if (!state)
		return 0;

	struct task_spans *spans = &state->spans;
	struct probe_end *end = &spans->end;
	struct open_key key = { .span = { .node = end->node, .start_ns = end->start_ns }, .tgid = pid_tgid >> 32 };
	struct open_span *open = bpf_map_lookup_elem(&open_spans, &key);
	__u64 latency = end->duration_ns & ~(PROBE_AWAITED | PROBE_FAILED);
	bool awaited = end->duration_ns & PROBE_AWAITED, unseen = end->start_ns < spans->since_ns || !is_in_sight(state);
	__u32 span = span_id(end->kind);

	if (slot_of(latency) >= SLOTS || end->start_ns + latency < spans->begin_ns)
		return 0;
	if (open) {
		if (open->pid == (__u32)pid_tgid)
			gather(open, &spans->sums);
		fit(&open->had, latency);
	}
	if (open || unseen)
		add_parts(state, span, latency, awaited, open, unseen);
	record_span(state, span, end, latency, pid_tgid, open, unseen);
	if (open) {
		bpf_map_delete_elem(&open_spans, &key);
		if (spans->records)
			spans->records--;
	}
	return 0;
}
