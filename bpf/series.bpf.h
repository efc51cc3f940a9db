/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Rows for series: histograms and accounts, found by key.
//
// A per-CPU cache of 256 keys answers nearly always (5 ns; the hash behind it costs 50).
// Histogram rows are HdrHistogram's 4608 counters, one copy per shard; a shard has one
// writer, or is written with atomics. What finds no room goes to the row of its kind.
#pragma once
#include "state.bpf.h"

enum { CACHE_ENTRIES = 256, MAX_SHARDS = 16 };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ACCOUNTS + MAX_HISTOGRAMS + MAX_PARTS);
	__type(key, struct key);
	__type(value, __u32);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_HISTOGRAMS);
	__type(key, __u32);
	__type(value, struct key);
} histogram_keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_HISTOGRAMS);	// x shards
	__type(key, __u32);
	__type(value, struct head);
} heads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_HISTOGRAMS);	// x shards
	__type(key, __u32);
	__type(value, struct slots);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_ACCOUNTS);
	__type(key, __u32);
	__type(value, struct key);
} account_keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_ACCOUNTS);	// x shards
	__type(key, __u32);
	__type(value, struct account);
} accounts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_PARTS);
	__type(key, __u32);
	__type(value, struct key);
} part_keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_PARTS);	// x shards
	__type(key, __u32);
	__type(value, struct parts);
} parts_of_spans SEC(".maps");

struct entry {			// what is known of a key: its row, and those of its histograms
	union {
		struct key key;
		__u64 words[2];
	};
	__u32 row;
	__u32 histogram[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CACHE_ENTRIES);
	__type(key, __u32);
	__type(value, struct entry);
} cache SEC(".maps");

static __always_inline __u32 shard_of(__u32 row)
{
	return row * config.shards + (bpf_get_smp_processor_id() & (config.shards - 1));
}

// Add to a counter of a shard.
static __always_inline void bump(__u64 *counter, __u64 value)
{
	if (config.atomic)
		__sync_fetch_and_add(counter, value);
	else
		*counter += value;
}

static __always_inline __u32 slot_of(__u64 value)
{
	__u32 octave = 0;
	__u64 rest = value >> (STEP_BITS + 1);

	// position of the highest bit above the first 256 values
	if (rest >> 32) {
		octave += 32;
		rest >>= 32;
	}
	if (rest >> 16) {
		octave += 16;
		rest >>= 16;
	}
	if (rest >> 8) {
		octave += 8;
		rest >>= 8;
	}
	if (rest >> 4) {
		octave += 4;
		rest >>= 4;
	}
	if (rest >> 2) {
		octave += 2;
		rest >>= 2;
	}
	octave += rest - (rest >> 1 & rest & 1);	// 0, 1, 2, 3 -> 0, 1, 2, 2
	return (octave << STEP_BITS) + (__u32)(value >> octave);
}

// Add an event of *value*, which falls into *slot*.
static __always_inline void add_to_slot(__u32 row, __u64 value, __u32 slot)
{
	__u32 at = shard_of(row);
	struct head *head = bpf_map_lookup_elem(&heads, &at);
	struct slots *counts = bpf_map_lookup_elem(&slots, &at);

	if (!head || !counts)
		return;
	asm volatile("" : "+r"(slot));	// 6.1's verifier must see the bound on the value that is used
	if (slot >= SLOTS)
		return;
	bump(&counts->count[slot], 1);
	if (!head->count || value < head->low)
		head->low = value;
	if (value > head->high)
		head->high = value;
	head->groups |= 1ULL << (slot >> STEP_BITS);
	bump(&head->total, value);
	bump(&head->count, 1);
}

static __always_inline __u32 clamped_slot_of(__u64 value)
{
	__u32 slot = slot_of(value);

	if (slot < SLOTS)
		return slot;
	count_loss(LOSS_CLAMPED);
	return SLOTS - 1;
}

static __always_inline void add_to_histogram(__u32 row, __u64 value)
{
	add_to_slot(row, value, clamped_slot_of(value));
}

// Reserve a row in the table of *kind* and return where its key goes, NULL if all are in use.
static __always_inline struct key *reserve_row(struct shared *all, __u32 kind, __u32 *row)
{
	if (kind < HISTOGRAM_KINDS) {
		if (all->histograms >= config.histograms)
			return NULL;
		*row = __sync_fetch_and_add(&all->histograms, 1);
		return bpf_map_lookup_elem(&histogram_keys, row);
	}
	if (kind == P_SPAN || kind == P_DB) {
		if (all->parts >= MAX_PARTS)
			return NULL;
		*row = __sync_fetch_and_add(&all->parts, 1);
		return bpf_map_lookup_elem(&part_keys, row);
	}
	if (all->accounts >= MAX_ACCOUNTS)
		return NULL;
	*row = __sync_fetch_and_add(&all->accounts, 1);
	return bpf_map_lookup_elem(&account_keys, row);
}

// Give *key the next free row of its table. Where there is none it goes without its span, and
// last to the row of its kind.
static __noinline __u32 new_row(struct key *key)
{
	struct shared *all = get_shared();

	if (!all || !key)
		return 0;

	__u32 row = 0;
	struct key *entry = reserve_row(all, key->kind, &row);
	__u32 *known;

	if (entry) {
		if (!bpf_map_update_elem(&rows, key, &row, BPF_NOEXIST)) {
			*entry = *key;
			return row;
		}
		known = bpf_map_lookup_elem(&rows, key);	// another CPU was faster; the row stays empty
		if (known)
			return *known;
	}
	count_loss(LOSS_SERIES);
	if (key->span) {
		struct key without = *key;

		without.span = 0;
		known = bpf_map_lookup_elem(&rows, &without);
		if (known)
			return *known;
	}
	return key->kind < HISTOGRAM_KINDS ? key->kind : 0;
}

static __always_inline __u32 row_of(struct key *key)
{
	__u32 *known = bpf_map_lookup_elem(&rows, key);

	return known ? *known : new_row(key);
}

// Global, as settle_absence is.
__noinline __u32 histogram_row(__u32 role, __u32 kind, __u32 reason, __u32 nr, __u32 span)
{
	struct key key = { .role = role, .kind = kind, .reason = reason, .nr = nr, .span = span };

	return row_of(&key);
}

static __noinline int fill_entry(struct entry *entry, struct key *key)
{
	if (!entry || !key)
		return 0;
	entry->row = row_of(key);
	switch (key->kind) {
	case A_THREAD:
		entry->histogram[0] = histogram_row(key->role, H_ONCPU, 0, 0, key->span);
		entry->histogram[1] = histogram_row(key->role, H_RUNQ_WAIT, 0, 0, key->span);
		entry->histogram[2] = histogram_row(key->role, H_RUNQ_WAKE, 0, 0, key->span);
		break;
	case A_BLOCKED:
		entry->histogram[0] = histogram_row(key->role, H_OFFCPU, key->reason, 0, key->span);
		entry->histogram[1] = 0;
		if (key->nr != NR_NONE)
			entry->histogram[1] = histogram_row(key->role, H_BLOCKED, 0, key->nr, key->span);
		break;
	}
	entry->key = *key;
	return 0;
}

// The entry of a key; NULL never happens, but the verifier cannot know. The key is put together
// in registers: one written to the stack field by field is slow to read back as words.
static __always_inline struct entry *find(__u32 role, __u32 thread, __u32 kind, __u32 reason, __u32 nr, __u32 err,
					  __u32 span)
{
	__u64 low = role | (__u64)thread << 32;
	__u64 high = nr | (__u64)err << 16 | (__u64)kind << 32 | (__u64)reason << 40 | (__u64)span << 48;
	__u32 at = (low ^ high * 0x9e3779b97f4a7c15ULL) * 0xff51afd7ed558ccdULL >> 56;
	struct entry *entry = bpf_map_lookup_elem(&cache, &at);

	if (!entry)
		return NULL;
	if (entry->words[0] != low || entry->words[1] != high) {
		struct key key = {
			.role = role, .thread = thread, .kind = kind, .reason = reason, .nr = nr, .err = err, .span = span,
		};

		fill_entry(entry, &key);
	}
	return entry;
}

static __always_inline struct account *account_of(__u32 row)
{
	__u32 at = shard_of(row);

	return bpf_map_lookup_elem(&accounts, &at);
}
