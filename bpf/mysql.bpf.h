/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// MySQL and MariaDB: what is a request, of what kind, and how an answer ends.
#pragma once
#include "said.bpf.h"

enum {
	COM_QUIT = 1,
	COM_INIT_DB = 2,
	COM_QUERY = 3,
	COM_PING = 14,
	COM_STMT_PREPARE = 22,
	COM_STMT_EXECUTE = 23,
	COM_STMT_SEND_LONG_DATA = 24,
	COM_STMT_CLOSE = 25,
	COM_STMT_RESET = 26,
	COM_STMT_FETCH = 28,
	COM_RESET_CONNECTION = 31,
	MORE_RESULTS = 8,
};

static __always_inline __u32 mysql_length(const __u8 *head)
{
	return head[0] | head[1] << 8 | (__u32)head[2] << 16;
}

__noinline int mysql_request(struct scratch *s, __u32 strict)
{
	if (!s)
		return STRANGE;

	__u32 length = mysql_length(s->bytes.head);
	__u8 command = s->bytes.head[4];

	if (s->bytes.whole < 5 || !length)
		return STRANGE;
	if (strict && (length + 4 != s->bytes.whole || s->bytes.head[3] ||
		       (command != COM_QUERY && command != COM_STMT_PREPARE) || !is_letter(s->bytes.head[5])))
		return STRANGE;
	if (s->bytes.head[3]) {	// goes on with a packet, or with the handshake
		SET_WORD(s, "CONNECT");
		return s->bytes.head[3] == 1 ? CONNECTS : NOTHING;
	}
	switch (command) {
	case COM_QUERY:
		// a client of MySQL 8 that knows query attributes says how many there are: none, in one set
		take_verb(s, s->bytes.head[5] == 0 && s->bytes.head[6] == 1 ? 7 : 5);
		return ASKED;
	case COM_STMT_PREPARE:
		take_verb(s, 5);
		SET_WORD(s, "PREPARE");
		return ASKED;
	case COM_STMT_EXECUTE:
		SET_WORD(s, "EXECUTE");
		return ASKED;
	case COM_INIT_DB:
		SET_WORD(s, "USE");
		return ASKED;
	case COM_PING:
		SET_WORD(s, "PING");
		return ASKED;
	case COM_STMT_FETCH:
		SET_WORD(s, "FETCH");
		return ASKED;
	case COM_STMT_RESET:
	case COM_RESET_CONNECTION:
		SET_WORD(s, "RESET");
		return ASKED;
	case COM_QUIT:
	case COM_STMT_CLOSE:
	case COM_STMT_SEND_LONG_DATA:
		return NOTHING;
	}
	SET_WORD(s, "-");
	return command < 34 ? ASKED : STRANGE;
}

static __always_inline void mysql_error(struct scratch *s)
{
	__u32 number = s->bytes.head[5] | s->bytes.head[6] << 8, power = 10000, length = 0;

	__builtin_memset(&s->word, 0, sizeof(s->word));
	for (int i = 0; i < 5; i++, power /= 10) {
		if (!length && number < power)
			continue;
		s->word.text[length++ & (DB_NAME_LEN - 1)] = '0' + number / power % 10;
	}
}

// Does what was received end in an EOF packet, or in an OK packet that stands for one, and nothing follows?
static __always_inline bool mysql_ends(struct scratch *s)
{
	__u8 tail[11];

	if (!read_bytes(&s->bytes, tail, sizeof(tail), s->bytes.whole - sizeof(tail)))
		return false;
	if (mysql_length(tail + 2) == 5 && tail[6] == 0xfe)
		return !(tail[9] & MORE_RESULTS);
	return mysql_length(tail) == 7 && tail[4] == 0xfe && !(tail[7] & MORE_RESULTS);
}

// A server begins: protocol 10, and its version.
static __always_inline bool is_mysql_greeting(struct scratch *s)
{
	if (s->bytes.whole <= 20 || mysql_length(s->bytes.head) + 4 != s->bytes.whole)
		return false;
	return !s->bytes.head[3] && s->bytes.head[4] == 10 && is_digit(s->bytes.head[5]);
}

__noinline int mysql_answer(struct scratch *s, __u32 connecting)
{
	if (!s)
		return MORE;

	__u32 length = mysql_length(s->bytes.head);
	__u8 first = s->bytes.head[4];

	if (s->bytes.whole < 5)
		return s->bytes.whole == 4 ? MORE : NOT_AN_ANSWER;	// a client that reads the header alone
	if (!length)
		return connecting ? WHOLE : NOT_AN_ANSWER;	// an OK whose header was read alone
	if (first == 0xff && (connecting || s->bytes.head[3])) {
		mysql_error(s);
		return WHOLE;
	}
	if (!s->bytes.head[3])
		return connecting && is_mysql_greeting(s) ? MORE : NOT_AN_ANSWER;
	if (!first && length + 4 == s->bytes.whole)
		return WHOLE;
	return !connecting && mysql_ends(s) ? WHOLE : MORE;
}
