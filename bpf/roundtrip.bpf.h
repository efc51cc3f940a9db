/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Connections to databases, and the call that is under way on each: where it begins, and what becomes of it when it ends.
#pragma once
#include "parts.bpf.h"
#include "said.bpf.h"

enum { DB_TEXT_RING_BYTES = 1 << 20 };
enum phase { PHASE_OPEN, PHASE_CONNECTING, PHASE_PIPELINE };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__type(key, __u64);		// address of the struct sock
	__type(value, struct connection);
} connections SEC(".maps");

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

static __always_inline void forget(__u64 socket)
{
	bpf_map_delete_elem(&connections, &socket);
}

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
	__u64 room = c->ready_ns > c->start_ns ? c->ready_ns - c->start_ns : 0;

	polled = now->wait_ns[R_POLL] - polled;
	waited = now->wait_ns[R_NETWORK] - waited;
	if (waited > room)	// the thread had waited for something else too, while the answer lay there
		waited = room;
	if (polled > room - waited)
		polled = room - waited;
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

// The rows of a call are those of the last one on its connection, nearly always: looking for them costs 0.1 us.
static __always_inline void find_call_rows(struct connection *c, __u32 bucket)
{
	bool same = c->row_operation == c->operation && c->row_span == c->span && c->row_role == c->role &&
		    c->row_about == c->about;
	struct key key;

	if (!same || !c->row) {
		key = key_of(c, c->operation);
		c->row = row_of(&key);
	}
	if (!same || !c->parts_row || c->row_bucket != bucket) {
		key = key_of(c, bucket);
		key.kind = P_DB;
		key.err = c->operation;
		c->parts_row = row_of(&key);
	}
	c->row_operation = c->operation;
	c->row_span = c->span;
	c->row_role = c->role;
	c->row_about = c->about;
	c->row_bucket = bucket;
}

static __always_inline void add_call(struct connection *c, __u64 start, __u64 latency)
{
	__u64 server = c->ready_ns > start ? c->ready_ns - start : 0, client;
	__u32 slot = clamped_slot_of(latency), at;
	struct parts *parts;

	find_call_rows(c, slot >> PROBE_BUCKET_SHIFT);
	add_to_slot(c->row, latency, slot);
	at = shard_of(c->parts_row);
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
	if (!latency && s->bytes.at && s->text_at && s->text_at < s->bytes.whole) {
		length = s->bytes.whole - s->text_at;
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

	add_call(c, start, latency);
	if (c->error) {
		struct key key = key_of(c, c->operation);

		record_error(&key, c->error);
	}
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

__noinline int begin(__u64 socket, struct connection *c, struct scratch *s, struct task_state *state,
		     __u32 operation)
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
	c->operation = operation;
	c->error = 0;
	c->partial = 0;
	c->rest = 0;
	c->ready_ns = 0;
	c->last_ns = 0;
	c->start_ns = bpf_ktime_get_ns();
	if (config.db_text)
		tell_text(c, socket, c->start_ns, 0, s);
	return 0;
}
