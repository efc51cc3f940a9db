/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Redis, RESP 2 and 3: what is a request, of what kind, and how an answer ends.
#pragma once
#include "said.bpf.h"

enum { MAX_ARGUMENTS = 8 };

// The number at piece[*from*] that CR LF end; *from* becomes where that ends. -1: there is none.
__noinline int take_number(struct scratch *s, __u32 *from)
{
	__u32 number = 0;

	if (!s || !from)
		return -1;
	for (__u32 i = 0; i < 12; i++) {
		__u8 byte = s->piece[(*from + i) & (HEAD_LEN - 1)];

		if (byte == '\r' && i) {
			*from += i + 2;
			return number;
		}
		if (!is_digit(byte) || number > 1 << 26)
			return -1;
		number = number * 10 + byte - '0';
	}
	return -1;
}

// Where does the array of *arguments* end whose first one is at *at*? 0: not to be told.
__noinline __u32 redis_end(struct scratch *s, __u32 at, __u32 arguments)
{
	if (!s)
		return 0;

	if (arguments > MAX_ARGUMENTS)
		return 0;
	for (__u32 i = 0; i < MAX_ARGUMENTS; i++) {
		__u32 from = 1;
		int length;

		asm volatile("" : "+r"(arguments));	// else the loop ends by it alone, and 6.1 knows no bound
		if (i >= arguments)
			break;
		if (!read_piece(s, s->piece, at) || (s->piece[0] != '$' && s->piece[0] != ':'))
			return 0;
		length = take_number(s, &from);
		if (length < 0)
			return 0;
		at += from;
		if (s->piece[0] == '$')
			at += length + 2;
	}
	return at;
}

__noinline int redis_request(struct scratch *s, __u32 strict)
{
	if (!s)
		return STRANGE;

	__u32 from = 1, end, after;
	int arguments, length;

	if (s->bytes.head[0] != '*') {
		if (strict || !is_letter(s->bytes.head[0]))
			return STRANGE;
		take_verb(s, 0);	// a command in a line of its own
		s->text_at = 0;
		return ASKED;
	}
	__builtin_memcpy(s->piece, s->bytes.head, HEAD_LEN);
	arguments = take_number(s, &from);
	if (arguments <= 0 || s->bytes.head[from & (HEAD_LEN - 1)] != '$')
		return STRANGE;
	after = from;
	end = redis_end(s, from, arguments);
	read_piece(s, s->piece, after);
	from = 1;
	length = take_number(s, &from);
	if (length <= 0 || after + from + length > s->bytes.whole)
		return STRANGE;	// or not all of the word has been sent
	if (!is_letter(s->piece[from & (HEAD_LEN - 1)]))
		return STRANGE;
	take_word(s, from);
	if (end && end < s->bytes.whole)
		SET_WORD(s, "PIPELINE");
	return ASKED;
}

static __always_inline void redis_error(struct scratch *s)
{
	__builtin_memcpy(s->piece, s->bytes.head, HEAD_LEN);
	take_word(s, 1);
}

// What RESP 3 tells unasked, a message or that something has changed, is no answer; that a subscription is made is one.
static __always_inline int redis_push(struct scratch *s)
{
	__u32 from = 1, end;
	__u8 first, second;
	int length;

	__builtin_memcpy(s->piece, s->bytes.head, HEAD_LEN);
	length = take_number(s, &from);
	if (length <= 0)
		return MORE;
	end = redis_end(s, from, length);
	read_piece(s, s->piece, from);
	from = 1;
	if (take_number(s, &from) <= 0)
		return MORE;
	first = s->piece[from & (HEAD_LEN - 1)];
	second = s->piece[(from + 1) & (HEAD_LEN - 1)];
	if (first == 's' || first == 'u' || (first == 'p' && (second == 's' || second == 'u')))
		return end == s->bytes.whole ? WHOLE : MORE;
	return end == s->bytes.whole ? UNASKED : MORE;
}

// *rest* becomes how many bytes are still to come.
__noinline int redis_answer(struct scratch *s, __u32 *rest)
{
	if (!s || !rest)
		return MORE;

	__u32 from = 1, end, whole = s->bytes.whole;
	__u8 first = s->bytes.head[0];
	int length;

	switch (first) {
	case '-':
	case '!':
		redis_error(s);
		return WHOLE;
	case '+':
	case ':':
	case '_':
	case '#':
	case ',':
	case '(':
		return WHOLE;
	case '$':
	case '=':
		if (s->bytes.head[1] == '-')
			return WHOLE;
		__builtin_memcpy(s->piece, s->bytes.head, HEAD_LEN);
		length = take_number(s, &from);
		if (length < 0)
			return MORE;
		if (from + length + 2 <= whole)
			return WHOLE;
		*rest = from + length + 2 - whole;
		return MORE;
	case '*':
	case '~':
		if (s->bytes.head[1] == '-' || s->bytes.head[1] == '0')
			return WHOLE;
		__builtin_memcpy(s->piece, s->bytes.head, HEAD_LEN);
		length = take_number(s, &from);
		if (length < 0)
			return MORE;
		end = redis_end(s, from, length);
		if (!end)
			return MORE;
		*rest = end > whole ? end - whole : 0;
		return *rest ? MORE : WHOLE;
	case '%':
	case '>':
		return redis_push(s);
	case '|':
		return MORE;
	}
	return NOT_AN_ANSWER;
}
