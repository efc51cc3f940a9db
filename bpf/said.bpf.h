/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// What was sent or received, as far as it is looked at, and the first word of it.
//
// Everything here comes from a traced process or from somebody who talks to it: nothing is
// believed beyond a name in a table of bounded size.
#pragma once
#include "dbrows.bpf.h"
#include "sockets.bpf.h"
#include "verb.bpf.h"

enum { LATE_LEN = 256 };

enum request {
	STRANGE,		// not of this protocol
	NOTHING,		// goes on with what was asked, or wants no answer
	ASKED,
	CONNECTS,
};

enum answer { NOT_AN_ANSWER, UNASKED, MORE, WHOLE, TO_TLS };

// Of one CPU, for programs in the calls of tasks, in the stack of TCP, which interrupts these, and for the collector's.
enum scratch_of { OF_TASKS, OF_STATES, OF_COLLECTOR, SCRATCHES };

struct scratch {
	__u64 socket;
	struct bytes bytes;
	__u8 piece[HEAD_LEN];	// of what lies further on
	struct verb_text verb;
	union db_name word;	// of the request: its operation; of the answer: its error
	__u8 tail[2 * LATE_LEN];	// the last bytes; the rest makes any place in them good to read from
	__u32 late;		// where an error begins in them, + 1
	__u32 text_at;		// where SQL begins in bytes, 0: there is none
	struct peer peer;
	struct connection fresh;
	struct span_path path;
	struct db_text text;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline __u32 big_endian(const __u8 *bytes)
{
	return (__u32)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
}

static __always_inline __u32 little_endian(const __u8 *bytes)
{
	return (__u32)bytes[3] << 24 | bytes[2] << 16 | bytes[1] << 8 | bytes[0];
}

static __always_inline bool is_digit(__u8 byte)
{
	return (__u8)(byte - '0') < 10;
}

// Is *byte*, '@' to DEL, in *set*? A set has the bit byte - '@'.
static __always_inline bool is_in(__u8 byte, __u64 set)
{
	return byte >= '@' && byte < 128 && (set >> (byte - '@') & 1);
}

#define BIT_OF(letter) (1ULL << ((letter) - '@'))

// Read up to HEAD_LEN bytes from *at* on into *to*; what is not there is 0.
static __always_inline bool read_piece(struct scratch *s, __u8 *to, __u32 at)
{
	__u32 length = s->bytes.at ? s->bytes.whole : s->bytes.staged;

	__builtin_memset(to, 0, HEAD_LEN);
	if (at >= length)
		return false;
	length -= at;
	if (length > HEAD_LEN)
		length = HEAD_LEN;
	asm volatile("" : "+r"(length));
	if (length == 0 || length > HEAD_LEN)	// the verifier must see the bounds of what is used
		return false;
	if (s->bytes.at)
		return !bpf_probe_read_user(to, length, (void *)(s->bytes.at + at));
	return !bpf_probe_read_kernel(to, length, s->bytes.head + (at & (2 * HEAD_LEN - 1)));
}

// Words are put together as numbers: the loader brings no strings into the kernel.
#define BYTE_AT(known, i) ((__u64)((i) < sizeof(known) ? (known)[(i) < sizeof(known) ? (i) : 0] : 0) << 8 * ((i) & 7))
#define WORD_AT(known, i)									\
	(BYTE_AT(known, i) | BYTE_AT(known, i + 1) | BYTE_AT(known, i + 2) | BYTE_AT(known, i + 3) |	\
	 BYTE_AT(known, i + 4) | BYTE_AT(known, i + 5) | BYTE_AT(known, i + 6) | BYTE_AT(known, i + 7))
#define SET_WORD(s, known) set_word(s, WORD_AT(known, 0), WORD_AT(known, 8))

static __always_inline void set_word(struct scratch *s, __u64 low, __u64 high)
{
	s->word.words[0] = low;
	s->word.words[1] = high;
}

// Functions that are not static are verified once, not for each way that leads to them.

// 1 if *value* < *limit*, else 0: without a jump, so that the verifier follows one way and not two.
static __always_inline __u64 is_below(__u64 value, __u64 limit)
{
	return (value - limit) >> 63;
}

// Take the word that begins at piece[*from*], in capitals; `-` if there is none.
__noinline int take_word(struct scratch *s, __u32 from)
{
	__u64 blank = 1, goes_on = 1;

	if (!s)
		return 0;
	for (__u32 i = 0; i < 8; i++) {
		__u64 byte = s->piece[from & (HEAD_LEN - 1)];

		blank &= is_below(byte ^ ' ', 1) | is_below(byte - '\t', 5) | is_below(byte ^ '(', 1);
		from += blank;
	}
	for (__u32 i = 0; i < DB_NAME_LEN - 1; i++) {
		__u64 byte = s->piece[(from + i) & (HEAD_LEN - 1)];
		__u64 letter = is_below(((byte | 0x20) - 'a') & 0xff, 26);
		__u64 joint = is_below(byte ^ '_', 1) | is_below(byte ^ '.', 1);

		goes_on &= letter | (i ? joint : 0);
		s->word.text[i] = (byte & ~(letter << 5)) & -goes_on;
	}
	s->word.text[DB_NAME_LEN - 1] = 0;
	if (!s->word.text[0])
		s->word.text[0] = '-';
	return 0;
}

// The verb of the SQL at *at*, behind comments too if they are not long.
static __always_inline void take_verb(struct scratch *s, __u32 at)
{
	s->text_at = at;
	read_piece(s, (__u8 *)s->verb.text + 1, at);
	first_word(&s->verb, &s->word);
}
