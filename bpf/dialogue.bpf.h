/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// A call is a round trip: from the first bytes sent to the last byte of the answer.
//
// A connection is met when a traced task first sends something on it that is a request, by its
// bytes or by the port it goes to; so one that is older than the trace is met too. What is
// met and is none is a stranger, and is soon left alone. An answer is over when it says so itself
// (ReadyForQuery, an OK packet, a length), else with the next request, or when nothing has come
// for a while (settle_idle).
#pragma once
#include "protocols.bpf.h"
#include "roundtrip.bpf.h"

enum { MAX_STRANGERS = 8192, MAX_TRIES = 8, MAX_PORTS = 64, REPEATED_LEN = 32 };

struct stranger {
	__u64 inode;
	__u64 tries;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_STRANGERS);
	__type(key, __u64);
	__type(value, struct stranger);
} strangers SEC(".maps");

struct {			// where a database is, by its bytes or its port: who refuses a connection says nothing
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PEERS);
	__type(key, __u32);		// small id of the peer
	__type(value, __u8);
} peer_systems SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u16);
	__type(value, __u8);		// enum db_system
} db_ports SEC(".maps");

static __always_inline bool is_pipeline(struct scratch *s)
{
	return s->word.text[0] == 'P' && s->word.text[1] == 'I' && s->word.text[2] == 'P';
}

__noinline int understand(struct scratch *s, __u64 socket, __u32 system, __u32 strict)
{
	if (!s)
		return STRANGE;
	s->text_at = 0;
	if (!strict && is_tls(s)) {
		SET_WORD(s, "-");
		return s->bytes.head[0] == TLS_DATA ? ASKED : NOTHING;
	}
	switch (system) {
	case DB_POSTGRESQL:
		return pg_request(s, socket, strict);
	case DB_MYSQL:
		return mysql_request(s, strict);
	case DB_REDIS:
		return redis_request(s, strict);
	case DB_MONGODB:
		SET_WORD(s, "-");
		return !strict && is_mongo(s) ? ASKED : STRANGE;
	}
	return STRANGE;
}

// Which database is this a request to, by its bytes? The word of it stays in *s*.
static __always_inline __u32 recognise(struct scratch *s, __u64 socket)
{
	if (understand(s, socket, DB_REDIS, 1) > NOTHING)
		return DB_REDIS;
	if (understand(s, socket, DB_POSTGRESQL, 1) > NOTHING)
		return DB_POSTGRESQL;
	if (understand(s, socket, DB_MYSQL, 1) > NOTHING)
		return DB_MYSQL;
	return DB_UNKNOWN;
}

static __always_inline bool is_stranger(struct sock *socket)
{
	__u64 key = (__u64)socket;
	struct stranger *known = bpf_map_lookup_elem(&strangers, &key);

	return known && known->tries >= MAX_TRIES && known->inode == inode_of(socket);
}

// This was no request; after some of those it is left alone.
__noinline int doubt(__u64 socket, __u64 inode, __u32 tries)
{
	struct stranger *known = bpf_map_lookup_elem(&strangers, &socket);
	struct stranger fresh;

	if (known && known->inode == inode) {
		known->tries += tries;
		return 0;
	}
	fresh.inode = inode;
	fresh.tries = tries;
	bpf_map_update_elem(&strangers, &socket, &fresh, BPF_ANY);
	return 0;
}

static __noinline struct connection *new_connection(__u64 socket, struct scratch *s, __u32 system, __u64 inode)
{
	struct connection *fresh = &s->fresh;
	__u32 peer = peer_id(&s->peer);
	__u8 heard = system;

	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->inode = inode;
	fresh->about = system;
	fresh->peer = peer;
	bpf_map_update_elem(&peer_systems, &peer, &heard, BPF_ANY);
	if (bpf_map_update_elem(&connections, &socket, fresh, BPF_NOEXIST)) {
		count_loss(LOSS_CONNECTION);
		return NULL;
	}
	return bpf_map_lookup_elem(&connections, &socket);
}

// What database has been heard there, or is usual at the peer's port? Its bytes may tell otherwise.
static __always_inline __u32 system_at(struct peer *peer)
{
	__u32 *id = bpf_map_lookup_elem(&peer_ids, peer);
	__u8 *known = id ? bpf_map_lookup_elem(&peer_systems, id) : NULL;
	__u16 port = peer->port;

	if (peer->family == AF_UNIX)
		return DB_UNKNOWN;
	if (!known)
		known = bpf_map_lookup_elem(&db_ports, &port);
	return known ? *known : DB_UNKNOWN;
}

static __always_inline struct connection *connection_of(struct sock *socket)
{
	__u64 key = (__u64)socket;
	struct connection *c = bpf_map_lookup_elem(&connections, &key);

	// a Unix socket goes without a word: another one may have its address now
	if (c && c->inode && c->inode != inode_of(socket)) {
		forget(key);
		return NULL;
	}
	return c;
}

// A connection on which something was sent, and is not known yet. *what* becomes what was sent.
static __noinline struct connection *meet(struct sock *socket, struct scratch *s, int *what)
{
	__u64 key = (__u64)socket;
	__u32 expected, system;

	__builtin_memset(&s->peer, 0, sizeof(s->peer));
	if (!find_peer(socket, &s->peer)) {
		doubt(key, inode_of(socket), MAX_TRIES);
		return NULL;
	}
	expected = system_at(&s->peer);
	system = recognise(s, key);
	if (system) {
		*what = system == DB_POSTGRESQL && !s->bytes.head[0] ? CONNECTS : ASKED;
	} else if (expected) {
		system = expected;
		*what = understand(s, key, expected, 0);
	}
	if (!system || *what == STRANGE) {
		doubt(key, inode_of(socket), 1);
		return NULL;
	}
	return new_connection(key, s, system, s->peer.family == AF_UNIX ? inode_of(socket) : 0);
}

// --- What is sent and received ----------------------------------------------------------------

// Remember a request by its size and how it begins, if that tells its operation.
static __always_inline void remember(struct connection *c, struct scratch *s)
{
	__u32 at = s->text_at;
	bool tells = !at || (at < REPEATED_LEN / 2 && is_letter(s->bytes.head[at & (HEAD_LEN - 1)]));

	c->asked = c->about & DB_TLS ? s->bytes.whole : 0;
	if (config.db_text || !tells || c->phase != PHASE_OPEN || c->about & DB_TLS || s->bytes.head[0] == 'B')
		return;
	__builtin_memcpy(c->begun, s->bytes.head, PARTIAL_LEN);
	c->asked = s->bytes.whole;
}

static __always_inline bool is_repeated(struct connection *c, struct scratch *s)
{
	__u64 *now = (__u64 *)s->bytes.head, *then = (__u64 *)c->begun;

	if (c->asked != s->bytes.whole || c->phase != PHASE_OPEN || c->about & DB_TLS)
		return false;
	return now[0] == then[0] && now[1] == then[1] && now[2] == then[2] && now[3] == then[3];
}

// Too little was sent to tell what it is: keep it until there is more.
static __always_inline void keep_partial(struct connection *c, struct scratch *s)
{
	__builtin_memcpy(c->begun, s->bytes.head, PARTIAL_LEN);
	c->partial = s->bytes.staged < PARTIAL_LEN ? s->bytes.staged : 0;
	c->asked = 0;
}

static __always_inline bool may_begin(struct connection *c, struct scratch *s)
{
	__u8 first = s->bytes.head[0];

	if (s->bytes.whole >= PARTIAL_LEN)
		return false;
	if (c->about == DB_POSTGRESQL)
		return is_in(first, PG_REQUESTS & ~PG_SILENT);
	return c->about == DB_REDIS ? first == '*' : c->about == DB_MYSQL;
}

// The beginning of a request that came in pieces, put together. Still STRANGE if that does not tell either.
__noinline int complete(__u64 socket, struct connection *c)
{
	struct scratch *s = get_scratch(OF_TASKS);
	__u32 had, added;
	int what;

	if (!c || !s)
		return STRANGE;
	had = c->partial;
	added = s->bytes.staged;
	asm volatile("" : "+r"(had), "+r"(added));
	if (!added || added > HEAD_LEN || had > PARTIAL_LEN)
		return STRANGE;
	__builtin_memcpy(s->tail, c->begun, PARTIAL_LEN);
	if (bpf_probe_read_kernel(s->tail + had, added, s->bytes.head))
		return STRANGE;
	__builtin_memcpy(s->bytes.head, s->tail, HEAD_LEN + PARTIAL_LEN);
	s->bytes.at = 0;
	s->bytes.staged = had + added;
	s->bytes.whole += had;
	what = understand(s, socket, c->about & DB_SYSTEM, 0);
	if (what == STRANGE) {
		keep_partial(c, s);
		return STRANGE;
	}
	c->operation = db_name_id(&s->word);
	c->partial = 0;
	return NOTHING;
}

static __always_inline void sent_more(__u64 socket, struct connection *c, struct scratch *s, struct task_state *state,
				      int what)
{
	bool connecting = c->phase == PHASE_CONNECTING;

	if (connecting || what != ASKED)
		return;		// credentials, rows to copy, the rest of a long request
	if (c->last_ns) {	// all of that was answered, as far as it can be told
		settle(socket, c, s);
		c->phase = PHASE_OPEN;
		begin(socket, c, s, state, db_name_id(&s->word));
		remember(c, s);
		return;
	}
	c->phase = PHASE_PIPELINE;
	SET_WORD(s, "PIPELINE");
	c->operation = db_name_id(&s->word);
}

// Is this not what --db-port, or the usual port, says? Whoever speaks PostgreSQL begins with a startup.
static __always_inline bool is_another(struct connection *c, struct scratch *s, int what)
{
	return c->about == DB_POSTGRESQL && c->phase == PHASE_CONNECTING && c->start_ns && !c->last_ns &&
	       what == STRANGE && !is_tls(s);
}

__noinline int sent(__u64 key, struct task_state *state, int length)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = get_scratch(OF_TASKS);
	struct sock *socket = (struct sock *)key;
	struct connection *c;
	int what = STRANGE;

	if (!s || !state)
		return 0;
	c = connection_of(socket);
	if (length <= 0) {
		if (c && (length == -EPIPE || length == -ECONNRESET)) {
			SET_WORD(s, "reset");
			fail(c, s);
		}
		return 0;
	}
	if (!c && is_stranger(socket))
		return 0;
	find_bytes(task, length, &s->bytes);
	if (c && !c->start_ns && is_repeated(c, s))
		return begin(key, c, s, state, c->operation);
	if (!c)
		c = meet(socket, s, &what);
	else
		what = understand(s, key, c->about & DB_SYSTEM, c->start_ns && !(c->about & DB_TLS));
	if (c && is_another(c, s, what)) {
		forget(key);
		c = meet(socket, s, &what);
	}
	if (!c)
		return 0;
	if (is_tls(s) && (s->bytes.head[0] == TLS_HANDSHAKE || s->bytes.head[0] == TLS_DATA) && !(c->about & DB_TLS)) {
		c->about |= DB_TLS;
		c->start_ns = 0;	// what was under way was to ask for TLS
		c->phase = PHASE_OPEN;
	}
	if (c->start_ns && c->partial && !c->last_ns)
		return complete(key, c);
	if (c->start_ns && c->last_ns && what == STRANGE && c->about == DB_REDIS && may_begin(c, s))
		settle(key, c, s);
	if (c->start_ns) {
		sent_more(key, c, s, state, what);
		return 0;
	}
	if (what == STRANGE && may_begin(c, s)) {
		SET_WORD(s, "-");
		begin(key, c, s, state, db_name_id(&s->word));
		keep_partial(c, s);
		return 0;
	}
	if (what < ASKED)
		return 0;
	c->phase = what == CONNECTS ? PHASE_CONNECTING : is_pipeline(s) ? PHASE_PIPELINE : PHASE_OPEN;
	begin(key, c, s, state, db_name_id(&s->word));
	remember(c, s);
	return 0;
}

__noinline int read_answer(struct connection *c, struct scratch *s)
{
	__u32 connecting;

	if (!c || !s)
		return MORE;
	connecting = c->phase == PHASE_CONNECTING;
	if (c->about & DB_TLS)
		return is_tls(s) ? MORE : NOT_AN_ANSWER;
	switch (c->about & DB_SYSTEM) {
	case DB_POSTGRESQL:
		return pg_answer(s, connecting);
	case DB_MYSQL:
		return mysql_answer(s, connecting);
	case DB_REDIS: {
		__u32 rest = 0;
		int answer = redis_answer(s, &rest);

		c->rest = rest;
		return answer;
	}
	case DB_MONGODB: {
		__u32 length = little_endian(s->bytes.head);

		if (!is_mongo(s))
			return NOT_AN_ANSWER;
		if (length <= s->bytes.whole)
			return WHOLE;
		c->rest = length - s->bytes.whole;
		return MORE;
	}
	}
	return MORE;
}

// More of an answer, of which something has come before.
static __always_inline int read_more(struct connection *c, struct scratch *s, __u32 length)
{
	int answer;

	if (c->rest) {
		c->rest = c->rest > length ? c->rest - length : 0;
		return c->rest ? MORE : WHOLE;
	}
	if (c->about & DB_TLS)
		return MORE;
	__builtin_memset(&s->word, 0, sizeof(s->word));
	answer = MORE;
	if (c->about == DB_POSTGRESQL)
		answer = pg_more(s);
	else if (c->about == DB_MYSQL && c->phase == PHASE_CONNECTING)
		answer = mysql_answer(s, 1);
	else if (c->about == DB_MYSQL && mysql_ends(s))
		answer = WHOLE;
	if (s->word.text[0])
		c->error = db_name_id(&s->word);
	return answer;
}

// Can the answer be all there is, as nothing more will come? One of PostgreSQL would say so, but for its last words.
static __always_inline bool may_be_whole(struct connection *c)
{
	if (!c->last_ns || c->rest)
		return false;
	return c->about != DB_POSTGRESQL || c->error;
}

// Something came in on a socket that is not known: does a server greet? What else it is will be seen when we send.
__noinline int hear(__u64 key)
{
	struct scratch *s = get_scratch(OF_TASKS);
	struct sock *socket = (struct sock *)key;

	if (!s || !is_mysql_greeting(s))
		return 0;
	__builtin_memset(&s->peer, 0, sizeof(s->peer));
	if (find_peer(socket, &s->peer))
		new_connection(key, s, DB_MYSQL, s->peer.family == AF_UNIX ? inode_of(socket) : 0);
	return 0;
}

__noinline int received(__u64 key, struct task_state *state, int length)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *s = get_scratch(OF_TASKS);
	struct sock *socket = (struct sock *)key;
	struct connection *c;
	int answer;

	if (!s || !state || length == -EAGAIN)
		return 0;
	c = connection_of(socket);
	if (!c && (length <= 0 || is_stranger(socket)))
		return 0;
	if (c && !c->start_ns)
		return 0;	// nothing was asked: a notification
	if (c && length <= 0) {
		if (may_be_whole(c)) {
			settle(key, c, s);
			return 0;
		}
		if (length == 0)
			SET_WORD(s, "closed");
		else if (length == -ECONNRESET)
			SET_WORD(s, "reset");
		else if (length == -ETIMEDOUT)
			SET_WORD(s, "timeout");
		else
			return 0;
		fail(c, s);
		return 0;
	}
	find_bytes(task, length, &s->bytes);
	if (!c)
		return hear(key);
	if (!c->last_ns) {
		__builtin_memset(&s->word, 0, sizeof(s->word));
		answer = s->bytes.staged ? read_answer(c, s) : MORE;
		if (answer == UNASKED)
			return 0;
		begin_answer(c, task, state);
		c->error = db_name_id(&s->word);
	} else {
		answer = s->bytes.staged ? read_more(c, s, length) : MORE;
	}
	if (answer == NOT_AN_ANSWER) {
		__u32 id = c->peer;

		bpf_map_delete_elem(&peer_systems, &id);
		forget(key);
		doubt(key, inode_of(socket), MAX_TRIES);
		return 0;
	}
	if (answer == TO_TLS) {
		c->about |= DB_TLS;
		c->start_ns = 0;
		c->phase = PHASE_OPEN;
		return 0;
	}
	c->last_ns = bpf_ktime_get_ns();
	if (answer == WHOLE && c->phase != PHASE_PIPELINE) {
		settle(key, c, s);
		c->phase = PHASE_OPEN;
	}
	return 0;
}
