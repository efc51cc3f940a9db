/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// PostgreSQL, version 3 of its protocol: what is a request, of what kind, and how an answer ends.
#pragma once
#include "said.bpf.h"

enum { MAX_MESSAGES = 8, MAX_PREPARED = 4096 };

struct prepared_key {
	__u64 socket;
	__u64 name;		// hash of the name of the statement
};

struct {			// verbs of prepared statements
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_PREPARED);
	__type(key, struct prepared_key);
	__type(value, union db_name);
} prepared SEC(".maps");

// Hash the string that begins at *at*; *length* becomes its length.
__noinline __u64 hash_string(struct scratch *s, __u32 at, __u32 *length)
{
	if (!s || !length)
		return 0;

	__u64 hash = 0xcbf29ce484222325ULL;

	read_piece(s, s->piece, at);
	for (__u32 i = 0; i < HEAD_LEN; i++) {
		if (!s->piece[i]) {
			*length = i;
			return hash;
		}
		hash = (hash ^ s->piece[i]) * 0x100000001b3ULL;
	}
	*length = HEAD_LEN;
	return hash;
}

static const __u64 PG_REQUESTS = BIT_OF('Q') | BIT_OF('P') | BIT_OF('B') | BIT_OF('E') | BIT_OF('D') | BIT_OF('C') |
				 BIT_OF('S') | BIT_OF('H') | BIT_OF('F') | BIT_OF('X') | BIT_OF('p') | BIT_OF('d') |
				 BIT_OF('c') | BIT_OF('f');
static const __u64 PG_SILENT = BIT_OF('X') | BIT_OF('p') | BIT_OF('d') | BIT_OF('c') | BIT_OF('f');
static const __u64 PG_ANSWERS = BIT_OF('R') | BIT_OF('S') | BIT_OF('T') | BIT_OF('Z') | BIT_OF('D') | BIT_OF('C') |
				BIT_OF('E') | BIT_OF('I') | BIT_OF('K') | BIT_OF('n') | BIT_OF('s') | BIT_OF('t') |
				BIT_OF('N') | BIT_OF('A') | BIT_OF('V') | BIT_OF('G') | BIT_OF('H') | BIT_OF('W') |
				BIT_OF('d') | BIT_OF('c') | BIT_OF('v');

enum { PG_VERSION_3 = 196608, PG_VERSION_3_2 = 196610, PG_CANCEL = 80877102, PG_SSL = 80877103, PG_GSS = 80877104 };

static __always_inline enum request pg_startup(struct scratch *s)
{
	__u32 length = big_endian(s->bytes.head), code = big_endian(s->bytes.head + 4);

	if (length != s->bytes.whole || length < 8)
		return STRANGE;
	SET_WORD(s, "CONNECT");
	if (code == PG_CANCEL)
		return NOTHING;
	return code == PG_VERSION_3 || code == PG_VERSION_3_2 || code == PG_SSL || code == PG_GSS ? CONNECTS : STRANGE;
}

// Go through the messages that were sent. Returns how many of them are executed, -1: these are none.
__noinline int pg_messages(struct scratch *s, __u32 strict)
{
	__u32 at = 0, executed = 0, readable;

	if (!s)
		return -1;
	readable = s->bytes.at ? s->bytes.whole : s->bytes.staged;
	for (int i = 0; i < MAX_MESSAGES; i++) {
		__u8 head[5];

		if (!read_bytes(&s->bytes, head, sizeof(head), at)) {
			if (!i || (strict && at != s->bytes.whole && at < readable))
				return -1;	// it ends within a message
			break;
		}
		__u32 length = big_endian(head + 1);

		if (!is_in(head[0], PG_REQUESTS) || length < 4 || length > 1 << 30)
			return i && !strict ? (int)executed : -1;
		executed += head[0] == 'Q' || head[0] == 'E' || head[0] == 'F';
		at += length + 1;
	}
	return strict && at > s->bytes.whole ? -1 : (int)executed;
}

static __always_inline void pg_prepared(struct scratch *s, __u64 socket, __u32 executed)
{
	struct prepared_key key = { .socket = socket };
	union db_name verb;
	__u32 length = 0;

	key.name = hash_string(s, 5, &length);
	take_verb(s, 5 + length + 1);
	verb = s->word;
	bpf_map_update_elem(&prepared, &key, &verb, BPF_ANY);
	if (!executed)
		SET_WORD(s, "PREPARE");
}

static __always_inline void pg_bound(struct scratch *s, __u64 socket)
{
	struct prepared_key key = { .socket = socket };
	union db_name *verb;
	__u32 length = 0;

	hash_string(s, 5, &length);	// name of the portal
	key.name = hash_string(s, 5 + length + 1, &length);
	verb = bpf_map_lookup_elem(&prepared, &key);
	if (verb)
		s->word = *verb;
	else
		SET_WORD(s, "EXECUTE");
}

__noinline int pg_request(struct scratch *s, __u64 socket, __u32 strict)
{
	if (!s)
		return STRANGE;

	__u8 first = s->bytes.head[0];
	int executed;

	if (!first)
		return pg_startup(s);
	executed = pg_messages(s, strict);
	if (executed < 0)
		return STRANGE;
	if (is_in(first, PG_SILENT))
		return NOTHING;
	if (first == 'Q')
		take_verb(s, 5);
	else if (first == 'P')
		pg_prepared(s, socket, executed);
	else if (first == 'B')
		pg_bound(s, socket);
	else if (first == 'E')
		SET_WORD(s, "FETCH");
	else if (first == 'D')
		SET_WORD(s, "DESCRIBE");
	else if (first == 'C')
		SET_WORD(s, "CLOSE");
	else
		SET_WORD(s, "SYNC");
	if (executed > 1)
		SET_WORD(s, "PIPELINE");
	return ASKED;
}

// The SQLSTATE of the error message at *at*: its field C.
__noinline int pg_error(struct scratch *s, __u32 at)
{
	if (!s)
		return 0;

	__u64 found = 0, here;

	read_piece(s, s->piece, at + 5);
	for (__u32 i = 0; i < HEAD_LEN - 8; i++) {
		here = is_below(s->piece[i] | (s->piece[i + 1] ^ 'C'), 1) & is_below(found, 1);
		asm volatile("" : "+r"(here));	// else it becomes a jump again
		found |= -here & (i + 2);
	}
	if (!found) {
		SET_WORD(s, "error");
		return 0;
	}
	__builtin_memset(&s->word, 0, sizeof(s->word));
	for (__u32 i = 0; i < 5; i++)
		s->word.text[i] = s->piece[(found + i) & (HEAD_LEN - 1)];
	return 0;
}

// Does what was received end in ReadyForQuery?
static __always_inline bool pg_is_ready(struct scratch *s)
{
	__u8 tail[6];

	if (!read_bytes(&s->bytes, tail, sizeof(tail), s->bytes.whole - sizeof(tail)))
		return false;
	return tail[0] == 'Z' && big_endian(tail + 1) == 5 && (tail[5] == 'I' || tail[5] == 'T' || tail[5] == 'E');
}

struct looking {
	struct scratch *s;
	__u32 end;
};

// After rows may come an error: is there one whose length leads to the end of what was received, or to ReadyForQuery?
static long find_late_error(__u32 i, struct looking *how)
{
	struct scratch *s = how->s;
	__u32 at = i & (LATE_LEN - 1);

	if (s->tail[at] != 'E' || s->tail[at + 5] != 'S' || big_endian(s->tail + at + 1) + 1 + at != how->end)
		return 0;
	s->late = at + 1;
	return 1;
}

__noinline int pg_late_error(struct scratch *s, __u32 behind)
{
	struct looking how = { .s = s, .end = LATE_LEN - behind };
	__u32 whole, length, place;

	if (!s || !s->bytes.at)
		return 0;
	whole = s->bytes.whole;
	length = whole < LATE_LEN ? whole : LATE_LEN;
	__builtin_memset(s->tail, 0, LATE_LEN);
	place = LATE_LEN - length;
	asm volatile("" : "+r"(length), "+r"(place));
	if (!length || length > LATE_LEN || place >= LATE_LEN ||
	    bpf_probe_read_user(s->tail + place, length, (void *)(s->bytes.at + whole - length)))
		return 0;
	s->late = 0;
	bpf_loop(LATE_LEN - 12, find_late_error, &how, 0);
	if (s->late)
		pg_error(s, whole - LATE_LEN + s->late - 1);
	return 0;
}

// The rest of an answer.
static __always_inline int pg_more(struct scratch *s)
{
	bool ready = pg_is_ready(s);

	pg_late_error(s, ready ? 6 : 0);
	return ready ? WHOLE : MORE;
}

__noinline int pg_answer(struct scratch *s, __u32 connecting)
{
	__u32 at = 0;

	if (!s)
		return MORE;

	if (connecting && s->bytes.whole == 1)	// may TLS begin?
		return s->bytes.head[0] == 'S' || s->bytes.head[0] == 'G' ? TO_TLS : MORE;
	for (int i = 0; i < MAX_MESSAGES; i++) {
		__u8 head[5];

		if (!read_bytes(&s->bytes, head, sizeof(head), at)) {
			if (!i && !is_in(s->bytes.head[0], PG_ANSWERS) && !is_digit(s->bytes.head[0]))
				return NOT_AN_ANSWER;
			break;
		}
		__u32 length = big_endian(head + 1);

		if ((!is_in(head[0], PG_ANSWERS) && !is_digit(head[0])) || length < 4 || length > 1 << 30) {
			if (!i)
				return NOT_AN_ANSWER;	// HTTP begins with the letter of a CopyOut
			break;
		}
		if (head[0] == 'E') {
			pg_error(s, at);
			break;
		}
		at += length + 1;
		if (head[0] == 'Z' && at == s->bytes.whole)
			return WHOLE;	// no message is unseen
	}
	if (s->word.text[0])
		return pg_is_ready(s) ? WHOLE : MORE;
	return pg_more(s);
}
