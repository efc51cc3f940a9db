/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// In which span is the calling thread? Only read, from the memory of its process: what spans wait
// for is kept elsewhere (parts.bpf.h, spans.bpf.h).
#pragma once
#include "state.bpf.h"

enum { MAX_PROBES = 16 };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SPANS);
	__type(key, __u64);		// id of the kind
	__type(value, __u32);
} span_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SPANS);
	__type(key, __u32);
	__type(value, __u64);
} span_kinds SEC(".maps");

static __noinline __u32 new_span(__u64 kind)
{
	struct shared *all = get_shared();

	if (!all || all->spans >= MAX_SPANS) {
		count_loss(LOSS_NAMES);
		return SPAN_OTHER;
	}
	__u32 id = __sync_fetch_and_add(&all->spans, 1);
	__u64 *entry = bpf_map_lookup_elem(&span_kinds, &id);

	if (!entry) {
		count_loss(LOSS_NAMES);
		return SPAN_OTHER;
	}
	*entry = kind;
	if (!bpf_map_update_elem(&span_ids, &kind, &id, BPF_NOEXIST))
		return id;

	__u32 *known = bpf_map_lookup_elem(&span_ids, &kind);	// another CPU was faster

	return known ? *known : SPAN_OTHER;
}

static __always_inline __u32 span_id(__u64 kind)
{
	__u32 *known = bpf_map_lookup_elem(&span_ids, &kind);

	return known ? *known : new_span(kind);
}

static __always_inline long read_user(void *to, __u32 size, __u64 from)
{
	return bpf_probe_read_user(to, size, (void *)from);
}

// Find the thread record of the thread with *pointer*. Returns 0; 1 if it has none yet; < 0 if that cannot be read.
static __always_inline long locate(struct board *board, __u64 pointer, __u64 *at)
{
	__u64 vector, length, block;

	*at = pointer + board->offset;
	if (board->mode == PROBE_STATIC)
		return 0;
	if (read_user(&vector, sizeof(vector), pointer + 8) || read_user(&length, sizeof(length), vector - 16))
		return -1;
	if (board->module > length)	// a thread older than the library has a short vector
		return 1;
	if (read_user(&block, sizeof(block), vector + 16 * (__u64)board->module))
		return -1;
	*at = block + board->offset;
	return !block || block == -1ULL;	// it has not used the library yet
}

static __always_inline __u64 hash_of(__u64 value)
{
	return value * 0x9E3779B97F4A7C15ULL >> 40;
}

// Return the innermost open span of the Context that runs, 0 if there is none.
static __always_inline __u64 innermost(struct probe_thread *thread)
{
	__u64 context, mask, slot[2];

	if (!thread->context_at)
		return 0;
	if (read_user(&context, sizeof(context), thread->context_at)) {
		count_loss(LOSS_SPAN_READ);
		return 0;
	}
	if (context == thread->context)
		return thread->top;
	if (!thread->contexts || read_user(&mask, sizeof(mask), thread->contexts))
		return 0;
	__u64 hash = hash_of(context >> 4);

	for (int i = 0; i < MAX_PROBES; i++) {
		__u64 at = thread->contexts + sizeof(struct probe_contexts) + ((hash + i) & mask) * sizeof(slot);

		if (read_user(slot, sizeof(slot), at) || !slot[0])
			break;
		if (slot[0] == context)
			return slot[1];
	}
	return 0;
}

// The span of a probe without thread records.
static __always_inline __u32 span_in_table(struct board *board, __u64 pointer)
{
	__u64 hash = hash_of(pointer), slot[2];

	for (int i = 0; i < MAX_PROBES; i++) {
		__u64 at = board->offset + ((hash + i) & (PROBE_THREADS - 1)) * sizeof(slot);

		if (read_user(slot, sizeof(slot), at)) {
			count_loss(LOSS_SPAN_READ);
			break;
		}
		if (slot[0] == pointer)
			return slot[1] ? span_id(slot[1]) : SPAN_NONE;
		if (!slot[0])
			break;
	}
	return SPAN_NONE;
}

static __always_inline __u64 pid_tgid_of(struct task_struct *task)
{
	return (__u64)task->tgid << 32 | task->pid;
}

// Are the spans of a thread still where its board says?
static __always_inline bool has_spans(struct task_struct *task, struct task_state *state)
{
	return state->probed && state->spans.memory == (__u64)task->mm;
}
