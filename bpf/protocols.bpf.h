/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// What clients ask of databases and how these answer, from the first bytes of each: whether it is a
// request at all, of what kind (a word such as SELECT or GET), whether the answer is an error, and
// whether it is whole. Everything here comes from a traced process or from somebody who talks to
// it: nothing is believed beyond a name in a table of bounded size.
#pragma once
#include "dbrows.bpf.h"
#include "sockets.bpf.h"

enum { HEAD_LEN = 64, MAX_MESSAGES = 8, MAX_ARGUMENTS = 8, MAX_PREPARED = 4096 };

enum request {
	STRANGE,		// not of this protocol
	NOTHING,		// goes on with what was asked, or wants no answer
	ASKED,
	CONNECTS,
};

enum answer { NOT_AN_ANSWER, MORE, WHOLE, TO_TLS };

// Of one CPU, for programs in the calls of tasks, in the stack of TCP, which interrupts these, and for the collector's.
enum scratch_of { OF_TASKS, OF_STATES, OF_COLLECTOR, SCRATCHES };

struct scratch {
	__u64 socket;
	struct bytes bytes;
	__u8 head[HEAD_LEN];	// of bytes
	__u8 piece[HEAD_LEN];	// of what lies further on
	union db_name word;	// of the request: its operation; of the answer: its error
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

static __always_inline __u32 big_endian(const __u8 *bytes)
{
	return (__u32)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
}

static __always_inline __u32 little_endian(const __u8 *bytes)
{
	return (__u32)bytes[3] << 24 | bytes[2] << 16 | bytes[1] << 8 | bytes[0];
}

static __always_inline bool is_letter(__u8 byte)
{
	return (__u8)((byte | 0x20) - 'a') < 26;
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
	__u32 length = s->bytes.length;

	__builtin_memset(to, 0, HEAD_LEN);
	if (!s->bytes.at || at >= length)
		return false;
	length -= at;
	if (length > HEAD_LEN)
		length = HEAD_LEN;
	asm volatile("" : "+r"(length));
	if (length == 0 || length > HEAD_LEN)	// the verifier must see the bounds on the value that is used
		return false;
	return !bpf_probe_read_user(to, length, (void *)(s->bytes.at + at));
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

// The verb of the SQL at *at*.
static __always_inline void take_verb(struct scratch *s, __u32 at)
{
	s->text_at = at;
	read_piece(s, s->piece, at);
	take_word(s, 0);
}

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

// --- PostgreSQL -------------------------------------------------------------------------------

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
	__u32 length = big_endian(s->head), code = big_endian(s->head + 4);

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
	if (!s)
		return -1;

	__u32 at = 0, executed = 0;

	for (int i = 0; i < MAX_MESSAGES; i++) {
		__u8 head[5];

		if (at + sizeof(head) > s->bytes.length || at + sizeof(head) < at)
			break;
		if (bpf_probe_read_user(head, sizeof(head), (void *)(s->bytes.at + at)))
			return -1;
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

	__u8 first = s->head[0];
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
	__u32 length = s->bytes.length;
	__u8 tail[6];

	if (length != s->bytes.whole || length < sizeof(tail))
		return false;
	if (bpf_probe_read_user(tail, sizeof(tail), (void *)(s->bytes.at + length - sizeof(tail))))
		return false;
	return tail[0] == 'Z' && big_endian(tail + 1) == 5 && (tail[5] == 'I' || tail[5] == 'T' || tail[5] == 'E');
}

__noinline int pg_answer(struct scratch *s, __u32 connecting)
{
	if (!s)
		return MORE;

	__u32 at = 0;

	if (connecting && s->bytes.whole == 1)	// may TLS begin?
		return s->head[0] == 'S' || s->head[0] == 'G' ? TO_TLS : MORE;
	for (int i = 0; i < MAX_MESSAGES; i++) {
		__u8 head[5];

		if (at + sizeof(head) > s->bytes.length || at + sizeof(head) < at)
			break;
		if (bpf_probe_read_user(head, sizeof(head), (void *)(s->bytes.at + at)))
			break;
		if (!is_in(head[0], PG_ANSWERS) && !is_digit(head[0])) {
			if (!i)
				return NOT_AN_ANSWER;
			break;
		}
		if (head[0] == 'E') {
			pg_error(s, at);
			break;
		}
		at += big_endian(head + 1) + 1;
	}
	return pg_is_ready(s) ? WHOLE : MORE;
}

// --- MySQL, MariaDB ---------------------------------------------------------------------------

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

	__u32 length = mysql_length(s->head);
	__u8 command = s->head[4];

	if (s->bytes.whole < 5 || !length)
		return STRANGE;
	if (strict && (length + 4 != s->bytes.whole || s->head[3] ||
		       (command != COM_QUERY && command != COM_STMT_PREPARE) || !is_letter(s->head[5])))
		return STRANGE;
	if (s->head[3]) {	// goes on with a packet, or with the handshake
		SET_WORD(s, "CONNECT");
		return s->head[3] == 1 ? CONNECTS : NOTHING;
	}
	switch (command) {
	case COM_QUERY:
		// a client of MySQL 8 that knows query attributes says how many there are: none, in one set
		take_verb(s, s->head[5] == 0 && s->head[6] == 1 ? 7 : 5);
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
	__u32 number = s->head[5] | s->head[6] << 8, power = 10000, length = 0;

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
	__u32 length = s->bytes.length;
	__u8 tail[11];

	if (length != s->bytes.whole || length < sizeof(tail))
		return false;
	if (bpf_probe_read_user(tail, sizeof(tail), (void *)(s->bytes.at + length - sizeof(tail))))
		return false;
	if (mysql_length(tail + 2) == 5 && tail[6] == 0xfe)
		return !(tail[9] & MORE_RESULTS);
	return mysql_length(tail) == 7 && tail[4] == 0xfe && !(tail[7] & MORE_RESULTS);
}

__noinline int mysql_answer(struct scratch *s, __u32 connecting)
{
	if (!s)
		return MORE;

	__u32 length = mysql_length(s->head);
	__u8 first = s->head[4];

	if (s->bytes.whole < 5)
		return s->bytes.whole == 4 ? MORE : NOT_AN_ANSWER;	// a client that reads the header alone
	if (!s->head[3] || !length)
		return NOT_AN_ANSWER;
	if (first == 0xff) {
		mysql_error(s);
		return WHOLE;
	}
	if (!first && length + 4 == s->bytes.whole)
		return WHOLE;
	return !connecting && mysql_ends(s) ? WHOLE : MORE;
}

// A server begins: protocol 10, and its version.
static __always_inline bool is_mysql_greeting(struct scratch *s)
{
	return s->bytes.whole > 20 && mysql_length(s->head) + 4 == s->bytes.whole && !s->head[3] && s->head[4] == 10 &&
	       is_digit(s->head[5]);
}

// --- Redis (RESP 2 and 3) ---------------------------------------------------------------------

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

// Where does the command of *arguments* end that begins at *at*? 0: not to be told.
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
		if (!read_piece(s, s->piece, at) || s->piece[0] != '$')
			return 0;
		length = take_number(s, &from);
		if (length < 0)
			return 0;
		at += from + length + 2;
	}
	return at;
}

__noinline int redis_request(struct scratch *s, __u32 strict)
{
	if (!s)
		return STRANGE;

	__u32 from = 1, end, after;
	int arguments;

	if (s->head[0] != '*') {
		if (strict || !is_letter(s->head[0]))
			return STRANGE;
		take_verb(s, 0);	// a command in a line of its own
		s->text_at = 0;
		return ASKED;
	}
	__builtin_memcpy(s->piece, s->head, HEAD_LEN);
	arguments = take_number(s, &from);
	if (arguments <= 0 || s->head[from & (HEAD_LEN - 1)] != '$')
		return STRANGE;
	after = from;
	end = redis_end(s, from, arguments);
	read_piece(s, s->piece, after);
	from = 1;
	if (take_number(s, &from) <= 0)
		return STRANGE;
	if (!is_letter(s->piece[from & (HEAD_LEN - 1)]))
		return STRANGE;
	take_word(s, from);
	if (end && end < s->bytes.whole)
		SET_WORD(s, "PIPELINE");
	return ASKED;
}

static __always_inline void redis_error(struct scratch *s)
{
	__builtin_memcpy(s->piece, s->head, HEAD_LEN);
	take_word(s, 1);
}

// *rest* becomes how many bytes are still to come.
__noinline int redis_answer(struct scratch *s, __u32 *rest)
{
	if (!s || !rest)
		return MORE;

	__u32 from = 1, whole = s->bytes.whole;
	__u8 first = s->head[0];
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
		if (s->head[1] == '-')
			return WHOLE;
		__builtin_memcpy(s->piece, s->head, HEAD_LEN);
		length = take_number(s, &from);
		if (length < 0)
			return MORE;
		if (from + length + 2 <= whole)
			return WHOLE;
		*rest = from + length + 2 - whole;
		return MORE;
	case '*':
	case '~':
	case '%':
		if (s->head[1] == '-' || s->head[1] == '0')
			return WHOLE;
		return MORE;
	case '>':
	case '|':
		return MORE;
	}
	return NOT_AN_ANSWER;
}

// --- MongoDB ----------------------------------------------------------------------------------

enum { MONGO_QUERY = 2004, MONGO_COMPRESSED = 2012, MONGO_MESSAGE = 2013, MONGO_REPLY = 1 };

static __always_inline bool is_mongo(struct scratch *s)
{
	__u32 code = little_endian(s->head + 12);

	return s->bytes.length >= 16 && little_endian(s->head) >= 16 &&
	       (code == MONGO_QUERY || code == MONGO_COMPRESSED || code == MONGO_MESSAGE || code == MONGO_REPLY);
}

// --- TLS --------------------------------------------------------------------------------------

enum { TLS_FIRST = 0x14, TLS_HANDSHAKE = 0x16, TLS_DATA = 0x17 };

static __always_inline bool is_tls(struct scratch *s)
{
	return s->head[0] >= TLS_FIRST && s->head[0] <= TLS_DATA && s->head[1] == 3;
}
