/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Which native functions is a thread in? By rows that the collector makes of .eh_frame, as most code on x86_64
// keeps no frame pointers; where there are no rows (code made at run time) frame pointers are tried.
#pragma once
#include "walk.bpf.h"

enum { CODE_STEPS = 9, ROW_STEPS = 22 };	// halvings of MAX_CODE, and of MAX_UNWIND_ROWS

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_UNWIND_ROWS);
	__type(key, __u32);
	__type(value, __u64);
} unwind_rows SEC(".maps");

struct {			// first row at or behind each KiB of code, from the first row of its library
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_UNWIND_PAGES);
	__type(key, __u32);
	__type(value, __u32);
} unwind_pages SEC(".maps");

struct native_place {		// of a walk: whose memory, and where it is
	struct layout *layout;
	struct scratch *s;
};

struct halving {
	struct layout *layout;
	__u64 key;
	__u64 row;
	__u32 low;
	__u32 high;
};

static long halve_codes(__u32 i, struct halving *search)
{
	__u32 middle = (search->low + search->high) >> 1;

	if (search->low >= search->high)
		return 1;
	asm volatile("" : "+r"(middle));
	if (search->layout->code[middle & (MAX_CODE - 1)].start <= search->key)
		search->low = middle + 1;
	else
		search->high = middle;
	return 0;
}

static long halve_rows(__u32 i, struct halving *search)
{
	__u32 middle = (search->low + search->high) >> 1;
	__u64 *row;

	if (search->low >= search->high)
		return 1;
	row = bpf_map_lookup_elem(&unwind_rows, &middle);
	if (!row)
		return 1;
	if ((__u32)*row <= search->key) {
		search->low = middle + 1;
		search->row = *row;
	} else {
		search->high = middle;
	}
	return 0;
}

// Find the row for *address* of the file behind *code*, and its number. Returns 0 if there is none.
static __always_inline __u64 row_of_code(struct code *code, __u64 address, __u32 *number)
{
	struct halving search = { .key = address, .low = code->first_row, .high = code->first_row + code->rows };
	__u32 page = address >> UNWIND_PAGE_SHIFT, first = search.low;

	if (page + 1 < code->pages) {
		__u32 here = code->first_page + page, next = here + 1;
		__u32 *low = bpf_map_lookup_elem(&unwind_pages, &here);
		__u32 *high = bpf_map_lookup_elem(&unwind_pages, &next);

		if (low && high) {
			search.low = first + (*low ? *low - 1 : 0);	// the row before the page may reach into it
			search.high = first + *high;
		}
	}
	bpf_loop(ROW_STEPS, halve_rows, &search, 0);
	*number = search.low;
	return search.row;
}

static __always_inline long end_native(struct native_walk *walk, __u32 end)
{
	walk->end = end;
	return 1;
}

static __always_inline long step_to(struct native_walk *walk, __u64 pc, __u64 sp, __u64 bp)
{
	walk->pc = pc;
	walk->sp = sp;
	walk->bp = bp;
	walk->called = 1;
	return 0;
}

// Go to the caller by its frame pointer.
static __always_inline long step_by_pointer(struct native_walk *walk)
{
	__u64 saved[2];

	if (walk->bp < walk->sp || walk->bp & 7 || read_user(saved, sizeof(saved), walk->bp))
		return end_native(walk, NATIVE_NO_ROW);
	return step_to(walk, saved[1], walk->bp + 16, saved[0]);
}

static __always_inline long step_by_row(struct native_walk *walk, __u64 row)
{
	__u32 type = row >> 32 & 7, rbp = row >> 51 & UNWIND_RBP_LOST;
	__s64 offset = (__s64)(__s16)(row >> 35) * 8;
	__u64 cfa = walk->sp + offset, back, bp = walk->bp;

	switch (type) {
	case UNWIND_RSP:
		break;
	case UNWIND_RBP:
		cfa = walk->bp + offset;
		break;
	case UNWIND_PLT:
		cfa = walk->sp + 8 + ((walk->pc & 15) >= 11 ? 8 : 0);
		break;
	case UNWIND_DEREF:
		if (read_user(&cfa, sizeof(cfa), walk->bp + offset))
			return end_native(walk, NATIVE_UNREADABLE);
		break;
	case UNWIND_END:
		return end_native(walk, NATIVE_WHOLE);
	default:
		return end_native(walk, type == UNWIND_SIGNAL ? NATIVE_SIGNAL : NATIVE_UNKNOWN);
	}
	if (read_user(&back, sizeof(back), cfa - 8))
		return end_native(walk, NATIVE_UNREADABLE);
	if (rbp && rbp != UNWIND_RBP_LOST) {
		if (read_user(&bp, sizeof(bp), cfa - rbp * 8))
			return end_native(walk, NATIVE_UNREADABLE);
	} else if (type == UNWIND_DEREF) {
		read_user(&bp, sizeof(bp), walk->bp);	// of a stack that was aligned anew
	}
	return step_to(walk, back, cfa, bp);
}

// Find the code at *address*. Returns NULL if it is in no file.
static __always_inline struct code *code_at(struct layout *layout, __u64 address)
{
	struct halving search = { .layout = layout, .key = address, .high = layout->codes };
	struct code *code;
	__u32 at;

	bpf_loop(CODE_STEPS, halve_codes, &search, 0);
	if (!search.low)
		return NULL;
	at = search.low - 1;
	asm volatile("" : "+r"(at));
	code = &layout->code[at & (MAX_CODE - 1)];
	return address < code->end ? code : NULL;
}

// Find the row for *address*, as a rule where it was found the last time: the callers of most stacks are the same.
static __always_inline __u64 row_at(struct native_place *place, __u64 address, struct code **code, __u32 *number)
{
	struct known_row *known = &place->s->known[(address ^ address >> 8) & (MAX_KNOWN_ROWS - 1)];
	__u32 version = place->layout->version;
	__u64 row;

	if (known->address == address && known->version == version) {
		*number = known->number;
		return known->row;
	}
	*code = code_at(place->layout, address);
	if (!*code || !(*code)->rows)
		return 0;
	row = row_of_code(*code, address - (*code)->bias, number);
	if (!row || (row >> 32 & 7) == UNWIND_NONE)
		return 0;
	known->address = address;
	known->row = row;
	known->number = *number;
	known->version = version;
	return row;
}

// What tells a frame from others. A row is of one function, but for that of the PLT: two stacks that differ only in where
// exactly they are in their functions are one.
static __always_inline __u64 identity_of(__u64 row, __u32 number, __u64 pc)
{
	return row && (row >> 32 & 7) != UNWIND_PLT ? 1ULL << 63 | number : pc;
}

static long walk_native_frame(__u32 i, struct native_place *place)
{
	struct native_walk *walk = &place->s->native;
	__u32 at = walk->at, number = 0;
	__u64 pc = walk->pc, row;
	struct code *code = NULL;

	if (!pc)
		return end_native(walk, NATIVE_WHOLE);
	if (walk->count >= MAX_NATIVE_FRAMES)
		return end_native(walk, NATIVE_CUT);
	if (at < MAX_WORDS)
		place->s->words[at] = pc;
	walk->at = at + 1;
	walk->count++;
	row = row_at(place, pc - walk->called, &code, &number);	// a call may be the last instruction of its function
	walk->hash = mixed(walk->hash, identity_of(row, number, pc));
	if (row)
		return step_by_row(walk, row);
	if (step_by_pointer(walk))
		return 1;
	// code of a file may keep anything in rbp; that which was made at run time calls its like, which is in no file
	return code && !code_at(place->layout, walk->pc - 1) ? end_native(walk, NATIVE_NO_ROW) : 0;
}

// Append the native frames of the running thread behind *first* words. Returns how many; how it ended in the record.
__noinline int walk_native(struct scratch *s, struct layout *layout, __u32 first)
{
	struct pt_regs *regs;

	if (!s || !layout)
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	s->native.pc = BPF_CORE_READ(regs, ip);
	s->native.sp = BPF_CORE_READ(regs, sp);
	s->native.bp = BPF_CORE_READ(regs, bp);
	s->native.hash = s->python.hash;
	s->native.at = first;
	s->native.count = 0;
	s->native.end = NATIVE_CUT;
	s->native.called = 0;

	struct native_place place = { .layout = layout, .s = s };

	bpf_loop(MAX_NATIVE_FRAMES + 1, walk_native_frame, &place, 0);
	s->record.native_end = s->native.end;
	return s->native.count;
}
