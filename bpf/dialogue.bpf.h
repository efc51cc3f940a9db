/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// A call is a round trip: from the first bytes sent to the last byte of the answer.
//
// A connection is met when a traced task first sends something on it that is a request, by its
// bytes or by the port it goes to; so one that is older than the trace is met too. What is
// met and is none is a stranger, and is soon left alone. An answer is over when it says so itself
// (ReadyForQuery, an OK packet, a length), else with the next request, or when nothing has come
// for a while (settle_idle).
#pragma once
#include "parts.bpf.h"
#include "protocols.bpf.h"

enum { MAX_STRANGERS = 8192, MAX_TRIES = 8, MAX_PORTS = 64, DB_TEXT_RING_BYTES = 1 << 20 };
enum phase { PHASE_OPEN, PHASE_CONNECTING, PHASE_PIPELINE };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__type(key, __u64);		// address of the struct sock
	__type(value, struct connection);
} connections SEC(".maps");

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

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u16);
	__type(value, __u8);		// enum db_system
} db_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, DB_TEXT_RING_BYTES);
} db_texts SEC(".maps");

static __always_inline struct scratch *get_scratch(enum scratch_of whose)
{
	__u32 at = whose;

	return bpf_map_lookup_elem(&scratches, &at);
}

static __always_inline struct key key_of(struct connection *c, __u32 operation)
{
	return call_key(c->role, c->peer, operation, c->about, c->span);
}

static __always_inline void count_connections(int by)
{
	struct shared *all = get_shared();

	if (all)
		__sync_fetch_and_add(&all->connections, by);
}

static __always_inline void forget(__u64 socket)
{
	if (!bpf_map_delete_elem(&connections, &socket))
		count_connections(-1);
}

// --- A call ends ------------------------------------------------------------------------------

static __always_inline __u64 later(__u64 a, __u64 b)
{
	return a > b ? a : b;
}

// The calling thread has received an answer that *span* waited for. What it saw of that as network and poll, and if
// the span was suspended the time itself, is time of the database. *state* is NULL if another thread has asked.
__noinline int attribute(struct connection *c, struct span_key *span, struct task_state *state)
{
	struct open_span *open;
	struct open_key key;

	if (!c || !span || !span->start_ns)
		return 0;
	key.span = *span;
	key.tgid = c->pid_tgid >> 32;
	open = bpf_map_lookup_elem(&open_spans, &key);
	if (!open) {	// no switch has met it yet: it asked, and went on to await
		if (!state || span->start_ns < state->spans.since_ns)
			return 0;
		open = new_open_span(&state->spans, &key);
		if (!open)
			return 0;
	}
	if (!open->pid) {
		if (c->ready_ns > c->start_ns)
			open->had.wait_ns[WAIT_DB] += c->ready_ns - c->start_ns;
		return 0;
	}
	if (!state || open->pid != (__u32)c->pid_tgid)
		return 0;

	// sums only grow: what is taken from one here and given to another shows when they are compared
	struct span_sums *now = &state->spans.sums, *base = &open->base;
	__u64 polled = later(base->wait_ns[R_POLL], c->polled_ns), waited = later(base->wait_ns[R_NETWORK], c->waited_ns);

	polled = now->wait_ns[R_POLL] - polled;
	waited = now->wait_ns[R_NETWORK] - waited;
	base->wait_ns[R_POLL] += polled;
	base->wait_ns[R_NETWORK] += waited;
	base->wait_ns[WAIT_DB] -= polled + waited;
	return 0;
}

// The calling thread receives the first bytes of an answer.
static __always_inline void begin_answer(struct connection *c, struct task_struct *task, struct task_state *state)
{
	bool mine = c->pid_tgid == pid_tgid_of(task);

	if (!c->ready_ns)	// no hook told: when was this thread woken?
		c->ready_ns = mine && state->waking_ns > c->start_ns ? state->waking_ns : c->start_ns;
	if (mine)
		c->delay_ns = run_delay_of(task) - c->delay_ns;	// during the call
	else
		c->delay_ns = 0;
	if (c->span == SPAN_NONE)
		return;
	for (int i = 0; i < DB_SPANS; i++) {
		struct span_key span = { .node = c->spans[i].node, .start_ns = c->spans[i].start_ns };

		attribute(c, &span, mine && state->probed ? state : NULL);
	}
}

static __always_inline void add_call_parts(struct connection *c, __u64 start, __u64 latency)
{
	__u32 bucket = clamped_slot_of(latency) >> PROBE_BUCKET_SHIFT;
	struct key key = key_of(c, bucket);
	__u64 server = c->ready_ns > start ? c->ready_ns - start : 0, client;
	struct parts *parts;
	__u32 at;

	key.kind = P_DB;
	key.err = c->operation;
	at = shard_of(row_of(&key));
	parts = bpf_map_lookup_elem(&parts_of_spans, &at);
	if (!parts)
		return;
	if (server > latency)
		server = latency;
	client = latency - server;
	bump(&parts->count, 1);
	bump(&parts->latency_ns, latency);
	bump(&parts->sums.wait_ns[WAIT_DB], server);
	bump(&parts->sums.wait_ns[WAIT_RUNQ], c->delay_ns < client ? c->delay_ns : client);
}

static __always_inline void tell_text(struct connection *c, __u64 socket, __u64 start, __u64 latency, struct scratch *s)
{
	struct db_text *text = &s->text;
	__u32 length = 0;

	text->connection = socket;
	text->start_ns = start;
	text->latency_ns = latency;
	text->role = c->role;
	text->peer = c->peer;
	text->operation = c->operation;
	text->span = c->span;
	text->about = c->about;
	if (!latency && s->text_at && s->text_at < s->bytes.length) {
		length = s->bytes.length - s->text_at;
		if (length > DB_TEXT_LEN)
			length = DB_TEXT_LEN;
		asm volatile("" : "+r"(length));
		if (!length || length > DB_TEXT_LEN ||
		    bpf_probe_read_user(text->text, length, (void *)(s->bytes.at + s->text_at)))
			length = 0;
	}
	text->length = length;
	if (bpf_ringbuf_output(&db_texts, text, sizeof(*text), BPF_RB_NO_WAKEUP))
		count_loss(LOSS_RING);
}

// The answer is whole. Whoever takes the start of a call away ends it.
__noinline int settle(__u64 socket, struct connection *c, struct scratch *s)
{
	if (!c || !s)
		return 0;

	__u64 start = __sync_lock_test_and_set(&c->start_ns, 0);

	if (!start)
		return 0;

	__u64 latency = c->last_ns > start ? c->last_ns - start : 0;
	struct key key = key_of(c, c->operation);

	record_call(&key, latency);
	if (c->error)
		record_error(&key, c->error);
	add_call_parts(c, start, latency);
	if (config.db_text)
		tell_text(c, socket, start, latency ? latency : 1, s);
	return 0;
}

// The call got no answer, for the reason in s->word.
__noinline int fail(struct connection *c, struct scratch *s)
{
	if (!c || !s || !__sync_lock_test_and_set(&c->start_ns, 0))
		return 0;

	struct key key = key_of(c, c->operation);

	record_error(&key, db_name_id(&s->word));
	return 0;
}

// --- A call begins ----------------------------------------------------------------------------

__noinline int begin(__u64 socket, struct connection *c, struct scratch *s, struct task_state *state)
{
	struct task_struct *task = bpf_get_current_task_btf();
	if (!c || !s || !state)
		return 0;
	c->span = SPAN_NONE;
	if (has_spans(task, state)) {
		c->span = current_spans(state, task->thread.fsbase, &s->path);
		__builtin_memcpy(c->spans, &s->path, sizeof(c->spans));
	}
	c->role = state->role;
	c->pid_tgid = pid_tgid_of(task);
	c->delay_ns = run_delay_of(task);
	c->polled_ns = state->spans.sums.wait_ns[R_POLL];
	c->waited_ns = state->spans.sums.wait_ns[R_NETWORK];
	c->operation = db_name_id(&s->word);
	c->error = 0;
	c->requests = 1;
	c->rest = 0;
	c->ready_ns = 0;
	c->last_ns = 0;
	c->start_ns = bpf_ktime_get_ns();
	if (config.db_text)
		tell_text(c, socket, c->start_ns, 0, s);
	return 0;
}

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
		return s->head[0] == TLS_DATA ? ASKED : NOTHING;
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

	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->inode = inode;
	fresh->about = system;
	fresh->peer = peer_id(&s->peer);
	if (bpf_map_update_elem(&connections, &socket, fresh, BPF_NOEXIST)) {
		count_loss(LOSS_CONNECTION);
		return NULL;
	}
	count_connections(1);
	return bpf_map_lookup_elem(&connections, &socket);
}

// What database listens at the peer's port? Its bytes may tell otherwise.
static __always_inline __u32 system_at(struct peer *peer)
{
	__u16 port = peer->port;
	__u8 *known = peer->family == AF_UNIX ? NULL : bpf_map_lookup_elem(&db_ports, &port);

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
		*what = system == DB_POSTGRESQL && !s->head[0] ? CONNECTS : ASKED;
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

static __always_inline void sent_more(__u64 socket, struct connection *c, struct scratch *s, struct task_state *state,
				      int what)
{
	bool connecting = c->phase == PHASE_CONNECTING;

	if (connecting || what != ASKED)
		return;		// credentials, rows to copy, the rest of a long request
	if (c->last_ns) {	// all of that was answered, as far as it can be told
		settle(socket, c, s);
		c->phase = PHASE_OPEN;
		begin(socket, c, s, state);
		return;
	}
	c->requests++;
	c->phase = PHASE_PIPELINE;
	SET_WORD(s, "PIPELINE");
	c->operation = db_name_id(&s->word);
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
	read_piece(s, s->head, 0);
	if (!c)
		c = meet(socket, s, &what);
	else
		what = understand(s, key, c->about & DB_SYSTEM, c->start_ns && !(c->about & DB_TLS));
	if (!c)
		return 0;
	if (is_tls(s) && (s->head[0] == TLS_HANDSHAKE || s->head[0] == TLS_DATA) && !(c->about & DB_TLS)) {
		c->about |= DB_TLS;
		c->start_ns = 0;	// what was under way was to ask for TLS
		c->phase = PHASE_OPEN;
	}
	if (c->start_ns) {
		sent_more(key, c, s, state, what);
		return 0;
	}
	if (what < ASKED)
		return 0;
	c->phase = what == CONNECTS ? PHASE_CONNECTING : is_pipeline(s) ? PHASE_PIPELINE : PHASE_OPEN;
	begin(key, c, s, state);
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
		__u32 length = little_endian(s->head);

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
	if (c->rest) {
		c->rest = c->rest > length ? c->rest - length : 0;
		return c->rest ? MORE : WHOLE;
	}
	if (c->about & DB_TLS)
		return MORE;
	switch (c->about & DB_SYSTEM) {
	case DB_POSTGRESQL:
		return pg_is_ready(s) ? WHOLE : MORE;
	case DB_MYSQL:
		return c->phase != PHASE_CONNECTING ? mysql_ends(s) ? WHOLE : MORE : mysql_answer(s, 1);
	}
	return MORE;
}

// Something came in on a socket that is not known: a server greets, or we are the server.
__noinline int hear(__u64 key)
{
	struct scratch *s = get_scratch(OF_TASKS);
	struct sock *socket = (struct sock *)key;

	if (!s)
		return 0;

	if (is_mysql_greeting(s)) {
		__builtin_memset(&s->peer, 0, sizeof(s->peer));
		if (find_peer(socket, &s->peer))
			new_connection(key, s, DB_MYSQL, s->peer.family == AF_UNIX ? inode_of(socket) : 0);
	} else if (s->head[0] == '*' && is_digit(s->head[1])) {
		doubt(key, inode_of(socket), MAX_TRIES);	// answers of Redis may look like requests, others do not
	}
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
		if (c->last_ns && !c->rest) {
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
	read_piece(s, s->head, 0);
	if (!c)
		return hear(key);
	if (!c->last_ns) {
		begin_answer(c, task, state);
		__builtin_memset(&s->word, 0, sizeof(s->word));
		answer = s->bytes.at ? read_answer(c, s) : MORE;
		c->error = db_name_id(&s->word);
	} else {
		answer = s->bytes.at ? read_more(c, s, length) : MORE;
	}
	if (answer == NOT_AN_ANSWER) {
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
