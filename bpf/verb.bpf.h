/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// The first word of an SQL text, in capitals: what a call of a database is counted as.
#pragma once
#include "dbrows.bpf.h"

enum { VERB_TEXT = 128 };	// what is looked at: comments may stand before the word

enum { BETWEEN, IN_BLOCK, IN_LINE };	// comments: /* */ and --

static __always_inline bool is_letter(char c)
{
	c |= 0x20;
	return c >= 'a' && c <= 'z';
}

// Where does the first word of *text* begin?
static __noinline __u32 find_word(char *text)
{
	__u32 where = BETWEEN;

	if (!text)
		return 0;
	for (__u32 i = 0; i < VERB_TEXT - 1; i++) {
		char c = text[i], next = text[i + 1];

		if (!c)
			break;
		if (where == IN_BLOCK) {
			if (c == '*' && next == '/') {
				where = BETWEEN;
				i++;
			}
		} else if (where == IN_LINE) {
			if (c == '\n')
				where = BETWEEN;
		} else if (c == '/' && next == '*') {
			where = IN_BLOCK;
			i++;
		} else if (c == '-' && next == '-') {
			where = IN_LINE;
		} else if (is_letter(c)) {
			return i;
		}
	}
	return VERB_TEXT;
}

// The small id of a word of eight bytes, zeros among them.
static __always_inline __u32 word_id(const char *text)
{
	union db_name name = {};

	__builtin_memcpy(name.text, text, 8);
	return db_name_id(&name);
}

// The small id of the first word of the SQL text at *at* of the calling process; that of `-` if it cannot be read.
static __noinline __u32 verb_id(__u64 at)
{
	char text[VERB_TEXT] = {};
	union db_name name = {};

	bpf_probe_read_user_str(text, sizeof(text), (void *)at);

	__u32 begin = find_word(text);

	for (__u32 i = 0; i < DB_NAME_LEN - 1; i++) {
		__u32 place = begin + i;

		asm volatile("" : "+r"(place));	// 6.1's verifier must see the bound on the value that is used
		if (place >= VERB_TEXT || !is_letter(text[place]))
			break;
		name.text[i] = text[place] & ~0x20;
	}
	if (!name.text[0])
		name.text[0] = '-';
	return db_name_id(&name);
}
