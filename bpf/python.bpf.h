/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Which Python functions is a thread in? Only read, from the memory of its process, by offsets
// that the collector knows (struct python). Nothing is asked of the interpreter, so it matters not who
// has its lock.
//
// From 3.11 on frames lie one behind the other in chunks: one read takes the 8 KiB below the top
// frame, and frames that lie elsewhere (generators) are read one by one.
#pragma once
#include "walk.bpf.h"

enum { MAX_THREADS = 512, MAX_INTERPRETERS = 4 };

struct python_search {		// for the thread state that belongs to a thread
	const struct python *python;
	__u64 thread;
	__u64 pointer;
	__u64 found;
};

static long try_thread(__u32 i, struct python_search *search)
{
	__u64 id = 0, at = search->thread;

	if (!at || read_user(&id, sizeof(id), at + search->python->thread_id))
		return 1;
	if (id == search->pointer) {
		search->found = at;
		return 1;
	}
	return read_user(&search->thread, sizeof(at), at + search->python->thread_next) != 0;
}

// Find the state of the thread with *pointer*. Several interpreters may know it: the first one's is taken.
__noinline __u64 find_thread(const struct python *python, __u64 pointer)
{
	__u64 interpreter = 0;

	if (!python || read_user(&interpreter, sizeof(interpreter), python->interpreters))
		return 0;

	struct python_search search = { .python = python, .pointer = pointer };

	for (int i = 0; i < MAX_INTERPRETERS && interpreter; i++) {
		search.thread = 0;
		if (read_user(&search.thread, sizeof(search.thread), interpreter + python->interpreter_threads))
			break;
		bpf_loop(MAX_THREADS, try_thread, &search, 0);
		if (search.found || read_user(&interpreter, sizeof(interpreter), interpreter + python->interpreter_next))
			break;
	}
	return search.found;
}

static __always_inline __u64 thread_state(const struct python *python, struct task_stack *stack, __u64 pointer)
{
	__u64 id = 0;

	if (stack->python && !read_user(&id, sizeof(id), stack->python + python->thread_id) && id == pointer)
		return stack->python;
	stack->python = find_thread(python, pointer);
	return stack->python;
}

struct python_place {		// of a walk: whose memory, and where it is
	const struct python *python;
	struct scratch *s;
};

static __always_inline void push_python(struct scratch *s, __u64 word)
{
	__u32 at = s->python.count;

	if (at >= MAX_PYTHON_FRAMES)
		return;
	s->words[at] = word;
	s->python.count = at + 1;
	s->python.hash = mixed(s->python.hash, word);
}

// Where the words of the current frame are; NULL if it cannot be read.
static __always_inline const __u64 *words_of_frame(const struct python *python, struct scratch *s)
{
	__u64 at = s->python.frame, offset = at - s->python.chunk;

	if (s->python.chunk && offset <= CHUNK_BYTES - FRAME_WORDS * 8 && !(offset & 7))
		return &s->chunk[(offset >> 3) & (CHUNK_WORDS - 1)];
	// the last frame of a page may be shorter than what is read: 80 bytes are enough from 3.11 on
	if (read_user(s->frame, python->minor < 11 ? FRAME_WORDS * 8 : 80, at))
		return NULL;
	return s->frame;
}

static __always_inline __u8 byte_at(const __u64 *words, __u32 at)
{
	return words[(at >> 3) & (FRAME_WORDS - 1)] >> ((at & 7) * 8);
}

static __always_inline long end_python(struct scratch *s, __u32 end)
{
	s->python.end = end;
	return 1;
}

static long walk_frame(__u32 i, struct python_place *place)
{
	const struct python *python = place->python;
	struct scratch *s = place->s;
	const __u64 *words;
	__u64 code, at;

	if (!s->python.frame)
		return 1;
	if (s->python.count >= MAX_PYTHON_FRAMES - 1)
		return end_python(s, PYTHON_CUT);
	words = words_of_frame(python, s);
	if (!words)
		return end_python(s, PYTHON_UNREADABLE);
	code = words[(python->frame_code >> 3) & (FRAME_WORDS - 1)];
	at = words[(python->frame_at >> 3) & (FRAME_WORDS - 1)];
	s->python.frame = words[(python->frame_back >> 3) & (FRAME_WORDS - 1)];
	if (python->minor < 11) {
		at = (__u32)(at >> ((python->frame_at & 7) * 8));
		push_python(s, code >> 4 << PYTHON_UNIT_BITS | (at & PYTHON_NO_UNIT));
		push_python(s, PYTHON_ENTERED);
		return 0;
	}
	if (python->frame_owner && byte_at(words, python->frame_owner) >= python->owner_c) {
		push_python(s, PYTHON_ENTERED);	// what C put there
		return 0;
	}
	code &= ~(__u64)python->code_mask;
	at = (at - code - python->code_units) >> 1;
	push_python(s, code >> 4 << PYTHON_UNIT_BITS | (at < PYTHON_NO_UNIT ? at : PYTHON_NO_UNIT));
	if (python->frame_is_entry && byte_at(words, python->frame_is_entry))
		push_python(s, PYTHON_ENTERED);
	return code ? 0 : end_python(s, PYTHON_UNREADABLE);
}

// Read what lies below the top frame in the chunk in use.
static __always_inline void read_chunk(const struct python *python, struct scratch *s, __u64 thread)
{
	__u64 chunk = 0, length;

	if (!python->thread_chunk || read_user(&chunk, sizeof(chunk), thread + python->thread_chunk) || !chunk)
		return;
	length = s->python.frame + FRAME_WORDS * 8 - chunk;
	if (length > CHUNK_BYTES && length < 1 << 20) {
		chunk = s->python.frame + FRAME_WORDS * 8 - CHUNK_BYTES;
		length = CHUNK_BYTES;
	}
	asm volatile("" : "+r"(length));	// what is compared is what is read: 6.1 sees no further
	if (length <= CHUNK_BYTES && !read_user(s->chunk, length, chunk) && length)
		s->python.chunk = chunk;
}

// Is there a frame with a code object at *frame*?
static __always_inline bool has_code(const struct python *python, __u64 frame)
{
	__u64 code = 0, type = 0;

	if (read_user(&code, sizeof(code), frame + python->frame_code) || read_user(&type, sizeof(type), code + 8))
		return false;
	return !python->code_type || type == python->code_type;
}

// Find the top frame of a thread. From 3.11 to 3.12 it is kept in a cframe, which is linked a few instructions
// before it is filled: then the one around it has the frame that is really on top.
static __always_inline long top_frame(const struct python *python, __u64 thread, __u64 *frame)
{
	__u64 cframe[2] = {};

	if (read_user(frame, sizeof(*frame), thread + python->thread_frame))
		return -1;
	if (python->minor != 11 && python->minor != 12)
		return 0;
	if (!*frame || read_user(cframe, sizeof(cframe), *frame + python->cframe_frame))
		return -1;
	*frame = cframe[0];
	if (!cframe[1] || has_code(python, cframe[0]))
		return 0;
	return read_user(frame, sizeof(*frame), cframe[1] + python->cframe_frame);
}

static __always_inline void begin_python(struct scratch *s, __u64 frame)
{
	s->python.frame = frame;
	s->python.chunk = 0;
	s->python.hash = HASH_SEED;
	s->python.count = 0;
	s->python.end = PYTHON_WHOLE;
}

// Fill s->words with the frames of the running thread, innermost first. Returns how many; how it ended in the record.
__noinline int walk_python(struct scratch *s, struct layout *layout, struct task_state *state, __u64 pointer)
{
	__u64 thread, frame = 0;

	if (!s || !layout || !state)
		return 0;
	begin_python(s, 0);
	s->record.python_end = PYTHON_NONE;
	if (!layout->python.interpreters)
		return 0;

	struct python_place place = { .python = &layout->python, .s = s };

	thread = thread_state(place.python, &state->stack, pointer);
	if (!thread)
		return 0;
	s->record.python_end = PYTHON_UNREADABLE;
	if (top_frame(place.python, thread, &frame))
		return 0;
	begin_python(s, frame);
	read_chunk(place.python, s, thread);
	bpf_loop(MAX_PYTHON_FRAMES + 1, walk_frame, &place, 0);
	s->record.python_end = s->python.count || s->python.end != PYTHON_WHOLE ? s->python.end : PYTHON_STARTING;
	return s->python.count;
}
