/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Room for one walk, and where the memory of the walked process has its code.
#pragma once
#include "where.bpf.h"

enum { CHUNK_BYTES = 8192, CHUNK_WORDS = CHUNK_BYTES / 8, FRAME_WORDS = 16 };
enum { MAX_WORDS = 256 };	// python, native and kernel frames of one record
enum { MAX_KNOWN_ROWS = 256 };	// by address; of another one at the same place the earlier is forgotten
enum who_walks { OF_SAMPLES, OF_SWITCHES, OF_FAILURES, OF_SLEEPERS, WALKERS };

static const __u64 HASH_SEED = 0xcbf29ce484222325ULL, HASH_STEP = 0x9E3779B97F4A7C15ULL;

// Where a walk is. In memory of its own and not on the stack: what the verifier does not know it need not follow.
struct python_walk {
	__u64 frame;
	__u64 chunk;		// where the words of scratch.chunk were read; 0: nowhere
	__u64 hash;
	__u32 count;
	__u32 end;
};

struct native_walk {
	__u64 pc;
	__u64 sp;
	__u64 bp;
	__u64 hash;
	__u32 at;		// where its next word goes
	__u32 count;
	__u32 end;
	__u32 called;		// pc is a return address
};

struct known_row {		// what a search found
	__u64 address;
	__u64 row;
	__u32 number;
	__u32 version;		// of the layout in which it did
};

struct scratch {
	struct stack_record record;	// and, right behind, its words
	__u64 words[2 * MAX_WORDS];
	__u64 kernel[MAX_KERNEL_FRAMES];
	struct python_walk python;
	struct native_walk native;
	__u64 frame[FRAME_WORDS];
	__u64 chunk[CHUNK_WORDS + FRAME_WORDS];
	struct known_row known[MAX_KNOWN_ROWS];
};

struct {			// a sample interrupts the programs of switches and calls, and these the iterator
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WALKERS);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_PROCESSES);
	__type(key, __u32);		// tgid
	__type(value, __u32);		// layout; that of the parent until the collector knows better
} layout_of SEC(".maps");

struct {			// 10 KB each: made when it is needed
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_LAYOUTS);
	__type(key, __u32);
	__type(value, struct layout);
} layouts SEC(".maps");

static __always_inline struct scratch *get_scratch(__u32 who)
{
	return bpf_map_lookup_elem(&scratches, &who);
}

static __always_inline __u64 mixed(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * HASH_STEP;
	return hash ^ hash >> 29;
}
