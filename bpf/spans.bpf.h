/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Asks:   in which span is a thread, and what does each span wait for?
// Hooks:  none of its own: a thread is looked at where it leaves the CPU, is sampled, or a call fails
// Gives:  the label `span`; the parts that latencies are made of; records of the slowest spans
// Cost:   two reads of user memory a look, and one more for each span that began; nothing without a board
// Needs:  fsbase (x86_64)
#pragma once
#include "parts.bpf.h"

enum { MAX_BOARDS = 4096, MAX_ENDS_A_LOOK = 32 };
enum look { LOOK_ONLY, LOOK_AND_SETTLE };

static const __u64 NO_COUNT = -1ULL;	// before the first look

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_BOARDS);
	__type(key, __u32);		// tgid
	__type(value, struct board);
} boards SEC(".maps");

// Is the i-th of *some* also in *others*, of which there are *length*? Spans begin and end inside of others.
static __always_inline bool stays(struct span_key *some, struct span_key *others, __u32 i, __u32 shift, __u32 length)
{
	struct span_key *one = &some[i & (MAX_OPEN_SPANS - 1)];
	struct span_key *other = &others[(i + shift) & (MAX_OPEN_SPANS - 1)];

	return i + shift < length && one->node == other->node && one->start_ns == other->start_ns;
}

// Suspend the i-th open span if it is not among the *depth* that were seen now. Global, as settle_absence is.
__noinline int leave_span(struct task_spans *spans, __u32 i, __u32 depth, __u64 pid_tgid)
{
	if (!spans || stays(spans->open, spans->seen, i, depth - spans->depth, depth))
		return 0;

	struct open_key key = { .span = spans->open[i & (MAX_OPEN_SPANS - 1)], .tgid = pid_tgid >> 32 };

	suspend(spans, bpf_map_lookup_elem(&open_spans, &key), pid_tgid);
	return 0;
}

// Begin or resume the i-th span that was seen now if it was not open before.
__noinline int enter_span(struct task_spans *spans, __u32 i, __u32 depth, __u64 pid_tgid)
{
	if (!spans || stays(spans->seen, spans->open, i, spans->depth - depth, spans->depth))
		return 0;

	struct open_key key = { .span = spans->seen[i & (MAX_OPEN_SPANS - 1)], .tgid = pid_tgid >> 32 };
	struct open_span *open;

	if (key.span.start_ns < spans->since_ns)
		return 0;
	open = bpf_map_lookup_elem(&open_spans, &key);
	resume(spans, open ? open : new_open_span(spans, &key), pid_tgid);
	return 0;
}

// Make spans->seen the open ones.
static __always_inline void change_open(struct task_spans *spans, __u32 depth, __u64 pid_tgid)
{
	for (__u32 i = 0; i < MAX_OPEN_SPANS && i < spans->depth; i++)
		leave_span(spans, i, depth, pid_tgid);
	for (__u32 i = 0; i < MAX_OPEN_SPANS && i < depth; i++)
		enter_span(spans, i, depth, pid_tgid);
	__builtin_memcpy(spans->open, spans->seen, sizeof(spans->open));
	spans->depth = depth;
}

// Settle the spans of one class that have ended since the last look, oldest first. Global, as settle_absence is.
__noinline int settle_ends(struct task_state *state, __u32 class, __u64 pid_tgid)
{
	if (!state)
		return 0;

	struct task_spans *spans = &state->spans;
	__u64 ended = spans->thread.ended[class & 1], seen = spans->ended[class & 1];
	__u64 ring = spans->thread.ends + class * PROBE_ENDS * sizeof(struct probe_end);

	if (ended == seen)
		return 0;
	if (!class && !spans->records)
		seen = ended;	// what was never seen waiting has nothing to settle
	else if (seen == NO_COUNT)
		seen = ended > PROBE_ENDS ? ended - PROBE_ENDS : 0;
	else if (ended < seen)
		seen = 0;	// it has a new record
	if (ended - seen > PROBE_ENDS) {
		if (spans->records)
			count_loss(LOSS_SPAN);
		seen = ended - PROBE_ENDS;
	}
	for (int i = 0; i < MAX_ENDS_A_LOOK && seen != ended; i++, seen++) {
		if (read_user(&spans->end, sizeof(spans->end), ring + (seen & (PROBE_ENDS - 1)) * sizeof(spans->end))) {
			count_loss(LOSS_SPAN_READ);
			seen = ended;
			break;
		}
		settle_span(state, pid_tgid);
	}
	spans->ended[class & 1] = seen;
	return 0;
}

// Read the open spans from *top* outwards into spans->seen. Returns how many, -1 if they are those of the last look.
static __always_inline int walk(struct task_state *state, __u64 top)
{
	struct task_spans *spans = &state->spans;
	struct probe_node node;
	int depth = 0;

	for (int i = 0; i < MAX_OPEN_SPANS && top; i++) {
		if (read_user(&node, sizeof(node), top)) {
			count_loss(LOSS_SPAN_READ);
			break;
		}
		if (!i && !node.start_ns) {	// linked, but it has not begun: what counts is the one around it
			top = node.prev;
			if (!top || read_user(&node, sizeof(node), top))
				break;
		}
		if (!i) {
			if (spans->depth && spans->open[0].node == top && spans->open[0].start_ns == node.start_ns)
				return -1;
			state->span = span_id(node.kind);
		}
		spans->seen[i].node = top;
		spans->seen[i].start_ns = node.start_ns;
		depth = i + 1;
		top = node.prev;
	}
	if (top && depth == MAX_OPEN_SPANS)
		count_loss(LOSS_SPAN);	// nested deeper than is looked: the outermost ones are not seen whole
	return depth;
}

static __always_inline void look(struct task_state *state, __u64 pointer, __u64 pid_tgid, enum look how)
{
	struct task_spans *spans = &state->spans;
	__u64 at, top = 0;

	if (spans->board.mode == PROBE_TABLE) {
		state->span = span_in_table(&spans->board, pointer);
		return;
	}
	long found = locate(&spans->board, pointer, &at);

	if (!found)
		found = read_user(&spans->thread, sizeof(spans->thread), at);
	if (found < 0)
		count_loss(LOSS_SPAN_READ);
	if (!found) {
		if (how == LOOK_AND_SETTLE && spans->thread.ends) {
			settle_ends(state, 0, pid_tgid);
			settle_ends(state, 1, pid_tgid);
		}
		top = innermost(&spans->thread);
	}
	if (!top && !spans->depth) {
		state->span = SPAN_NONE;
		return;
	}
	if (top && spans->depth && spans->open[0].node == top && spans->entered == spans->thread.entered)
		return;	// nothing began since
	spans->entered = spans->thread.entered;

	int depth = walk(state, top);

	if (!depth)
		state->span = SPAN_NONE;
	if (depth >= 0)
		change_open(spans, depth, pid_tgid);
}

// Bring state->span and the open spans of a thread up to date. Global, as settle_absence is.
__noinline int look_at_spans(struct task_state *state, __u64 pointer, __u64 pid_tgid, __u32 how)
{
	if (!state || state->spans.looking)
		return 0;
	state->spans.looking = 1;
	asm volatile("" ::: "memory");
	look(state, pointer, pid_tgid, how);
	asm volatile("" ::: "memory");
	state->spans.looking = 0;
	return 0;
}

static __always_inline void look_at(struct task_struct *task, struct task_state *state, enum look how)
{
	look_at_spans(state, task->thread.fsbase, pid_tgid_of(task), how);
}

// Read how the spans of the process can be read from the header of its board, in its memory. The collector says the
// same of the board itself (Spans._read_opened in tracekit/capture/spans.py).
static __always_inline bool read_board(__u64 at, struct board *board)
{
	__u64 words[offsetof(struct probe_header, kinds) / sizeof(__u64)];
	struct probe_header *header = (struct probe_header *)words;

	if (read_user(words, sizeof(words), at) || __builtin_memcmp(header->magic, PROBE_MAGIC, sizeof(header->magic)) ||
	    header->version != PROBE_VERSION || header->mode == PROBE_NOTHING || header->mode > PROBE_TABLE)
		return false;
	board->offset = header->threads_at ? header->threads_at : header->tls_offset;
	board->module = header->tls_module;
	board->mode = header->mode;
	return true;
}

// The spans of a process with *board* can be read from now on.
static __always_inline void begin_spans(struct task_struct *task, struct task_state *state, struct board *board,
					__u64 begin_ns)
{
	struct task_spans *spans = &state->spans;

	state->probed = 1;
	spans->board = *board;
	spans->memory = (__u64)task->mm;
	spans->since_ns = bpf_ktime_get_ns();
	spans->begin_ns = begin_ns ? begin_ns : spans->since_ns;
	spans->ended[0] = spans->ended[1] = NO_COUNT;
}

static __always_inline void forget_open_spans(struct task_state *state, __u64 pid_tgid)
{
	for (__u32 i = 0; i < MAX_OPEN_SPANS; i++) {
		struct open_key key = { .span = state->spans.open[i], .tgid = pid_tgid >> 32 };

		if (i < state->spans.depth)
			bpf_map_delete_elem(&open_spans, &key);
	}
	state->spans.depth = 0;
}

// The thread goes, or its process becomes another program: nobody will say how its spans ended.
static __always_inline int end_spans(struct task_state *state, __u64 pid_tgid)
{
	if (!state || !state->probed)
		return 0;
	forget_open_spans(state, pid_tgid);
	state->spans.records = 0;
	state->probed = 0;
	state->span = SPAN_NONE;
	return 0;
}
