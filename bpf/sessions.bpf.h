/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// How connections to databases begin and end, and calls whose end nothing tells.
#pragma once
#include "dialogue.bpf.h"

enum { GOODBYE_LEN = 5 + 29 };

// The address of a socket, as a number: functions that are verified by themselves take no kernel pointers.
static __always_inline __u64 address_of(struct scratch *s, struct sock *socket)
{
	volatile __u64 *place = &s->socket;

	*place = (__u64)socket;
	return *place;
}

static __always_inline void begin_connecting(struct sock *socket, __u64 key, struct scratch *s)
{
	struct task_state *state = state_of(bpf_get_current_task_btf());
	struct connection *c;
	__u32 system;

	if (!state)
		return;
	__builtin_memset(&s->peer, 0, sizeof(s->peer));
	if (!find_peer(socket, &s->peer))
		return;
	system = system_at(&s->peer);
	if (!system)
		return;
	forget(key);
	c = new_connection(key, s, system, 0);
	if (!c)
		return;
	s->bytes.at = 0;
	s->text_at = 0;
	SET_WORD(s, "CONNECT");
	c->phase = PHASE_CONNECTING;
	begin(key, c, s, state, db_name_id(&s->word));
}

// Why was there no answer? By the error that the socket has, and who hung up.
static __always_inline void name_end(struct scratch *s, int error, int state)
{
	if (error == ECONNREFUSED)
		SET_WORD(s, "refused");
	else if (error == ECONNRESET && state != TCP_SYN_SENT)
		SET_WORD(s, "reset");
	else if (error == ETIMEDOUT)
		SET_WORD(s, "timeout");
	else
		SET_WORD(s, "dropped");
}

// Through TLS the last words cannot be told from a request. They are short, want no answer, and have none when the
// connection ends: five bytes for PostgreSQL and MySQL, in a record that adds at most 29.
static __always_inline bool is_goodbye(struct connection *c)
{
	return c->about & DB_TLS && !c->last_ns && c->asked && c->asked <= GOODBYE_LEN;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *socket, int before, int after)
{
	struct scratch *s = get_scratch(OF_STATES);
	struct connection *c;
	__u64 key;

	if (!s)
		return 0;
	key = address_of(s, socket);
	if (is_shed(TIER_DB)) {	// but that it is another connection from now on
		if (after == TCP_SYN_SENT || after == TCP_CLOSE)
			forget(key);
		return 0;
	}
	if (after == TCP_SYN_SENT) {
		begin_connecting(socket, key, s);
		return 0;
	}
	c = bpf_map_lookup_elem(&connections, &key);
	if (!c)
		return 0;
	if (before == TCP_SYN_SENT && after == TCP_ESTABLISHED) {
		__u32 system = c->about & DB_SYSTEM;

		c->ready_ns = bpf_ktime_get_ns();
		if (system == DB_POSTGRESQL || system == DB_MYSQL)
			return 0;	// that is not all of it
		c->last_ns = c->ready_ns;
		c->delay_ns = 0;
		settle(key, c, s);
		c->phase = PHASE_OPEN;
	} else if (after == TCP_FIN_WAIT1 || after == TCP_CLOSE) {
		if (c->last_ns && !c->rest) {	// who hangs up has what it wants
			settle(key, c, s);
		} else if (is_goodbye(c)) {
			c->start_ns = 0;
		} else {
			name_end(s, BPF_CORE_READ(socket, sk_err), before);
			fail(c, s);
		}
		if (after == TCP_CLOSE)
			forget(key);
	}
	return 0;
}

struct settling {
	__u64 before_ns;	// calls whose answer last grew before are over
	struct scratch *s;
};

struct bpf_map;

// A Unix socket is closed without a word.
static __always_inline bool is_gone(__u64 socket, struct connection *c)
{
	return c->inode && inode_of((struct sock *)socket) != c->inode;
}

static long settle_one(struct bpf_map *map, __u64 *socket, struct connection *c, struct settling *how)
{
	bool says_so = c->about == DB_POSTGRESQL || c->phase == PHASE_CONNECTING;
	bool is_answered = c->last_ns && !c->rest, gone = is_gone(*socket, c);

	if (c->start_ns && is_answered && (gone || (c->last_ns < how->before_ns && !says_so))) {
		settle(*socket, c, how->s);
		c->phase = PHASE_OPEN;
	}
	if (gone) {
		SET_WORD(how->s, "dropped");
		fail(c, how->s);
		forget(*socket);
	}
	return 0;
}

// Run by the collector: end the calls whose answer does not say itself where it ends, and those whose socket has gone.
SEC("syscall")
int settle_idle(__u64 *before_ns)
{
	struct settling how = { .before_ns = *before_ns, .s = get_scratch(OF_COLLECTOR) };

	if (how.s)
		bpf_for_each_map_elem(&connections, settle_one, &how, 0);
	return 0;
}

static long forget_call(struct bpf_map *map, __u64 *socket, struct connection *c, void *unused)
{
	c->start_ns = c->ready_ns = c->last_ns = 0;
	c->rest = c->partial = c->asked = 0;
	c->phase = PHASE_OPEN;
	return 0;
}

// Run by the collector where calls are not looked at for a while: nobody knows how those under way go on.
SEC("syscall")
int forget_calls(void *unused)
{
	bpf_for_each_map_elem(&connections, forget_call, NULL, 0);
	return 0;
}
