/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
// Rows for calls of databases, whatever it was that saw them; their peers and words as small numbers.
#pragma once
#include "series.bpf.h"
#include "where.bpf.h"

union db_name {			// of an operation or an error
	char text[DB_NAME_LEN];
	__u64 words[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DB_NAMES);
	__type(key, union db_name);
	__type(value, __u32);
} db_name_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_DB_NAMES);
	__type(key, __u32);
	__type(value, union db_name);
} db_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PEERS);
	__type(key, struct peer);
	__type(value, __u32);
} peer_ids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_PEERS);
	__type(key, __u32);
	__type(value, struct peer);
} peers SEC(".maps");

// In functions that are verified by themselves keys are copied: 6.1 takes none from memory of unknown kind.

// The small id of an operation or an error; 0: there is no room, or it has no name.
__noinline __u32 db_name_id(union db_name *text)
{
	struct shared *all = get_shared();

	if (!all || !text || !text->text[0])
		return 0;

	union db_name name = *text;
	__u32 *known = bpf_map_lookup_elem(&db_name_ids, &name);

	if (known)
		return *known;
	if (all->db_names >= MAX_DB_NAMES) {
		count_loss(LOSS_NAMES);
		return 0;
	}

	__u32 id = __sync_fetch_and_add(&all->db_names, 1);
	union db_name *entry = bpf_map_lookup_elem(&db_names, &id);

	if (!entry)
		return 0;
	*entry = name;
	if (!bpf_map_update_elem(&db_name_ids, &name, &id, BPF_NOEXIST))
		return id;
	known = bpf_map_lookup_elem(&db_name_ids, &name);	// another CPU was faster
	return known ? *known : 0;
}

// The small id of a peer; 0: there is no room.
static __noinline __u32 peer_id(struct peer *peer)
{
	struct shared *all = get_shared();

	if (!all || !peer)
		return 0;

	__u32 *known = bpf_map_lookup_elem(&peer_ids, peer);

	if (known)
		return *known;
	if (all->peers >= MAX_PEERS) {
		count_loss(LOSS_NAMES);
		return 0;
	}

	__u32 id = __sync_fetch_and_add(&all->peers, 1);
	struct peer *entry = bpf_map_lookup_elem(&peers, &id);

	if (!entry)
		return 0;
	*entry = *peer;
	if (!bpf_map_update_elem(&peer_ids, peer, &id, BPF_NOEXIST))
		return id;
	known = bpf_map_lookup_elem(&peer_ids, peer);
	return known ? *known : 0;
}

static __always_inline struct key call_key(__u32 role, __u32 peer, __u32 operation, __u32 about, __u32 span)
{
	struct key key;

	key.role = role;	// one by one: a constant initialiser would be a map of its own
	key.thread = peer;
	key.nr = operation;
	key.err = 0;
	key.kind = H_DB;
	key.reason = about;
	key.span = span;
	return key;
}

// A call of *operation* at *peer* took *latency* ns. *about*: enum db_system, DB_LIBRARY, DB_TLS.
__noinline int record_call(struct key *key, __u64 latency)
{
	if (!key)
		return 0;

	struct key row = *key;

	add_to_histogram(row_of(&row), latency);
	return 0;
}

// A call failed. *key* is that of the call.
__noinline int record_error(struct key *key, __u32 error)
{
	if (!key)
		return 0;

	struct key row = *key;
	struct account *account;

	row.kind = A_DB_ERROR;
	row.err = error;
	account = account_of(row_of(&row));
	if (account)
		bump(&account->count, 1);
	return 0;
}

struct span_path {		// innermost first
	struct span_key spans[DB_SPANS];
};

// Read in which spans the calling thread is, outside of any: all 0. Returns the small id of the innermost one.
__noinline __u32 current_spans(struct task_state *state, __u64 pointer, struct span_path *path)
{
	struct probe_thread thread;
	struct probe_node node;
	__u32 span = SPAN_NONE;
	__u64 at, top;

	if (!state || !path)
		return SPAN_NONE;
	__builtin_memset(path, 0, sizeof(*path));
	if (state->spans.board.mode == PROBE_TABLE)
		return span_in_table(&state->spans.board, pointer);
	if (locate(&state->spans.board, pointer, &at) || read_user(&thread, sizeof(thread), at))
		return SPAN_NONE;
	top = innermost(&thread);
	for (int i = 0; i < DB_SPANS && top; i++) {
		if (read_user(&node, sizeof(node), top))
			break;
		if (!i && !node.start_ns) {	// linked, but it has not begun: what counts is the one around it
			top = node.prev;
			if (!top || read_user(&node, sizeof(node), top))
				break;
		}
		if (!i)
			span = span_id(node.kind);
		path->spans[i].node = top;
		path->spans[i].start_ns = node.start_ns;
		top = node.prev;
	}
	return span;
}
