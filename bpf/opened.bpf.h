/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Spans that are open: what each has gone through so far.
#pragma once
#include "state.bpf.h"

enum { MAX_SUSPENDED = 8192 };

struct open_key {
	struct span_key span;
	__u64 tgid;
};

struct open_span {
	struct span_sums had;		// before it was suspended
	struct span_sums base;		// of its thread, when it was first seen or resumed
	__u32 pid;			// that thread; 0: suspended
	__u32 stacks;			// stacks were taken inside: whoever has them wants to know how it ends
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SUSPENDED);
	__type(key, struct open_key);
	__type(value, struct open_span);
} open_spans SEC(".maps");
