/* SPDX-License-Identifier: Apache-2.0 */
// The recognisers of bpf/, each on each message of standard input: u32 length, then its bytes. A line a message says
// what they make of it: twice, as it lies in the memory of its process, and as its first bytes alone.
#include "protocols.bpf.h"
#include <stdio.h>
#include <stdlib.h>

static void look(struct scratch *s, const __u8 *message, __u32 length, bool whole)
{
	memset(s, 0xee, sizeof(*s));
	memset(s->bytes.head, 0, 2 * HEAD_LEN);
	memset(&s->word, 0, sizeof(s->word));
	memset(kept, 0, sizeof(kept));
	s->bytes.at = whole ? (__u64)message : 0;
	s->bytes.whole = length;
	s->bytes.staged = length < HEAD_LEN ? length : HEAD_LEN;
	memcpy(s->bytes.head, message, s->bytes.staged);
	s->text_at = 0;
}

static void say(struct scratch *s, int what)
{
	printf(" %d:", what);
	for (int i = 0; i < DB_NAME_LEN && s->word.text[i]; i++)
		printf("%02x", (__u8)s->word.text[i]);
}

static void requests(struct scratch *s, const __u8 *message, __u32 length, bool whole)
{
	for (__u32 strict = 0; strict < 2; strict++) {
		look(s, message, length, whole);
		say(s, pg_request(s, 1, strict));
		look(s, message, length, whole);
		say(s, mysql_request(s, strict));
		look(s, message, length, whole);
		say(s, redis_request(s, strict));
	}
	look(s, message, length, whole);
	printf(" %d%d%d", is_mongo(s), is_tls(s), is_mysql_greeting(s));
}

static void answers(struct scratch *s, const __u8 *message, __u32 length, bool whole)
{
	for (__u32 connecting = 0; connecting < 2; connecting++) {
		look(s, message, length, whole);
		say(s, pg_answer(s, connecting));
		look(s, message, length, whole);
		say(s, mysql_answer(s, connecting));
	}
	__u32 rest = 0;

	look(s, message, length, whole);
	say(s, redis_answer(s, &rest));
	look(s, message, length, whole);
	say(s, pg_more(s));
	printf(" %u", rest);
}

int main(void)
{
	struct scratch *s = malloc(sizeof(*s));
	__u32 length;

	while (fread(&length, sizeof(length), 1, stdin) == 1) {
		__u8 *message = malloc(length);	// of its own, so that a byte beyond it is seen

		if (fread(message, 1, length, stdin) != length)
			return 1;
		for (int whole = 1; whole >= 0; whole--) {
			requests(s, message, length, whole);
			printf(" |");
			answers(s, message, length, whole);
			printf(whole ? " ||" : "\n");
		}
		free(message);
	}
	free(s);
	return 0;
}
