/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// The first word of an SQL text, in capitals: what a call of a database is counted as.
#pragma once
#include "dbrows.bpf.h"

enum { VERB_TEXT = 64 };	// what is looked at: comments may stand before the word

struct verb_text {		// in a map: of what is there the verifier keeps no states, of which it would have thousands
	char text[VERB_TEXT + 1];	// what is read in whole pieces goes over
	__u32 where;		// in a comment or not
	__u32 begin;		// of the word
};

enum { BETWEEN, IN_BLOCK, IN_LINE };	// comments: /* */ and --

static __always_inline bool is_letter(__u8 c)
{
	return (__u8)((c | 0x20) - 'a') < 26;
}

// Find out where the first word begins. Nothing but the place is carried from one character to the next.
static __noinline int find_word(volatile struct verb_text *verb)
{
	if (!verb)
		return 0;
	verb->where = BETWEEN;
	verb->begin = VERB_TEXT;
	for (__u32 i = 1; i < VERB_TEXT; i++) {
		char last = verb->text[i - 1], c = verb->text[i];

		if (!c)
			break;
		if (verb->where == IN_BLOCK) {
			if (last == '*' && c == '/')
				verb->where = BETWEEN;
		} else if (verb->where == IN_LINE) {
			if (c == '\n')
				verb->where = BETWEEN;
		} else if (last == '/' && c == '*') {
			verb->where = IN_BLOCK;
			verb->text[i] = 0;	// it does not end the comment that it begins
		} else if (last == '-' && c == '-') {
			verb->where = IN_LINE;
		} else if (is_letter(c)) {
			verb->begin = i;
			break;
		}
	}
	return 0;
}

// Take the first word of the SQL in text[1] and after; `-` if there is none.
__noinline int first_word(struct verb_text *verb, union db_name *word)
{
	volatile __u32 *begin;

	if (!verb || !word)
		return 0;
	verb->text[0] = 0;	// before each character is another one
	find_word(verb);
	begin = &verb->begin;
	__builtin_memset(word, 0, sizeof(*word));
	for (__u32 i = 0; i < DB_NAME_LEN - 1; i++) {
		__u32 place = *begin + i;

		asm volatile("" : "+r"(place));	// 6.1's verifier must see the bound on the value that is used
		if (place >= VERB_TEXT || !is_letter(verb->text[place]))
			break;
		word->text[i] = verb->text[place] & ~0x20;
	}
	if (!word->text[0])
		word->text[0] = '-';
	return 0;
}
